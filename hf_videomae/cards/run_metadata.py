"""Read what a card says about a training run from the files of the run, without what is private in them."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..hub.repo import is_hub_id
from ..redaction import redact_values
from ..run_files import (
    BAD_VIDEOS_FILE,
    CONFUSION_FILE,
    EVALUATION_FILE,
    LOSS_CURVE_FILE,
    METRICS_FILE,
    RUN_FILE,
    read_json,
    read_jsonl,
)
from .card_check import is_classification_output
from .license import Ancestor, License, inherit_license
from .lineage import find_evaluation_dataset, iter_lineage
from .markdown import CardError
from .snippets import HANDLER_FILE

CONFIG_FILE = "config.json"
EXAMPLES_FILE = "examples.jsonl"
"""Example videos in the folder and the model's answers: the output of `hf-videomae predict --json`."""

_WEIGHTS_FILE = "model.safetensors"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, kw_only=True)
class WidgetExample:
    """A video in the model's folder and the model's answer."""

    src: str
    output: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """The content of a run's card; nothing in it names this machine.

    Attributes:
        model_id: the model's name in the code of the card.
        run: `run.json`.
        config: the saved model's; None: there is no model yet.
        parameters: the saved model's number of weights.
        evaluation: `evaluation.json`; None: this model was not evaluated.
        metrics: the lines of `metrics.jsonl`.
        bad_videos: the lines of `bad_videos.jsonl`.
        examples: example videos.
        files: names of the files in the folder that a card shows.
        lineage: the checkpoints that the model came from, the nearest first, and its data, except the built-in.
        evaluation_dataset: the data of the evaluation.
        license: the model's.
        notes: what was left out and why, for the terminal.
    """

    model_id: str
    run: dict[str, Any]
    config: dict[str, Any] | None = None
    parameters: int | None = None
    evaluation: dict[str, Any] | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    bad_videos: list[dict[str, Any]] = field(default_factory=list)
    examples: list[WidgetExample] = field(default_factory=list)
    files: frozenset[str] = frozenset()
    lineage: list[Ancestor] = field(default_factory=list)
    evaluation_dataset: Ancestor | None = None
    license: License
    notes: tuple[str, ...] = ()

    @property
    def base_model(self) -> str | None:
        """Return the nearest ancestor that is a checkpoint on the Hub."""
        return next((ancestor.hub_id for ancestor in self.lineage if ancestor.hub_id and not ancestor.is_data), None)

    @property
    def datasets(self) -> list[Ancestor]:
        """Return the data that the model was trained on, except the built-in."""
        return [ancestor for ancestor in self.lineage if ancestor.is_data]

    @property
    def step(self) -> int | None:
        """Return the last known step; `metrics.jsonl` may be ahead of `run.json`."""
        steps = [self.run.get("steps"), *(line.get("step") for line in self.metrics[-1:])]
        return max((step for step in steps if step is not None), default=None)


def read_run_metadata(
    folder: str | Path,
    run: dict[str, Any] | None = None,
    *,
    model_id: str | None = None,
    license: str | None = None,
) -> RunMetadata:
    """Read the files of a run.

    Args:
        folder: the run's `--output_dir`.
        run: its `run.json`, if it was read already.
        model_id: where the model is or will be published; default: `org/` and the folder's name.
        license: of the model, if its parents leave that open.

    Raises:
        CardError: when the folder holds no run, or a file of the run cannot be read.
        LicenseError: when the parents forbid that license.
    """
    folder = Path(folder)
    if model_id is not None and not is_hub_id(model_id):
        raise CardError(f"{model_id} is not the name of a repository; give org/name")
    run = read_run(folder) if run is None else run
    lineage = list(iter_lineage(folder, run))
    evaluation, notes = _read_evaluation(folder, run, model_id)
    examples, example_notes = _read_widget_examples(folder)
    return RunMetadata(
        model_id=model_id or f"org/{_default_model_name(folder)}",
        run=redact_values(run),
        config=read_run_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else None,
        parameters=_count_parameters(folder / _WEIGHTS_FILE),
        evaluation=redact_values(evaluation),
        metrics=redact_values(read_jsonl(folder / METRICS_FILE)),
        bad_videos=redact_values(read_jsonl(folder / BAD_VIDEOS_FILE)),
        examples=examples,
        files=frozenset(path.name for path in folder.iterdir() if _is_card_file(path.name)),
        lineage=lineage,
        evaluation_dataset=find_evaluation_dataset(folder, run, evaluation),
        license=inherit_license(lineage, requested=license),
        notes=(*notes, *example_notes),
    )


def read_run(folder: Path) -> dict[str, Any]:
    """Read `run.json` in the output folder of a run.

    Raises:
        CardError: when there is none, or it is damaged.
    """
    if not (folder / RUN_FILE).is_file():
        raise CardError(f"{folder} holds no {RUN_FILE}; give the --output_dir of a training run")
    return read_run_json(folder / RUN_FILE)


def read_run_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run.

    Raises:
        CardError: when it is not a JSON object.
    """
    return read_json(path, remedy="the run that wrote it may have been cut off: run it again", kind=CardError)


def _is_card_file(name: str) -> bool:
    return (
        name in (LOSS_CURVE_FILE, CONFUSION_FILE, HANDLER_FILE)
        or re.fullmatch(r"reconstruction-\d+\.(?:png|gif)", name) is not None
    )


def _default_model_name(folder: Path) -> str:
    name = re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip("-.")
    return name or "videomae"


def _count_parameters(path: Path) -> int | None:
    """Return the number of weights in a safetensors file, from its header."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size) if size <= _MAX_HEADER_BYTES else b""
    try:
        header = json.loads(text)
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise CardError(f"{path} is damaged, or is not a safetensors file; save the model again") from None


# The evaluation and the examples.


def _read_evaluation(
    folder: Path, run: dict[str, Any], model_id: str | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return `evaluation.json`, and a note instead if it is of another model than the folder holds now."""
    path = folder / EVALUATION_FILE
    if not path.is_file():
        return None, ()
    evaluation = read_run_json(path)
    name = str(evaluation.get("model", {}).get("name", ""))
    if name != model_id and Path(name).name != folder.resolve().name:
        return None, (f"{EVALUATION_FILE} is of another model ({name}), so it is left out; evaluate this one",)
    if str(evaluation.get("date", "")) < str(run.get("updated", "")):
        return None, (f"{EVALUATION_FILE} is older than the model, so it is left out; evaluate again",)
    return evaluation, ()


def _read_widget_examples(folder: Path) -> tuple[list[WidgetExample], tuple[str, ...]]:
    examples, notes = [], []
    for line in read_jsonl(folder / EXAMPLES_FILE):
        name = Path(str(line.get("video"))).name
        if not (folder / name).is_file():
            notes.append(f"{EXAMPLES_FILE} names {name}, which is not in {folder}, so it is left out")
        elif not is_classification_output(line.get("predictions")):
            notes.append(f"{EXAMPLES_FILE} has no classes with scores for {name}, so it is left out")
        else:
            examples.append(WidgetExample(src=name, output=line["predictions"]))
    return examples, tuple(notes)
