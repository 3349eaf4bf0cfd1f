"""Recipes: typed settings of a run, from defaults, a YAML file and the command line (the later wins).

A recipe is a frozen dataclass whose fields are made with `option`. The same fields are the keys of the YAML file and
the flags of the command line, so none of the three can drift; unknown names and values of the wrong type are refused
with a remedy.
"""

import argparse
import dataclasses
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from ..console import log_error, log_signal_exit
from ..data.batch_builder import BadVideoPolicy
from ..errors import RunError
from ..publishing.background import HubStrategy
from ..stop_signals import handle_signals
from ..text import check_utf8, escape_unencodable_stdout
from .value_parsing import convert_value

AUTO = "auto"
"""`--resume` without a value: the newest whole checkpoint of the output directory."""

ABOUT_KEYS = ("title", "prepare", "command", "hardware", "cost", "reaches", "differs", "source")
"""What a recipe file may say of itself under `about:`."""


RecipeType = TypeVar("RecipeType", bound="RunRecipe")


class RecipeError(RunError):
    """A setting that does not exist or cannot be; the message says where it came from and what to write instead."""


def option(default: Any, help: str, *, group: str = "run", affects_numerics: bool = True) -> Any:
    """A field of a recipe.

    Args:
        default: the default value.
        help: one line for `--help`.
        group: heading under which `--help` lists it.
        affects_numerics: False for what does not change the numbers (where to write, how often to log): such settings are not
            taken over from a checkpoint, and a resumed run may change them freely.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "group": group, "affects_numerics": affects_numerics}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """What every kind of training has in common; the tasks add their own fields.

    Attributes:
        task: its name, where the settings are of one task alone.
    """

    task: ClassVar[str | None] = None

    dataset: str | tuple[str, ...] = option(
        "motion",
        "motion (made on the spot), a folder, a glob, a list (CSV), or a Hub data set org/name; or several of these, "
        "to mix them",
        group="data",
    )
    dataset_weights: tuple[float, ...] | None = option(
        None, "shares of the data sets of a mix, one for each (default: by their numbers of videos)", group="data"
    )
    dataset_strides: tuple[int, ...] | None = option(
        None,
        "frame strides of the data sets of a mix, one for each, where they differ: Something-Something has half as "
        "many frames per second (default: --frame_stride)",
        group="data",
    )
    split: str = option("train", "split of the data set", group="data")
    video_column: str | None = option(
        None, "column of the videos, of Parquet or WebDataset files (default: found by its type)", group="data"
    )
    label_column: str | None = option(
        None,
        "column of the labels, of Parquet or WebDataset files; json.KEY for a key of JSON members (default: found by "
        "its type, or called label or cls)",
        group="data",
    )
    allow_paths: tuple[str, ...] = option(
        (),
        "hosts, folders and beginnings of URLs that the rows of a data set may name (default: its own files alone)",
        group="data",
        affects_numerics=False,
    )
    cache_dir: str | None = option(
        None,
        "keep the shards of a Hub data set on this disk, all of them in the end: a directory, or `hub` for "
        "huggingface_hub's own cache (default: they are streamed anew in every epoch)",
        group="data",
        affects_numerics=False,
    )
    num_frames: int | None = option(None, "frames of a clip (default: the model's)", group="data")
    frame_stride: int | None = option(
        None, "distance of a clip's frames in the video's frames (default: 4, the paper's; 2 for tiny)", group="data"
    )
    frame_seconds: float | None = option(
        None, "distance of a clip's frames in seconds, instead of --frame_stride: for mixed frame rates", group="data"
    )
    image_size: int | None = option(None, "pixels of a clip's sides (default: the model's)", group="data")
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
        "an undecodable video: another takes its place (replace); the batch is made without it (skip): it is smaller, "
        "counts as much as a full one, and --compile compiles again for its size; or the run stops (raise)",
        group="data",
    )
    max_bad_share: float = option(
        0.1, "share of undecodable videos at which the run stops", group="data", affects_numerics=False
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
        "clips per step that the settings were made for: far fewer give a warning",
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
        None, "warm-up in epochs: their share of --epochs (default: 5 %% of the run)", group="optimization"
    )
    weight_decay: float = option(0.05, "of AdamW; never on biases, norms and the mask token", group="optimization")
    betas: tuple[float, float] = option((0.9, 0.95), "of AdamW", group="optimization")
    adam_eps: float = option(1e-8, "of AdamW", group="optimization")
    clip_grad: float | None = option(None, "largest gradient norm (default: no clipping)", group="optimization")
    max_nonfinite: int = option(
        5,
        "losses or gradients in a row that may not be finite before the run stops",
        group="optimization",
        affects_numerics=False,
    )

    mixed_precision: Literal["no", "bf16"] | None = option(
        None, "arithmetic of the forward pass (default: what accelerate launch says)", group="speed"
    )
    gradient_checkpointing: bool = option(
        False, "recompute activations: less memory, about a third more time", group="speed"
    )
    compile: bool = option(False, "torch.compile the model", group="speed")

    output_dir: str = option("outputs/run", "where everything is written", affects_numerics=False)
    overwrite: bool = option(False, "start anew over an earlier run in --output_dir", affects_numerics=False)
    resume: str | None = option(
        None,
        "go on from a checkpoint: auto (the newest whole one of --output_dir), a directory, or org/name of the Hub",
        affects_numerics=False,
    )
    seed: int = option(0, "of the weights, the order of the data, the clips and the masks")
    stop_at_step: int | None = option(
        None, "save and leave after this step, as an interruption would; --resume goes on", affects_numerics=False
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
        "repository to publish to (default: the name of --output_dir, among your own)",
        group="hub",
        affects_numerics=False,
    )
    hub_strategy: HubStrategy = option(
        "end",
        "when: once the run has ended or was stopped (end), the model of every save as well (every_save), or every "
        "save with the state that --resume org/name goes on from, on the branch training-state (checkpoint)",
        group="hub",
        affects_numerics=False,
    )
    hub_private: bool = option(False, "make the repository private, if it is new", group="hub", affects_numerics=False)

    def __post_init__(self) -> None:
        _check_at_least(
            self,
            1,
            "batch_size",
            "gradient_accumulation",
            "log_every",
            "keep_checkpoints",
            "frame_stride",
            "max_nonfinite",
            "prefetch",
        )
        _check_at_least(self, 1, "max_steps", "tuned_batch", "num_frames", "image_size", "save_every", "stop_at_step")
        _check_at_least(
            self, 0, "num_workers", "warmup_steps", "warmup_epochs", "min_lr", "weight_decay", "adam_eps", "seed"
        )
        _check_above_zero(self, "base_lr", "epochs", "clip_grad", "frame_seconds")
        self._check_mix()
        self._check_publishing()
        try:
            check_utf8(self.output_dir, name="--output_dir")
            check_utf8(self.model, name="--model")
        except ValueError as error:
            raise RecipeError(str(error)) from None
        for name in ("max_bad_share", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, but it is a share; give a number from 0 to 1")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"betas are {self.betas}, but both must lie in [0, 1); the paper uses 0.9 0.95")
        known = ("trackio", "tensorboard", "wandb")
        for tracker in self.report_to:
            if tracker not in known:
                raise RecipeError(f"report_to names {tracker!r}; choose from {', '.join(known)}")

    def _check_mix(self) -> None:
        weights, sets = self.dataset_weights, 1 if isinstance(self.dataset, str) else len(self.dataset)
        if weights is not None and len(weights) != sets:
            raise RecipeError(
                f"dataset_weights has {len(weights)} values and dataset {sets}; give a weight for each data set"
            )
        if not all(weight > 0 and math.isfinite(weight) for weight in weights or ()):
            raise RecipeError(f"dataset_weights are {_format_value(weights)}; give numbers above 0")

        strides = self.dataset_strides
        if strides is not None and sets == 1:
            raise RecipeError("dataset_strides is for a mix, and dataset names one; give frame_stride instead")
        if strides is not None and len(strides) != sets:
            raise RecipeError(
                f"dataset_strides has {len(strides)} values and dataset {sets}; give a stride for each data set"
            )
        if min(strides or (1,)) < 1:
            raise RecipeError(f"dataset_strides are {_format_value(strides)}; give whole numbers of 1 or more")
        if strides is not None and self.frame_seconds is not None:
            raise RecipeError("dataset_strides and frame_seconds both say how far frames are apart; give one of them")

    def _check_publishing(self) -> None:
        asked = {"hub_model_id": self.hub_model_id is not None, "hub_private": self.hub_private}
        asked["hub_strategy"] = self.hub_strategy != "end"
        name = next((name for name, given in asked.items() if given), None)
        if name is not None and not self.push_to_hub:
            raise RecipeError(f"{name} says how to publish; give --push_to_hub as well, or leave it out")

    @property
    def columns(self) -> dict[str, Any]:
        """How the columns and rows of a data set are read, as `open_source` and `open_mixture` take it."""
        return {name: getattr(self, name) for name in ("video_column", "label_column", "allow_paths")}

    @property
    def dataset_name(self) -> str:
        """The data set or all data sets, for people."""
        return self.dataset if isinstance(self.dataset, str) else " + ".join(self.dataset)

    def as_dict(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def numeric_settings(self) -> dict[str, Any]:
        """The settings that change the numbers: what a checkpoint remembers and a resumed run is compared with."""
        return {
            field.name: self.as_dict()[field.name]
            for field in dataclasses.fields(self)
            if field.metadata["affects_numerics"]
        }


def _check_at_least(recipe: RunRecipe, least: int, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not (value >= least and math.isfinite(value)):
            raise RecipeError(f"{name} is {value}; give a number of {least} or more")


def _check_above_zero(recipe: RunRecipe, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise RecipeError(f"{name} is {value}; give a number above 0")


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ between two recipes' dictionaries: name -> (before, after)."""
    names = [*after, *(name for name in before if name not in after)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


# Values: one conversion for YAML values and command-line texts.


# The YAML file.


def load_recipe_file(path: str | Path, recipe_class: type[RunRecipe]) -> dict[str, Any]:
    """The settings of a recipe file.

    Raises:
        RecipeError: for a missing or unreadable file, an unknown key, or a value of the wrong type.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read ({error.strerror}); give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"recipe {path} must be a list of `name: value` lines, it holds {type(content).__name__}")
    about = content.pop("about", {})
    unknown = [key for key in about if key not in ABOUT_KEYS] if isinstance(about, dict) else ["about"]
    if unknown:
        raise RecipeError(f"recipe {path}: `about` may hold {', '.join(ABOUT_KEYS)}, not {unknown[0]!r}")
    return _convert_settings(content, recipe_class, origin=f"recipe {path}")


def _convert_settings(
    values: Mapping[Any, Any], recipe_class: type[RunRecipe], *, origin: str, prefix: str = ""
) -> dict[str, Any]:
    hints = _field_types(recipe_class)
    typed = {}
    for name, value in values.items():
        if name not in hints:
            raise RecipeError(
                f"{origin}: unknown setting {prefix}{name}{suggest_names(str(name), hints, prefix=prefix)}"
            )
        try:
            typed[name] = convert_value(value, hints[name])
        except ValueError as error:
            raise RecipeError(f"{origin}: {prefix}{name} is {value!r}; {error}") from None
    return typed


def _field_types(recipe_class: type[RunRecipe]) -> dict[str, Any]:
    hints = get_type_hints(recipe_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(recipe_class)}


def suggest_names(name: str, known: Mapping[str, Any] | Sequence[str], *, prefix: str = "") -> str:
    """`; did you mean ...?` for a name that is not known, or where to look."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.55)
    if close:
        return f"; did you mean {' or '.join(prefix + match for match in close)}?"
    return "; --help lists all of them"


# The command line.


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest flags."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            flag = unknown.split()[0]
            known = [option_string.lstrip("-") for action in self._actions for option_string in action.option_strings]
            hint = suggest_names(flag.lstrip("-").split("=")[0], known, prefix="--") if flag.startswith("-") else ""
            message = (
                f"unknown flag {flag}{hint}"
                if hint
                else f"unexpected argument {flag!r}; settings are given as --name value"
            )
        log_error(message)
        raise SystemExit(2)


def build_parser(recipe_class: type[RunRecipe], *, description: str | None = None) -> argparse.ArgumentParser:
    """The command line of a recipe class: a flag per field, `--no_NAME` beside switches, and `--recipe`."""
    parser = _Parser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, Any] = {}
    heading = groups.setdefault("recipe", parser.add_argument_group("recipe"))
    heading.add_argument(
        "--recipe",
        metavar="FILE",
        help="YAML file of settings, or the name of one in examples/recipes; flags win over it",
    )
    hints = _field_types(recipe_class)
    for field in dataclasses.fields(recipe_class):
        name = field.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        _add_flag(groups[name], field, hints[field.name])
    return parser


def _add_flag(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    default = "" if field.default in (None, ()) else f" (default: {_format_value(field.default)})"
    text = field.metadata["help"] + default
    if hint is bool:
        group.add_argument(f"--{field.name}", action="store_true", help=text)
        group.add_argument(f"--no_{field.name}", dest=field.name, action="store_false", help=argparse.SUPPRESS)
    elif field.name == "resume":
        group.add_argument("--resume", nargs="?", const=AUTO, metavar="DIR|ORG/NAME", help=text)
    elif tuple in (get_origin(hint), *map(get_origin, get_args(hint))):
        group.add_argument(f"--{field.name}", nargs="+", metavar="VALUE", help=text)
    else:
        group.add_argument(f"--{field.name}", metavar=_metavar(hint), help=text)


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    plain = next((arg for arg in get_args(hint) if arg is not type(None)), hint)
    if get_origin(plain) is Literal:
        return _metavar(plain)
    return {int: "N", float: "X", bool: "true|false"}.get(plain, "TEXT")


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def parse_recipe(
    recipe_class: type[RecipeType],
    arguments: Sequence[str] | None = None,
    *,
    description: str | None = None,
    folder: str | Path | None = None,
) -> RecipeType:
    """Settings of a run: defaults, what a resumed checkpoint was trained with, the YAML file, the flags; later wins.

    Args:
        recipe_class: the task's recipe.
        arguments: the command line; None: `sys.argv[1:]`.
        description: text of `--help`.
        folder: where `--recipe NAME` is looked up when NAME is not a file.

    Raises:
        SystemExit: 0 after `--help`, 2 with one line for whatever cannot be.
    """
    escape_unencodable_stdout()
    parser = build_parser(recipe_class, description=description)
    given = vars(parser.parse_args(_normalize_flags(sys.argv[1:] if arguments is None else arguments)))
    try:
        with handle_signals():  # --resume org/name asks the Hub
            return _resolve_recipe(recipe_class, given, folder)
    except RunError as error:
        parser.error(str(error))
    except KeyboardInterrupt as error:
        raise SystemExit(log_signal_exit(error)) from None


def _normalize_flags(arguments: Sequence[str]) -> list[str]:
    """--output-dir is taken for --output_dir."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append("--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") else argument)
    return result


_FRAME_SPACING_FIELDS = ("frame_stride", "frame_seconds")
"""Two ways to say how far a clip's frames lie apart."""


def _resolve_recipe(recipe_class: type[RecipeType], given: dict[str, Any], folder: str | Path | None) -> RecipeType:
    file = given.pop("recipe", None)
    flags = _convert_settings(given, recipe_class, origin="command line", prefix="--")
    settings = {} if file is None else load_recipe_file(_find_recipe_file(file, folder), recipe_class)
    for origin, layer in (("command line", flags), (f"recipe {file}", settings)):
        _check_frame_spacing(layer, origin=origin)
    earlier = {}
    resume = flags.get("resume", settings.get("resume"))
    if resume is not None:
        earlier = _settings_from_checkpoint(recipe_class, resume, {**settings, **flags}, take=file is None)
    known = _field_types(recipe_class)  # not every recipe counts in steps
    merged = _merge_layers(earlier, settings, flags)
    distance = next((name for name in _FRAME_SPACING_FIELDS if flags.get(name) is not None), None)
    if distance is not None and merged.get("sampling") == "uniform":
        raise RecipeError(
            f"command line: --{distance} plays no part in uniform sampling, which takes frames of the whole video; "
            f"leave it out, or give --sampling dense"
        )
    return recipe_class(**{name: value for name, value in merged.items() if name in known})


def _check_frame_spacing(layer: Mapping[str, Any], *, origin: str) -> None:
    if all(layer.get(name) is not None for name in _FRAME_SPACING_FIELDS):
        raise RecipeError(
            f"{origin}: frame_stride {layer['frame_stride']} and frame_seconds {layer['frame_seconds']:g} both say "
            f"how far the frames of a clip lie apart; give one of them"
        )


def _merge_layers(*layers: dict[str, Any]) -> dict[str, Any]:
    """Later layers win; epochs in a later layer also win over steps in an earlier one, and so does one distance of
    frames over the other."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for one, other in (_FRAME_SPACING_FIELDS, _FRAME_SPACING_FIELDS[::-1]):
            if layer.get(one) is not None and other not in layer:
                merged[other] = None
        for steps, epochs in (("max_steps", "epochs"), ("warmup_steps", "warmup_epochs")):
            if layer.get(epochs) is not None and steps not in layer:
                merged[steps] = None
        merged.update(layer)
    return merged


def _find_recipe_file(file: str, folder: str | Path | None) -> Path:
    named = Path(folder or ".") / f"{file.removesuffix('.yaml')}.yaml"
    if Path(file).is_file() or folder is None:
        return Path(file)
    if named.is_file():
        return named
    names = sorted(path.stem for path in Path(folder).glob("*.yaml"))
    raise RecipeError(f"there is no recipe {file!r}, neither a file nor one of {', '.join(names)}")


def _settings_from_checkpoint(
    recipe_class: type[RunRecipe], resume: str, wanted: dict[str, Any], *, take: bool
) -> dict[str, Any]:
    """What a resumed run takes over: the place, and (where no recipe file says otherwise) the settings."""
    from ..checkpoint_dir import find_checkpoint, read_state, resume_settings
    from .hub_checkpoints import hub_resume_settings, is_hub_resume

    default = next(field.default for field in dataclasses.fields(recipe_class) if field.name == "output_dir")
    output_dir, settings, place, origin = wanted.get("output_dir", default), {}, {}, resume
    if is_hub_resume(resume):
        settings = (
            hub_resume_settings(resume, output_dir=output_dir, overwrite=wanted.get("overwrite", False))
            if take
            else {}
        )
    else:
        checkpoint = find_checkpoint(resume, output_dir=output_dir)
        if checkpoint is None:
            return {}
        settings = resume_settings(read_state(checkpoint)) if take else {}
        place, origin = {"output_dir": str(checkpoint.parent)}, str(checkpoint)
    known = _field_types(recipe_class)
    typed = _convert_settings(
        {name: value for name, value in settings.items() if name in known}, recipe_class, origin=origin
    )
    return {**place, **typed}
