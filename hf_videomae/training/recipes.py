"""Recipes: typed settings of a run, from defaults, a YAML file and the command line (the later wins).

A recipe is a frozen dataclass whose fields are made with `setting`. The same fields are the keys of the YAML file and
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
from types import UnionType
from typing import Any, ClassVar, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from ..data.stream import OnBadVideo
from .errors import RunError, say_error

AUTO = "auto"
"""`--resume` without a value: the newest whole checkpoint of the output directory."""

ABOUT_KEYS = ("title", "prepare", "command", "hardware", "cost", "reaches", "differs", "source")
"""What a recipe file may say of itself under `about:`."""

HubStrategy = Literal["end", "every_save", "checkpoint"]

RecipeType = TypeVar("RecipeType", bound="RunRecipe")


class RecipeError(RunError):
    """A setting that does not exist or cannot be; the message says where it came from and what to write instead."""


def setting(default: Any, help: str, *, group: str = "run", identity: bool = True) -> Any:
    """A field of a recipe.

    Args:
        default: the default value.
        help: one line for `--help`.
        group: heading under which `--help` lists it.
        identity: False for what does not change the numbers (where to write, how often to log): such settings are not
            taken over from a checkpoint, and a resumed run may change them freely.
    """
    return dataclasses.field(default=default, metadata={"help": help, "group": group, "identity": identity})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """What every kind of training has in common; the tasks add their own fields.

    Attributes:
        task: its name, where the settings are of one task alone.
    """

    task: ClassVar[str | None] = None

    dataset: str | tuple[str, ...] = setting(
        "motion",
        "motion (made on the spot), a folder, a glob, or a Hub data set org/name; or several of these, to mix them",
        group="data",
    )
    dataset_weights: tuple[float, ...] | None = setting(
        None, "shares of the data sets of a mix, one for each (default: by their numbers of videos)", group="data"
    )
    dataset_strides: tuple[int, ...] | None = setting(
        None,
        "frame strides of the data sets of a mix, one for each, where they differ: Something-Something has half as "
        "many frames per second (default: --frame_stride)",
        group="data",
    )
    split: str = setting("train", "split of the data set", group="data")
    cache_dir: str | None = setting(
        None,
        "keep the shards of a Hub data set on this disk, all of them in the end: a directory, or `hub` for "
        "huggingface_hub's own cache (default: they are streamed anew in every epoch)",
        group="data",
        identity=False,
    )
    num_frames: int | None = setting(None, "frames of a clip (default: the model's)", group="data")
    frame_stride: int | None = setting(
        None, "distance of a clip's frames in the video's frames (default: 4, the paper's; 2 for tiny)", group="data"
    )
    frame_seconds: float | None = setting(
        None, "distance of a clip's frames in seconds, instead of --frame_stride: for mixed frame rates", group="data"
    )
    image_size: int | None = setting(None, "pixels of a clip's sides (default: the model's)", group="data")
    augment: str | None = setting(None, "spatial augmentation of the clips (default: the task's)", group="data")
    flip: float = setting(0.0, "probability of a horizontal flip of the whole clip", group="data")
    num_workers: int = setting(
        1, "decoding processes per training process; 0 decodes in the training process", group="data", identity=False
    )
    prefetch: int = setting(2, "batches that each worker keeps ready", group="data", identity=False)
    on_bad_video: OnBadVideo = setting(
        "replace",
        "an undecodable video: another takes its place (replace); the batch is made without it (skip): it is smaller, "
        "counts as much as a full one, and --compile compiles again for its size; or the run stops (raise)",
        group="data",
    )
    max_bad_share: float = setting(
        0.1, "share of undecodable videos at which the run stops", group="data", identity=False
    )

    model: str = setting(
        "tiny", "preset (tiny small base large huge giant), a local checkpoint or a Hub model org/name", group="model"
    )
    drop_path: float | None = setting(None, "stochastic depth of the last layer (default: the model's)", group="model")

    max_steps: int | None = setting(None, "optimizer steps; wins over --epochs", group="optimization")
    epochs: float | None = setting(None, "passes over the data, where its size is known", group="optimization")
    batch_size: int = setting(32, "clips per process and forward pass", group="optimization")
    gradient_accumulation: int = setting(1, "forward passes per optimizer step", group="optimization")
    tuned_batch: int | None = setting(
        None,
        "clips per step that the settings were made for: far fewer give a warning",
        group="optimization",
        identity=False,
    )
    base_lr: float | None = setting(
        None,
        "learning rate for 256 clips per step, scaled by the batch (default: the paper's, 1.5e-4 to pre-train, 5e-4 "
        "to fine-tune; for tiny 1.2e-2 and 8e-3)",
        group="optimization",
    )
    min_lr: float = setting(1e-5, "floor of the cosine for 256 clips per step; scaled too", group="optimization")
    warmup_steps: int | None = setting(
        None, "steps of linear warm-up from 0; wins over --warmup_epochs", group="optimization"
    )
    warmup_epochs: float | None = setting(
        None, "warm-up in epochs: their share of --epochs (default: 5 %% of the run)", group="optimization"
    )
    weight_decay: float = setting(0.05, "of AdamW; never on biases, norms and the mask token", group="optimization")
    betas: tuple[float, float] = setting((0.9, 0.95), "of AdamW", group="optimization")
    adam_eps: float = setting(1e-8, "of AdamW", group="optimization")
    clip_grad: float | None = setting(None, "largest gradient norm (default: no clipping)", group="optimization")
    max_nonfinite: int = setting(
        5,
        "losses or gradients in a row that may not be finite before the run stops",
        group="optimization",
        identity=False,
    )

    mixed_precision: Literal["no", "bf16"] | None = setting(
        None, "arithmetic of the forward pass (default: what accelerate launch says)", group="speed"
    )
    gradient_checkpointing: bool = setting(
        False, "recompute activations: less memory, about a third more time", group="speed"
    )
    compile: bool = setting(False, "torch.compile the model", group="speed")

    output_dir: str = setting("outputs/run", "where everything is written", identity=False)
    overwrite: bool = setting(False, "start anew over an earlier run in --output_dir", identity=False)
    resume: str | None = setting(
        None,
        "go on from a checkpoint: auto (the newest whole one of --output_dir), a directory, or org/name of the Hub",
        identity=False,
    )
    seed: int = setting(0, "of the weights, the order of the data, the clips and the masks")
    stop_at_step: int | None = setting(
        None, "save and leave after this step, as an interruption would; --resume goes on", identity=False
    )
    save_every: int | None = setting(
        None, "steps between checkpoints (default: a tenth of the run, at most 1000)", identity=False
    )
    keep_checkpoints: int = setting(2, "how many of the last checkpoints are kept", identity=False)
    log_every: int = setting(10, "steps between lines of metrics.jsonl", identity=False)
    log_samples: bool = setting(False, "write the sample ids of every step to samples-RANK.jsonl", identity=False)
    report_to: tuple[str, ...] = setting(
        (), "trackers: trackio, tensorboard, wandb (each must be installed)", identity=False
    )
    push_to_hub: bool = setting(False, "publish the model on the Hub, in the background", group="hub", identity=False)
    hub_model_id: str | None = setting(
        None,
        "repository to publish to (default: the name of --output_dir, among your own)",
        group="hub",
        identity=False,
    )
    hub_strategy: HubStrategy = setting(
        "end",
        "when: once the run has ended or was stopped (end), the model of every save as well (every_save), or every "
        "save with the state that --resume org/name goes on from, on the branch training-state (checkpoint)",
        group="hub",
        identity=False,
    )
    hub_private: bool = setting(False, "make the repository private, if it is new", group="hub", identity=False)

    def __post_init__(self) -> None:
        _at_least(
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
        _at_least(self, 1, "max_steps", "tuned_batch", "num_frames", "image_size", "save_every", "stop_at_step")
        _at_least(
            self, 0, "num_workers", "warmup_steps", "warmup_epochs", "min_lr", "weight_decay", "adam_eps", "seed"
        )
        _above_zero(self, "base_lr", "epochs", "clip_grad", "frame_seconds")
        self._check_mix()
        self._check_publishing()
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
            raise RecipeError(f"dataset_weights are {_shown(weights)}; give numbers above 0")

        strides = self.dataset_strides
        if strides is not None and sets == 1:
            raise RecipeError("dataset_strides is for a mix, and dataset names one; give frame_stride instead")
        if strides is not None and len(strides) != sets:
            raise RecipeError(
                f"dataset_strides has {len(strides)} values and dataset {sets}; give a stride for each data set"
            )
        if min(strides or (1,)) < 1:
            raise RecipeError(f"dataset_strides are {_shown(strides)}; give whole numbers of 1 or more")
        if strides is not None and self.frame_seconds is not None:
            raise RecipeError("dataset_strides and frame_seconds both say how far frames are apart; give one of them")

    def _check_publishing(self) -> None:
        asked = {"hub_model_id": self.hub_model_id is not None, "hub_private": self.hub_private}
        asked["hub_strategy"] = self.hub_strategy != "end"
        name = next((name for name, given in asked.items() if given), None)
        if name is not None and not self.push_to_hub:
            raise RecipeError(f"{name} says how to publish; give --push_to_hub as well, or leave it out")

    @property
    def dataset_name(self) -> str:
        """The data set or all data sets, for people."""
        return self.dataset if isinstance(self.dataset, str) else " + ".join(self.dataset)

    def as_dict(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def identity(self) -> dict[str, Any]:
        """The settings that change the numbers: what a checkpoint remembers and a resumed run is compared with."""
        return {
            field.name: self.as_dict()[field.name] for field in dataclasses.fields(self) if field.metadata["identity"]
        }


def _at_least(recipe: RunRecipe, least: int, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not (value >= least and math.isfinite(value)):
            raise RecipeError(f"{name} is {value}; give a number of {least} or more")


def _above_zero(recipe: RunRecipe, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise RecipeError(f"{name} is {value}; give a number above 0")


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ between two recipes' dictionaries: name -> (before, after)."""
    names = [*after, *(name for name in before if name not in after)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


# Values: one conversion for YAML values and command-line texts.


def convert(value: Any, hint: Any) -> Any:
    """A YAML value or a text of the command line as the type of a field.

    Numbers may be texts: YAML reads 1e-4 as a text, and so does a command line.

    Raises:
        ValueError: what was wanted instead.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if type(None) in args and (value is None or value in ("none", "None", "null")):
            return None
        if str in args and isinstance(value, (list, tuple)):
            # One or several of something: a list of one is the one.
            several = convert(value, next(arg for arg in args if get_origin(arg) is tuple))
            return several[0] if len(several) == 1 else several
        return convert(value, next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        text = (
            {False: "no"}.get(value, value) if isinstance(value, bool) else value
        )  # YAML 1.1 reads a bare no as False
        if text not in args:
            raise ValueError(f"choose one of {', '.join(map(str, args))}")
        return text
    if origin is tuple:
        return _convert_tuple(value, args)
    return _convert_plain(value, hint)


def _convert_tuple(value: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ValueError("give a list")
    if not items:
        raise ValueError("give one value or more")
    if args[-1] is Ellipsis:
        return tuple(convert(item, args[0]) for item in items)
    if len(items) != len(args):
        raise ValueError(f"give {len(args)} values")
    return tuple(convert(item, arg) for item, arg in zip(items, args, strict=True))


def _convert_plain(value: Any, hint: type) -> Any:
    if hint is bool:
        value = {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
        if isinstance(value, bool):
            return value
        raise ValueError("give true or false")
    if isinstance(value, bool):
        raise ValueError(f"give {_WANTED[hint]}")
    if hint is str and isinstance(value, (str, int, float)):
        return str(value)
    if hint is float and isinstance(value, (int, float, str)):
        return _number(value, float)
    if hint is int and isinstance(value, (int, str)):
        return _number(value, int)
    raise ValueError(f"give {_WANTED[hint]}")


_WANTED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _number(value: int | float | str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"give {_WANTED[kind]}") from None


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
    return _typed(content, recipe_class, origin=f"recipe {path}")


def _typed(
    values: Mapping[Any, Any], recipe_class: type[RunRecipe], *, origin: str, prefix: str = ""
) -> dict[str, Any]:
    hints = _hints(recipe_class)
    typed = {}
    for name, value in values.items():
        if name not in hints:
            raise RecipeError(f"{origin}: unknown setting {prefix}{name}{nearest(str(name), hints, prefix=prefix)}")
        try:
            typed[name] = convert(value, hints[name])
        except ValueError as error:
            raise RecipeError(f"{origin}: {prefix}{name} is {value!r}; {error}") from None
    return typed


def _hints(recipe_class: type[RunRecipe]) -> dict[str, Any]:
    hints = get_type_hints(recipe_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(recipe_class)}


def nearest(name: str, known: Mapping[str, Any] | Sequence[str], *, prefix: str = "") -> str:
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
            known = [option.lstrip("-") for action in self._actions for option in action.option_strings]
            hint = nearest(flag.lstrip("-").split("=")[0], known, prefix="--") if flag.startswith("-") else ""
            message = (
                f"unknown flag {flag}{hint}"
                if hint
                else f"unexpected argument {flag!r}; settings are given as --name value"
            )
        say_error(message)
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
    hints = _hints(recipe_class)
    for field in dataclasses.fields(recipe_class):
        name = field.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        _add_flag(groups[name], field, hints[field.name])
    return parser


def _add_flag(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    default = "" if field.default in (None, ()) else f" (default: {_shown(field.default)})"
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


def _shown(value: Any) -> str:
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
    parser = build_parser(recipe_class, description=description)
    given = vars(parser.parse_args(_underscored(sys.argv[1:] if arguments is None else arguments)))
    try:
        return _assemble(recipe_class, given, folder)
    except RunError as error:
        parser.error(str(error))


def _underscored(arguments: Sequence[str]) -> list[str]:
    """--output-dir is taken for --output_dir."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append("--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") else argument)
    return result


def _assemble(recipe_class: type[RecipeType], given: dict[str, Any], folder: str | Path | None) -> RecipeType:
    file = given.pop("recipe", None)
    flags = _typed(given, recipe_class, origin="command line", prefix="--")
    settings = {} if file is None else load_recipe_file(_find(file, folder), recipe_class)
    earlier = {}
    resume = flags.get("resume", settings.get("resume"))
    if resume is not None:
        earlier = _earlier(recipe_class, resume, {**settings, **flags}, take=file is None)
    known = _hints(recipe_class)  # not every recipe counts in steps
    return recipe_class(**{name: value for name, value in _merge(earlier, settings, flags).items() if name in known})


def _merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Later layers win; epochs in a later layer also win over steps in an earlier one."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for steps, epochs in (("max_steps", "epochs"), ("warmup_steps", "warmup_epochs")):
            if layer.get(epochs) is not None and steps not in layer:
                merged[steps] = None
        merged.update(layer)
    return merged


def _find(file: str, folder: str | Path | None) -> Path:
    named = Path(folder or ".") / f"{file.removesuffix('.yaml')}.yaml"
    if Path(file).is_file() or folder is None:
        return Path(file)
    if named.is_file():
        return named
    names = sorted(path.stem for path in Path(folder).glob("*.yaml"))
    raise RecipeError(f"there is no recipe {file!r}, neither a file nor one of {', '.join(names)}")


def _earlier(recipe_class: type[RunRecipe], resume: str, wanted: dict[str, Any], *, take: bool) -> dict[str, Any]:
    """What a resumed run takes over: the place, and (where no recipe file says otherwise) the settings."""
    from .checkpoints import find_checkpoint, read_state
    from .fetching import is_remote, settings_of

    default = next(field.default for field in dataclasses.fields(recipe_class) if field.name == "output_dir")
    output_dir, settings, place, origin = wanted.get("output_dir", default), {}, {}, resume
    if is_remote(resume):
        settings = settings_of(resume, output_dir=output_dir, overwrite=wanted.get("overwrite", False)) if take else {}
    else:
        checkpoint = find_checkpoint(resume, output_dir=output_dir)
        if checkpoint is None:
            return {}
        settings = read_state(checkpoint)["recipe"] if take else {}
        place, origin = {"output_dir": str(checkpoint.parent)}, str(checkpoint)
    known = _hints(recipe_class)
    typed = _typed({name: value for name, value in settings.items() if name in known}, recipe_class, origin=origin)
    return {**place, **typed}
