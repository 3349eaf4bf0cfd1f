"""The facts of a training run, read from the files that it wrote; what is private in them stays behind."""

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cards.document import CARD_FILE, CardError
from ..cards.header import header_of, licence_in
from ..cards.licences import Licence, Origin, inherited_licence, known_licence
from ..cards.origins import is_hub_id
from ..cards.scrubbing import is_local, public_values
from ..evaluation.results import EVALUATION_FILE
from ..evaluation.results import PICTURE_FILE as CONFUSION_FILE
from ..training.report import BAD_VIDEOS_FILE, METRICS_FILE, PICTURE_FILE, RUN_FILE, read_lines
from .header import is_classification
from .parts import HANDLER_FILE

CONFIG_FILE = "config.json"
MOTION = "motion"
"""The built-in data: made by this package on the spot, so with nobody else's rights."""

EXAMPLES_FILE = "examples.jsonl"
"""Example videos of the folder and what the model says of them: the output of `hf-videomae predict --json`."""

_WEIGHTS_FILE = "model.safetensors"
_MOST_HEADER = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, kw_only=True)
class Example:
    """A video in the model's folder and the model's answer."""

    src: str
    output: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a card of a run is made of; nothing in it names this machine.

    Attributes:
        model_id: how the code in the card calls the model.
        run: `run.json`.
        config: of the saved model; None: there is none yet.
        parameters: of the saved model.
        evaluation: `evaluation.json`; None: there is none of this model.
        metrics: the lines of `metrics.jsonl`.
        bad_videos: the lines of `bad_videos.jsonl`.
        examples: example videos.
        files: names of the files in the folder that a card shows.
        origins: the checkpoints that the model came from, the nearest first, and its data, but for the built-in.
        evaluated_on: the data of the evaluation.
        licence: of the model.
        notes: what was left out and why, for the terminal.
    """

    model_id: str
    run: dict[str, Any]
    config: dict[str, Any] | None = None
    parameters: int | None = None
    evaluation: dict[str, Any] | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    bad_videos: list[dict[str, Any]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    files: frozenset[str] = frozenset()
    origins: list[Origin] = field(default_factory=list)
    evaluated_on: Origin | None = None
    licence: Licence
    notes: tuple[str, ...] = ()

    @property
    def base_model(self) -> str | None:
        """The nearest checkpoint of the Hub that the model came from."""
        return next((origin.hub_id for origin in self.origins if origin.hub_id and not origin.is_data), None)

    @property
    def datasets(self) -> list[Origin]:
        """The data it was trained on, but for the built-in."""
        return [origin for origin in self.origins if origin.is_data]

    @property
    def step(self) -> int | None:
        """The last step that is known: `run.json` is not written anew at each."""
        steps = [self.run.get("steps"), *(line.get("step") for line in self.metrics[-1:])]
        return max((step for step in steps if step is not None), default=None)


def read_run(folder: str | Path, *, model_id: str | None = None, licence: str | None = None) -> RunFacts:
    """Read the files of a run.

    Args:
        folder: the run's `--output_dir`.
        model_id: where the model is or will be published; default: `org/` and the folder's name.
        licence: of the model, as far as its parents leave that open.

    Raises:
        CardError: when the folder holds no run, or a file of it cannot be read.
        LicenceError: when the parents forbid that licence.
    """
    folder = Path(folder)
    if not (folder / RUN_FILE).is_file():
        raise CardError(f"{folder} holds no {RUN_FILE}; give the --output_dir of a training run")
    if model_id is not None and not is_hub_id(model_id):
        raise CardError(f"{model_id} is no name of a repository; give org/name")
    run = read_json(folder / RUN_FILE)
    origins = list(_origins(folder, run))
    evaluation, notes = _evaluation(folder, run, model_id)
    examples, more = _examples(folder)
    public = public_values
    return RunFacts(
        model_id=model_id or f"org/{_name_of(folder)}",
        run=public(run),
        config=read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else None,
        parameters=_count_parameters(folder / _WEIGHTS_FILE),
        evaluation=public(evaluation),
        metrics=public(read_lines(folder / METRICS_FILE)),
        bad_videos=public(read_lines(folder / BAD_VIDEOS_FILE)),
        examples=examples,
        files=frozenset(path.name for path in folder.iterdir() if _is_shown(path.name)),
        origins=origins,
        evaluated_on=_evaluated_on(folder, run, evaluation),
        licence=inherited_licence(origins, stated=licence),
        notes=(*notes, *more),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A file of a run.

    Raises:
        CardError: where it is no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CardError(f"{path} is not a JSON object; the run that writes it may have been cut off: run it again")
    return values


def _is_shown(name: str) -> bool:
    return (
        name in (PICTURE_FILE, CONFUSION_FILE, HANDLER_FILE)
        or re.fullmatch(r"reconstruction-\d+\.(?:png|gif)", name) is not None
    )


def _name_of(folder: Path) -> str:
    name = re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip("-.")
    return name or "videomae"


def _count_parameters(path: Path) -> int | None:
    """The number of weights in a safetensors file, from its header."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MOST_HEADER:
            raise CardError(f"{path} is no safetensors file; save the model again")
        header = json.loads(file.read(size))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


# Where the model comes from: what the run wrote down, and, for what it could not know, what is at hand.


def _origins(folder: Path, run: dict[str, Any]) -> Iterator[Origin]:
    yield from _ancestors(folder, run, seen={folder.resolve()})
    for record in _data_records(run):
        data = _data_origin(folder, run, record)
        if data is not None and data.name != MOTION:
            yield data


def _data_records(run: dict[str, Any]) -> list[dict[str, Any]]:
    """What a run wrote of its data set, or of each of a mix."""
    data = run.get("data", {})
    return data.get("mix") or [data]


def _data_origin(folder: Path, run: dict[str, Any], record: dict[str, Any]) -> Origin | None:
    name = record.get("dataset") or record.get("name")
    if name is None:
        return None
    if name == MOTION:
        return Origin(name=MOTION, is_data=True)
    if "hub_id" in record:
        return _recorded(folder, record, name=name, is_data=True)
    place = _find_folder(name, folder)
    return _origin(name, run, place=place, licence=record.get("license") or _licence_in(place), is_data=True)


def _evaluated_on(folder: Path, run: dict[str, Any], evaluation: dict[str, Any] | None) -> Origin | None:
    record = (evaluation or {}).get("data", {})
    known = (one for one in _data_records(run) if one.get("dataset") == record.get("dataset"))
    return _data_origin(folder, run, {**next(known, {}), **record}) if record else None


def _recorded(folder: Path, record: dict[str, Any], *, name: str, is_data: bool) -> Origin:
    """As the run wrote it down; a folder may have got a licence since."""
    hub_id, licence = record.get("hub_id"), record.get("license")
    if licence is None and hub_id is None:
        licence = _licence_in(_find_folder(name, folder))
    return Origin(
        name=hub_id or _last_name(name),
        hub_id=hub_id,
        revision=record.get("revision"),
        licence=licence or known_licence(name),
        is_data=is_data,
    )


def _ancestors(folder: Path, run: dict[str, Any], *, seen: set[Path]) -> Iterator[Origin]:
    """The checkpoint that a run started from, and, where its own run is at hand, those before it."""
    for parent in run.get("parents", ()):
        if "ancestors" in parent:
            for one in (parent, *parent["ancestors"]):
                yield _recorded(folder, one, name=one["model"], is_data=False)
            continue
        name, place = parent["model"], _find_folder(parent["model"], folder)
        licence = parent.get("license") or _licence_in(place) or known_licence(name)
        before: list[Origin] = []
        if place is not None and place.resolve() not in seen and (place / RUN_FILE).is_file():
            seen.add(place.resolve())
            before = list(_ancestors(place, read_json(place / RUN_FILE), seen=seen))
        yield _origin(name, run, place=place, licence=licence, is_data=False)
        yield from before


def _licence_in(folder: Path | None) -> str | None:
    """What the card in a folder, of a model or of data, says its licence is."""
    path = None if folder is None else folder / CARD_FILE
    return licence_in(header_of(path.read_text(encoding="utf-8"))) if path is not None and path.is_file() else None


def _origin(name: str, run: dict[str, Any], *, place: Path | None, licence: str | None, is_data: bool) -> Origin:
    on_hub = place is None and is_hub_id(name) and not _beside_outputs(name, run)
    return Origin(
        name=name if on_hub else _last_name(name), hub_id=name if on_hub else None, licence=licence, is_data=is_data
    )


def _last_name(path: str) -> str:
    name = re.split(r"[\\/]", str(public_values(path)).rstrip("\\/"))[-1]
    return "videos" if "*" in name else name


def _beside_outputs(name: str, run: dict[str, Any]) -> bool:
    """Whether `outputs/x` lies where the run itself was written, and so is a folder that is gone and not org/name."""
    output = str(run.get("recipe", {}).get("output_dir", ""))
    return not is_local(output) and "/" in output and name.split("/")[0] == output.split("/")[0]


def _find_folder(name: str, folder: Path) -> Path | None:
    """The folder that a run called `name`: relative to here, or to a folder above the run's own."""
    for base in (Path("."), *folder.resolve().parents):
        place = base / os.path.expanduser(name)
        if place.is_dir():
            return place
    return None


# What may be of another model.


def _evaluation(
    folder: Path, run: dict[str, Any], model_id: str | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """`evaluation.json`, where it is of the model that lies in the folder now."""
    path = folder / EVALUATION_FILE
    if not path.is_file():
        return None, ()
    found = read_json(path)
    name = str(found.get("model", {}).get("name", ""))
    if name != model_id and Path(name).name != folder.resolve().name:
        return None, (f"{EVALUATION_FILE} is of another model ({name}), so it is left out; evaluate this one",)
    if str(found.get("date", "")) < str(run.get("updated", "")):
        return None, (f"{EVALUATION_FILE} is older than the model, so it is left out; evaluate again",)
    return found, ()


def _examples(folder: Path) -> tuple[list[Example], tuple[str, ...]]:
    examples, notes = [], []
    for line in read_lines(folder / EXAMPLES_FILE):
        name = Path(str(line.get("video"))).name
        if not (folder / name).is_file():
            notes.append(f"{EXAMPLES_FILE} names {name}, which is not in {folder}, so it is left out")
        elif not is_classification(line.get("predictions")):
            notes.append(f"{EXAMPLES_FILE} has no classes with scores for {name}, so it is left out")
        else:
            examples.append(Example(src=name, output=line["predictions"]))
    return examples, tuple(notes)
