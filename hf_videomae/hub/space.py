"""A Space: a folder with a page (`app.py` of this room) that shows what a model makes of a video.

Shapes of a Space's files are those of huggingface.co/docs/hub/spaces-config-reference.
"""

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..cards import Licence, Origin, inherited_licence, is_hub_id, model_origin, to_yaml
from ..inference.files import lacks_classifier
from .package import check_package
from .parts import document

GRADIO = "6.31.0"
"""The release that the page was tested with; constraints.txt has the same."""

_PYTHON = "3.11"
_PAGE = Path(__file__).with_name("app.py")
_PACKAGE = Path(__file__).resolve().parents[1]
_PINNED = ("torch", "torchcodec", "transformers", "huggingface_hub", "safetensors", "matplotlib", "numpy")
_ALLOWED = re.compile(r"\.git(?:attributes|ignore)?|__pycache__|\.cache")


class SpaceError(ValueError):
    """A Space cannot be written; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A Space that was written.

    Attributes:
        files: of it, by their paths in it.
        notes: what its owner should know, for the terminal.
    """

    files: list[str]
    notes: list[str]


def write_space(
    folder: str | Path,
    *,
    model: str | None = None,
    pretrained: str | None = None,
    title: str = "What a VideoMAE sees",
    package: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Space:
    """Write the files of a Space.

    Args:
        folder: made where it is missing.
        model: Hub id or folder of a fine-tuned model, for classes over time and what speaks for them.
        pretrained: Hub id or folder of a pre-trained one, for reconstructions.
        title: of the page.
        package: what `pip install` is given for hf_videomae, `git+https://host/repository@commit` for example. None:
            the package that runs now is copied into the Space.
        licence: of the Space, as far as the models leave that open.
        overwrite: replace files that are there; others stay.

    Raises:
        SpaceError: without a model, with one of the wrong kind, or when other files are in the way.
        LicenceError: when the models forbid that licence.
    """
    models = {"model": model, "pretrained": pretrained}
    named = {kind: name for kind, name in models.items() if name is not None}
    _check_kinds(named)
    rights = inherited_licence([one for name in named.values() for one in _origins(name)], stated=licence)
    files = {
        "app.py": _PAGE.read_text(encoding="utf-8"),
        "space.json": json.dumps({**named, "title": title}, indent=2) + "\n",
        "requirements.txt": requirements(package),
        "packages.txt": "ffmpeg\n",
        "README.md": space_card(title=title, models=list(named.values()), licence=rights),
        **({} if package else _sources()),
    }
    folder = Path(folder)
    if not overwrite:
        _check_free(folder, files)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Space(files=sorted(files), notes=_notes(list(named.values()), rights))


def requirements(package: str | None) -> str:
    """`requirements.txt`: gradio comes with the Space itself, at the version that its header names."""
    pins = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _PINNED]
    lines = [*pins, "pillow>=10,<13  # as gradio wants it", "av>=14,<19  # a second decoder"]
    if package is not None:
        lines.append(_checked(package))
    return "\n".join(lines) + "\n"


def _checked(package: str) -> str:
    try:
        return check_package(package)
    except ValueError as error:
        raise SpaceError(str(error)) from None


def space_card(*, title: str, models: list[str], licence: Licence) -> str:
    """`README.md`, with the header that tells the Hub how to run the Space."""
    header = to_yaml(
        title=title,
        colorFrom="yellow",
        colorTo="red",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version=_PYTHON,
        app_file="app.py",
        models=[name for name in models if is_hub_id(name) and not Path(name).is_dir()],
        license=licence.name,
        tags=["videomae", "video"],
    )
    shown = " and ".join(f"`{Path(name).name if Path(name).is_dir() else name}`" for name in models)
    text = (
        f"Drop a video. What {shown} can do with it is shown: classes over time and what in the frames speaks for "
        f"them, or what is painted where most of the video is hidden."
    )
    settings = (
        "`space.json` names the models, and the limits of a video: `max_megabytes` (100), `max_seconds` (300) and "
        "`max_windows` (32)."
    )
    return document(header, [f"# {title}", text, settings, f"Licence: {licence.reason}"])


def _check_kinds(named: dict[str, str]) -> None:
    if not named:
        raise SpaceError("a Space needs a model; give --model, a fine-tuned one, or --pretrained, or both")
    for kind, name in named.items():
        bare = lacks_classifier(name)
        if kind == "model" and bare:
            raise SpaceError(f"{name} holds no classifier; give it as --pretrained, or fine-tune it first")
        if kind == "pretrained" and not bare:
            raise SpaceError(f"{name} is a classifier, which reconstructs nothing; give it as --model")


def _origins(name: str) -> list[Origin]:
    """A model with the licence that its card says, in its folder or on the Hub, and those before it that have one."""
    found = model_origin(name)
    shown = Path(name).name if Path(name).is_dir() else name
    before = [
        Origin(name=one["hub_id"] or Path(one["model"]).name, licence=one["license"])
        for one in found["ancestors"]
        if one["license"]
    ]
    return [Origin(name=shown, licence=found["license"]), *before]


def _sources() -> dict[str, str]:
    """The package itself, as text, by its paths in the Space."""
    found = sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.rglob("names.json"), *_PACKAGE.rglob("problems.yaml")])
    return {f"{_PACKAGE.name}/{path.relative_to(_PACKAGE).as_posix()}": path.read_text("utf-8") for path in found}


def _check_free(folder: Path, files: dict[str, str]) -> None:
    if folder.is_file():
        raise SpaceError(f"{folder} is a file; give a directory")
    there = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for path in there:
        if any(_ALLOWED.fullmatch(part) for part in path.parts):
            continue
        if files.get(path.as_posix()) != (folder / path).read_text("utf-8", errors="replace"):
            raise SpaceError(
                f"{folder} holds {path} already, which is not of this command or was edited; give an empty directory, "
                f"or --overwrite to replace what has the same name"
            )


def _notes(names: list[str], licence: Licence) -> list[str]:
    local = [name for name in names if Path(name).is_dir()]
    notes = [f"{name} is a folder here: upload it, and put its id into space.json before the Space" for name in local]
    if licence.name is None:
        notes.append(f"{licence.reason} --license NAME states one")
    return notes


__all__ = ["GRADIO", "Space", "SpaceError", "requirements", "space_card", "write_space"]
