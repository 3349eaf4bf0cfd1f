"""Define the settings that every training run has, as a typed recipe.

A recipe is a frozen dataclass whose fields are made with `option`. The same fields are the keys of a YAML file and the
flags of the command line (`recipe_cli`), so the three cannot disagree.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..data.batch_builder import BadVideoPolicy
from ..errors import RunError
from ..publishing.background import HubStrategy
from ..text import check_utf8

if TYPE_CHECKING:
    from ..data.source import AnyData

AUTO = "auto"
"""`--resume` without a value: the newest complete checkpoint of the output folder."""


class RecipeError(RunError):
    """A setting that does not exist or is not allowed; the message says where it comes from and what to write."""


def option(default: Any, help: str, *, group: str = "run", affects_numerics: bool = True) -> Any:
    """Return a field of a recipe.

    Args:
        default: the default value.
        help: text for `--help`.
        group: heading under which `--help` lists it.
        affects_numerics: False for settings that do not change the numbers (where to write, how often to log). They
            are not taken from a checkpoint, and a resumed run may change them freely.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "group": group, "affects_numerics": affects_numerics}
    )


def check_at_least(recipe: Any, minimum: int, *names: str) -> None:
    """Check settings that may be None.

    Raises:
        RecipeError: for a number that is below the minimum, or not finite.
    """
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not minimum <= value < math.inf:
            raise RecipeError(f"{name} is {value}; give a number of {minimum} or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """The settings that all kinds of training share; the recipes of the tasks add their own.

    Attributes:
        task: the name of the task, in the recipe of one task.
        config_names: the settings that are fields of `VideoMAEConfig` too, under the same names.
    """

    task: ClassVar[str | None] = None
    config_names: ClassVar[tuple[str, ...]] = ("num_frames", "image_size")

    dataset: str | tuple[str, ...] = option(
        "motion",
        "motion (generated videos), a folder, a glob, a list (CSV), or a Hub dataset org/name; or several of these, "
        "to mix them",
        group="data",
    )
    dataset_weights: tuple[float, ...] | None = option(
        None, "weights of the datasets of a mix, one for each (default: their numbers of videos)", group="data"
    )
    dataset_strides: tuple[int, ...] | None = option(
        None,
        "frame strides of the datasets of a mix, one for each, if they differ: Something-Something has half as many "
        "frames per second (default: --frame_stride)",
        group="data",
    )
    split: str = option("train", "split of the dataset", group="data")
    video_column: str | None = option(
        None, "column of the videos in Parquet or WebDataset files (default: detected by its type)", group="data"
    )
    label_column: str | None = option(
        None,
        "column of the labels in Parquet or WebDataset files; json.KEY for a key of JSON members (default: detected "
        "by its type, or named label or cls)",
        group="data",
    )
    allow_paths: tuple[str, ...] = option(
        (),
        "hosts, folders and URL prefixes that the rows of a dataset may refer to (default: only its own files)",
        group="data",
        affects_numerics=False,
    )
    cache_dir: str | None = option(
        None,
        "store the shards of a Hub dataset on this disk, in the end all of them: a directory, or `hub` for the cache "
        "of huggingface_hub (default: stream them again in every epoch)",
        group="data",
        affects_numerics=False,
    )
    num_frames: int | None = option(None, "frames of a clip (default: the model's)", group="data")
    frame_stride: int | None = option(
        None,
        "spacing of the frames of a clip, in frames of the video (default: 4, the paper's; 2 for tiny)",
        group="data",
    )
    frame_seconds: float | None = option(
        None,
        "spacing of the frames of a clip in seconds, instead of --frame_stride: for mixed frame rates",
        group="data",
    )
    image_size: int | None = option(None, "height and width of a clip in pixels (default: the model's)", group="data")
    augment: str | None = option(None, "spatial augmentation of the clips (default: the task's)", group="data")
    flip: float = option(0.0, "probability of a horizontal flip of the whole clip", group="data")
    num_workers: int = option(
        1,
        "decoding processes per training process; 0 decodes in the training process",
        group="data",
        affects_numerics=False,
    )
    prefetch: int = option(2, "batches that each worker keeps ready", group="data", affects_numerics=False)
    on_bad_video: BadVideoPolicy = option(
        "replace",
        "an undecodable video is replaced by another one (replace), left out (skip: the batch is smaller, weighs as "
        "much as a full one, and --compile compiles again for its size), or stops the run (raise)",
        group="data",
    )
    max_bad_share: float = option(
        0.1, "fraction of undecodable videos at which the run stops", group="data", affects_numerics=False
    )

    model: str = option(
        "tiny", "preset (tiny small base large huge giant), a local checkpoint or a Hub model org/name", group="model"
    )
    drop_path: float | None = option(None, "stochastic depth of the last layer (default: the model's)", group="model")

    max_steps: int | None = option(None, "optimizer steps; wins over --epochs", group="optimization")
    epochs: float | None = option(None, "passes over the data, where its size is known", group="optimization")
    batch_size: int = option(32, "clips per process and forward pass", group="optimization")
    gradient_accumulation: int = option(1, "forward passes per optimizer step", group="optimization")
    tuned_batch: int | None = option(
        None,
        "clips per step that the settings were made for; far fewer give a warning",
        group="optimization",
        affects_numerics=False,
    )
    base_lr: float | None = option(
        None,
        "learning rate for 256 clips per step, scaled by the batch (default: the paper's, 1.5e-4 to pre-train, 5e-4 "
        "to fine-tune; for tiny 1.2e-2 and 8e-3)",
        group="optimization",
    )
    min_lr: float = option(1e-5, "floor of the cosine for 256 clips per step; scaled too", group="optimization")
    warmup_steps: int | None = option(
        None, "steps of linear warm-up from 0; wins over --warmup_epochs", group="optimization"
    )
    warmup_epochs: float | None = option(
        None, "warm-up in epochs, as a fraction of --epochs (default: 5 %% of the run)", group="optimization"
    )
    weight_decay: float = option(
        0.05, "weight decay of AdamW; not on biases, norms and the mask token", group="optimization"
    )
    betas: tuple[float, float] = option((0.9, 0.95), "betas of AdamW", group="optimization")
    adam_eps: float = option(1e-8, "epsilon of AdamW", group="optimization")
    clip_grad: float | None = option(None, "largest gradient norm (default: no clipping)", group="optimization")
    max_nonfinite: int = option(
        5,
        "number of losses or gradients in a row that are not finite at which the run stops",
        group="optimization",
        affects_numerics=False,
    )

    mixed_precision: Literal["no", "bf16"] | None = option(
        None, "precision of the forward pass (default: that of accelerate launch)", group="speed"
    )
    gradient_checkpointing: bool = option(
        False, "recompute activations: less memory, about a third more time", group="speed"
    )
    compile: bool = option(False, "torch.compile the model", group="speed")

    output_dir: str = option("outputs/run", "output folder of the run", affects_numerics=False)
    overwrite: bool = option(False, "replace an earlier run in --output_dir", affects_numerics=False)
    resume: str | None = option(
        None,
        "what to resume: auto (the newest complete checkpoint of --output_dir), a checkpoint, or org/name of the Hub",
        affects_numerics=False,
    )
    seed: int = option(0, "seed of the weights, the order of the data, the clips and the masks")
    stop_at_step: int | None = option(
        None, "save and stop after this step, like an interruption; --resume continues", affects_numerics=False
    )
    save_every: int | None = option(
        None, "steps between checkpoints (default: a tenth of the run, at most 1000)", affects_numerics=False
    )
    keep_checkpoints: int = option(2, "how many of the last checkpoints are kept", affects_numerics=False)
    log_every: int = option(10, "steps between lines of metrics.jsonl", affects_numerics=False)
    log_samples: bool = option(
        False, "write the sample ids of every step to samples-RANK.jsonl", affects_numerics=False
    )
    report_to: tuple[str, ...] = option(
        (), "trackers: trackio, tensorboard, wandb (each must be installed)", affects_numerics=False
    )
    push_to_hub: bool = option(
        False, "publish the model on the Hub, in the background", group="hub", affects_numerics=False
    )
    hub_model_id: str | None = option(
        None,
        "repository to publish to (default: the name of --output_dir, in your account)",
        group="hub",
        affects_numerics=False,
    )
    hub_strategy: HubStrategy = option(
        "end",
        "when to publish: at the end or when the run is stopped (end), also the model of every save (every_save), or "
        "every save with its state for --resume org/name, on the branch training-state (checkpoint)",
        group="hub",
        affects_numerics=False,
    )
    hub_private: bool = option(False, "make the repository private, if it is new", group="hub", affects_numerics=False)

    def __post_init__(self) -> None:
        check_at_least(self, 1, "batch_size", "gradient_accumulation", "tuned_batch", "max_steps", "stop_at_step")
        check_at_least(self, 1, "num_frames", "frame_stride", "image_size", "prefetch")
        check_at_least(self, 1, "save_every", "keep_checkpoints", "log_every", "max_nonfinite")
        check_at_least(self, 0, "warmup_steps", "warmup_epochs", "min_lr", "weight_decay", "adam_eps")
        check_at_least(self, 0, "num_workers", "seed")
        for name in ("base_lr", "epochs", "clip_grad", "frame_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RecipeError(f"{name} is {value}; give a number above 0")
        self._check_mix()
        self._check_publishing()
        try:
            check_utf8(self.output_dir, name="--output_dir")
            check_utf8(self.model, name="--model")
        except ValueError as error:
            raise RecipeError(str(error)) from None
        self._check_fractions("max_bad_share", "flip")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"betas are {self.betas}, but both must lie in [0, 1); the paper uses 0.9 0.95")
        known = ("trackio", "tensorboard", "wandb")
        for tracker in self.report_to:
            if tracker not in known:
                raise RecipeError(f"report_to names {tracker!r}; choose from {', '.join(known)}")

    def _check_fractions(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise RecipeError(f"{name} is {value}, but it is a fraction; give a number from 0 to 1")

    def _check_mix(self) -> None:
        weights, strides = self.dataset_weights, self.dataset_strides
        count = 1 if isinstance(self.dataset, str) else len(self.dataset)
        if strides is not None and count == 1:
            raise RecipeError("dataset_strides is for a mix, and dataset names one; give frame_stride instead")
        for kind, values in (("weight", weights), ("stride", strides)):
            if values is not None and len(values) != count:
                raise RecipeError(
                    f"dataset_{kind}s has {len(values)} values and dataset {count}; give a {kind} for each dataset"
                )
        if not all(0 < weight < math.inf for weight in weights or ()):
            raise RecipeError(f"dataset_weights are {format_value(weights)}; give numbers above 0")
        if min(strides or (1,)) < 1:
            raise RecipeError(f"dataset_strides are {format_value(strides)}; give whole numbers of 1 or more")
        if strides is not None and self.frame_seconds is not None:
            raise RecipeError("dataset_strides and frame_seconds both set the spacing of frames; give one of them")

    def _check_publishing(self) -> None:
        for name, default in {"hub_model_id": None, "hub_private": False, "hub_strategy": "end"}.items():
            if getattr(self, name) != default and not self.push_to_hub:
                raise RecipeError(f"{name} says how to publish; give --push_to_hub as well, or leave it out")

    def _fill_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Set what was left open; a number of steps only if the epochs were left open too."""
        for name, value in defaults.items():
            if getattr(self, name) is None and not (name == "max_steps" and self.epochs is not None):
                object.__setattr__(self, name, value)

    def config_fields(self) -> dict[str, Any]:
        """Return the fields of `VideoMAEConfig` that the recipe sets."""
        fields = {name: getattr(self, name) for name in self.config_names} | {"drop_path_rate": self.drop_path}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def columns(self) -> dict[str, Any]:
        """Return the arguments of `open_source` and `open_mixture` that say how the rows of a dataset are read."""
        return {name: getattr(self, name) for name in ("video_column", "label_column", "allow_paths")}

    @property
    def dataset_name(self) -> str:
        """Return the name of the dataset, or the names of all of them, for messages."""
        return self.dataset if isinstance(self.dataset, str) else " + ".join(self.dataset)

    def strides_by_dataset(self, source: "AnyData | None") -> tuple[tuple[str, int], ...]:
        """Return (name, stride) of each dataset of a mix; empty without `dataset_strides`."""
        if self.dataset_strides is None:
            return ()
        names = [part.name for part in getattr(source, "parts", [source]) if part is not None]
        assert len(names) == len(self.dataset_strides), "the recipe checks it"
        return tuple(zip(names, self.dataset_strides, strict=True))

    def clips_per_step(self, num_processes: int) -> int:
        """Return the clips of a full step, over all processes and accumulated passes."""
        return self.batch_size * self.gradient_accumulation * num_processes

    def as_dict(self) -> dict[str, Any]:
        """Return all settings as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def numeric_settings(self) -> dict[str, Any]:
        """Return the settings that change the numbers: checkpoints store them, resumed runs are compared with them."""
        settings = self.as_dict()
        names = [field.name for field in dataclasses.fields(self) if field.metadata["affects_numerics"]]
        return {name: settings[name] for name in names}


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return name -> (before, after) of the settings in which two recipes differ."""
    names = [*after, *(name for name in before if name not in after)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def format_value(value: Any) -> str:
    """Return a value as `--help` and messages show it."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
