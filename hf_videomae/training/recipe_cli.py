"""Read a recipe from a YAML file and the command line; refuse unknown names and values of the wrong type.

Why argparse and no library on top: tyro 1.0 prints an error in one line only by its private module `tyro._errors`, and
YAML and `none` would still be converted here. transformers' HfArgumentParser has no tuples, groups or suggestions, and
cannot tell a given flag from a default, so YAML cannot lie between them.
"""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from ..checkpoint_dir import find_checkpoint, read_state, resume_settings
from ..console import log_error, log_signal_exit
from ..errors import RunError
from ..stop_signals import handle_signals
from ..text import escape_unencodable_stdout
from .hub_checkpoints import hub_resume_settings, is_hub_resume
from .recipe import AUTO, RecipeError, RunRecipe, format_value
from .value_parsing import convert_value

RecipeType = TypeVar("RecipeType", bound=RunRecipe)

ABOUT_KEYS = ("title", "prepare", "command", "hardware", "cost", "reaches", "differs", "source")
"""What a recipe file may say about itself under `about:`."""


# The YAML file.


def load_recipe_file(path: str | Path, recipe_class: type[RunRecipe]) -> dict[str, Any]:
    """Return the settings of a recipe file.

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
    """Return `; did you mean ...?` for an unknown name, or where to look."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.55)
    if close:
        return f"; did you mean {' or '.join(prefix + match for match in close)}?"
    return "; --help lists all of them"


# The command line.


class _Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, with the most similar flags."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            flag = unknown.split()[0]
            message = f"unexpected argument {flag!r}; settings are given as --name value"
            if flag.startswith("-"):
                known = [name.lstrip("-") for name in self._option_string_actions]
                message = f"unknown flag {flag}{suggest_names(flag.lstrip('-').split('=')[0], known, prefix='--')}"
        log_error(message)
        raise SystemExit(2)


def build_parser(recipe_class: type[RunRecipe], *, description: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a recipe class: a flag for each field, `--no_NAME` for switches, and `--recipe`."""
    parser = _Parser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    groups = {"recipe": parser.add_argument_group("recipe")}
    groups["recipe"].add_argument(
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
    default = "" if field.default in (None, ()) else f" (default: {format_value(field.default)})"
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
    args = get_args(hint)  # of a type or None
    return _metavar(args[0]) if args else {int: "N", float: "X", bool: "true|false"}.get(hint, "TEXT")


def parse_recipe(
    recipe_class: type[RecipeType],
    arguments: Sequence[str] | None = None,
    *,
    description: str | None = None,
    folder: str | Path | None = None,
) -> RecipeType:
    """Return the recipe of a command line.

    Settings come from four layers; later ones win: the defaults, what a resumed checkpoint was trained with, the YAML
    file, the flags. With `--recipe` the settings of the checkpoint are left out.

    Args:
        recipe_class: the recipe of the task.
        arguments: the command line; None: `sys.argv[1:]`.
        description: text of `--help`.
        folder: where to look for `--recipe NAME` if NAME is not a file.

    Raises:
        SystemExit: 0 after `--help`, 2 after one line about an error.
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
    """Return the arguments with --output-dir written as --output_dir."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append("--" + name[2:].replace("-", "_") + equals + value if name.startswith("--") else argument)
    return result


_FRAME_SPACING_FIELDS = ("frame_stride", "frame_seconds")
"""Two ways to give the spacing of the frames of a clip."""
_REPLACES = {
    "frame_stride": "frame_seconds",
    "frame_seconds": "frame_stride",
    "epochs": "max_steps",
    "warmup_epochs": "warmup_steps",
}
"""name -> replaced: a setting in a later layer also replaces another one of an earlier layer."""


def _resolve_recipe(recipe_class: type[RecipeType], given: dict[str, Any], folder: str | Path | None) -> RecipeType:
    file = given.pop("recipe", None)
    flags = _convert_settings(given, recipe_class, origin="command line", prefix="--")
    settings = {} if file is None else load_recipe_file(_find_recipe_file(file, folder), recipe_class)
    _check_frame_spacing(flags, origin="command line")
    _check_frame_spacing(settings, origin=f"recipe {file}")
    resumed = {}
    resume = flags.get("resume", settings.get("resume"))
    if resume is not None:
        given = {**settings, **flags}
        resumed = _settings_from_checkpoint(recipe_class, resume, given, with_settings=file is None)
    merged = _merge_layers(resumed, settings, flags)
    spacing = next((name for name in _FRAME_SPACING_FIELDS if flags.get(name) is not None), None)
    if spacing is not None and merged.get("sampling") == "uniform":
        raise RecipeError(
            f"command line: --{spacing} has no effect on uniform sampling, which takes frames of the whole video; "
            f"leave it out, or give --sampling dense"
        )
    return recipe_class(**merged)


def _check_frame_spacing(layer: Mapping[str, Any], *, origin: str) -> None:
    if all(layer.get(name) is not None for name in _FRAME_SPACING_FIELDS):
        raise RecipeError(
            f"{origin}: frame_stride {layer['frame_stride']} and frame_seconds {layer['frame_seconds']:g} both set "
            f"the spacing of the frames of a clip; give one of them"
        )


def _merge_layers(*layers: dict[str, Any]) -> dict[str, Any]:
    """Merge settings; later layers win, also over another name for the same thing.

    Epochs win over steps of an earlier layer, and each frame spacing over the other one: {"max_steps": 100} and
    {"epochs": 5} give {"epochs": 5}.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, replaced in _REPLACES.items():
            if layer.get(name) is not None:
                merged.pop(replaced, None)
        merged.update(layer)
    return merged


def _find_recipe_file(file: str, folder: str | Path | None) -> Path:
    if Path(file).is_file() or folder is None:
        return Path(file)
    shipped = Path(folder) / f"{file.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    names = sorted(path.stem for path in Path(folder).glob("*.yaml"))
    raise RecipeError(f"there is no recipe {file!r}, neither a file nor one of {', '.join(names)}")


def _settings_from_checkpoint(
    recipe_class: type[RecipeType], resume: str, given: dict[str, Any], *, with_settings: bool
) -> dict[str, Any]:
    """Return what a resumed run takes from its checkpoint: the output folder and, if wanted, the settings.

    Args:
        recipe_class: the recipe of the task.
        resume: value of `--resume`.
        given: settings of the recipe file and the flags.
        with_settings: take the settings too; False if a recipe file gives them.
    """
    output_dir = given.get("output_dir", recipe_class.output_dir)
    if is_hub_resume(resume):
        if not with_settings:
            return {}
        overwrite = given.get("overwrite", False)
        origin, settings = resume, hub_resume_settings(resume, output_dir=output_dir, overwrite=overwrite)
    else:
        checkpoint = find_checkpoint(resume, output_dir=output_dir)
        if checkpoint is None:
            return {}
        origin, settings = str(checkpoint), resume_settings(read_state(checkpoint)) if with_settings else {}
        settings = {"output_dir": str(checkpoint.parent), **settings}
    known = _field_types(recipe_class)
    settings = {name: value for name, value in settings.items() if name in known}
    return _convert_settings(settings, recipe_class, origin=origin)
