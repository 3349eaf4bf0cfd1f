"""Write a Space: a folder with a demo page (`space_app.py`) that shows what a model predicts for a video.

The format of its files is described in huggingface.co/docs/hub/spaces-config-reference.
"""

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..cards import (
    Ancestor,
    License,
    code_span,
    escape_markdown,
    escape_to_one_line,
    inherit_license,
    is_hub_id,
    resolve_model_lineage,
    to_yaml,
)
from ..cards.markdown import join_card
from ..inference.model_loading import is_headless_checkpoint
from ..publishing.requirement_line import check_requirement_line

GRADIO_VERSION = "6.31.0"
"""The release that the page was tested with, as in constraints.txt."""

_PYTHON_VERSION = "3.11"
_APP_FILE = Path(__file__).with_name("space_app.py")
_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
_PINNED_PACKAGES = ("torch", "torchcodec", "transformers", "huggingface_hub", "safetensors", "matplotlib", "numpy")
_IGNORED_FILES = re.compile(r"\.git(?:attributes|ignore)?|__pycache__|\.cache")


class SpaceError(ValueError):
    """Raise when a Space cannot be written; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class WrittenSpace:
    """A Space that was written.

    Attributes:
        files: their paths in the Space, sorted.
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
    license: str | None = None,
    overwrite: bool = False,
) -> WrittenSpace:
    """Write the files of a Space.

    Args:
        folder: created if it is missing.
        model: Hub id or folder of a fine-tuned model, for classes over time and explanations.
        pretrained: Hub id or folder of a pre-trained model, for reconstructions.
        title: the title of the page.
        package: the argument of `pip install` for hf_videomae, for example `git+https://host/repository@commit`.
            None: copy the running package into the Space.
        license: of the Space, if the models leave that open.
        overwrite: replace files of the same names; other files stay.

    Raises:
        SpaceError: without a model, for a model of the wrong kind, or if other files are in the way.
        LicenseError: when the models forbid that license.
    """
    models = {"model": model, "pretrained": pretrained}
    named = {kind: name for kind, name in models.items() if name is not None}
    _check_model_kinds(named)
    inherited = inherit_license([one for name in named.values() for one in _model_lineage(name)], requested=license)
    files = {
        "app.py": _APP_FILE.read_text(encoding="utf-8"),
        "space.json": json.dumps({**named, "title": title}, indent=2) + "\n",
        "requirements.txt": render_space_requirements(package),
        "packages.txt": "ffmpeg\n",
        "README.md": render_space_card(title=title, models=list(named.values()), license=inherited),
        **({} if package else _package_sources()),
    }
    folder = Path(folder)
    if not overwrite:
        _check_no_conflicts(folder, files)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return WrittenSpace(files=sorted(files), notes=_space_notes(list(named.values()), inherited))


def render_space_requirements(package: str | None) -> str:
    """Return `requirements.txt`, without gradio: the Hub installs the version that the header names."""
    pins = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _PINNED_PACKAGES]
    lines = [*pins, "pillow>=10,<13  # as gradio wants it", "av>=14,<19  # a second decoder"]
    if package is not None:
        try:
            lines.append(check_requirement_line(package))
        except ValueError as error:
            raise SpaceError(str(error)) from None
    return "\n".join(lines) + "\n"


def render_space_card(*, title: str, models: list[str], license: License) -> str:
    """Return `README.md`, with the header that tells the Hub how to run the Space."""
    header = to_yaml(
        title=escape_to_one_line(title),
        colorFrom="yellow",
        colorTo="red",
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        python_version=_PYTHON_VERSION,
        app_file="app.py",
        models=[name for name in models if is_hub_id(name) and not Path(name).is_dir()],
        license=license.name,
        tags=["videomae", "video"],
    )
    shown = " and ".join(code_span(Path(name).name if Path(name).is_dir() else name) for name in models)
    text = (
        f"Drop a video. What {shown} can do with it is shown: classes over time and what in the frames speaks for "
        f"them, or what is painted where most of the video is hidden."
    )
    settings = (
        "`space.json` names the models, and the limits of a video: `max_megabytes` (100), `max_seconds` (300) and "
        "`max_windows` (32)."
    )
    return join_card(header, [f"# {escape_markdown(title)}", text, settings, f"License: {license.reason}"])


def _check_model_kinds(named: dict[str, str]) -> None:
    """Raise SpaceError unless `model` is a classifier, `pretrained` has none, and at least one is given."""
    if not named:
        raise SpaceError("a Space needs a model; give --model, a fine-tuned one, or --pretrained, or both")
    for kind, name in named.items():
        is_headless = is_headless_checkpoint(name)
        if kind == "model" and is_headless:
            raise SpaceError(f"{name} holds no classifier; give it as --pretrained, or fine-tune it first")
        if kind == "pretrained" and not is_headless:
            raise SpaceError(f"{name} is a classifier, which cannot reconstruct; give it as --model")


def _model_lineage(name: str) -> list[Ancestor]:
    """Return a model with the license in its card, and its ancestors that have a license."""
    record = resolve_model_lineage(name)
    shown = Path(name).name if Path(name).is_dir() else name
    before = [
        Ancestor(name=ancestor["hub_id"] or Path(ancestor["model"]).name, license=ancestor["license"])
        for ancestor in record["ancestors"]
        if ancestor["license"]
    ]
    return [Ancestor(name=shown, license=record["license"]), *before]


def _package_sources() -> dict[str, str]:
    """Return the files of this package as text, by their paths in the Space."""
    paths = sorted([*_PACKAGE_FOLDER.rglob("*.py"), *_PACKAGE_FOLDER.rglob("hub_names.json")])
    return {path.relative_to(_PACKAGE_FOLDER.parent).as_posix(): path.read_text("utf-8") for path in paths}


def _check_no_conflicts(folder: Path, files: dict[str, str]) -> None:
    if folder.is_file():
        raise SpaceError(f"{folder} is a file; give a directory")
    existing = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for path in existing:
        if any(_IGNORED_FILES.fullmatch(part) for part in path.parts):
            continue
        if files.get(path.as_posix()) != (folder / path).read_text("utf-8", errors="replace"):
            raise SpaceError(
                f"{folder} holds {path} already, which was edited or not written by this command; give an empty "
                f"directory, or --overwrite to replace files of the same names"
            )


def _space_notes(names: list[str], license: License) -> list[str]:
    local = [name for name in names if Path(name).is_dir()]
    notes = [f"{name} is a folder here: upload it, and put its id into space.json before the Space" for name in local]
    if license.name is None:
        notes.append(f"{license.reason} --license NAME states one")
    return notes
