"""Define what a run needs of its task, its data and its validation, as protocols; and the base of all tasks."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from .lineage_record import collect_run_metadata
from .recipe import RunRecipe

if TYPE_CHECKING:
    from ..data.source import AnyData

Batch = dict[str, Any]


class TrainLoader(Protocol):
    """An endless iterable of the batches of this process, as `hf_videomae.data.build_loader` returns it."""

    epoch: int
    steps_per_epoch: int | None
    bad_videos: list[dict[str, Any]]
    seconds: Mapping[str, float]

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]:
        """Return the position of this process in the data."""
        ...

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the positions of all processes."""
        ...


class Task(Protocol):
    """What a run trains.

    Attributes:
        name: e.g. "pretrain".
        baseline_name: what `baseline` measures, for the loss curve; None: nothing.
    """

    name: str
    baseline_name: str | None

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over a batch. Accumulation averages it over equal batches."""

    def baseline(self, batch: Batch) -> float | None:
        """Return the loss of the simplest prediction on this batch."""

    def save(self, folder: Path) -> None:
        """Write the model and what belongs to it, as `from_pretrained` reads it."""

    def run_metadata(self) -> dict[str, Any]:
        """Return what `run.json` says about the task: `data` (a dictionary), `parents`, and so on."""

    def finalize_output(self, output_dir: Path) -> list[str]:
        """Write images and the like after the last step, in the main process; return the paths, for the user."""


class VideoMAETask(Task):
    """Train a VideoMAE: a task defines its `name` and `loss`, and what differs from the defaults below.

    Args:
        recipe: settings of the run.
        model: the bare model, as it is saved.
        source: the data, for `run.json`.
        **settings: settings of the processor that is saved with the model, other than the spacing of frames.

    Attributes:
        does: what the model does, for its card: the end of the sentence "A VideoMAE that".
    """

    baseline_name: str | None = None
    does: str | None = None

    def __init__(self, recipe: RunRecipe, *, model: Any, source: "AnyData", **settings: Any) -> None:
        from ..video_processing_videomae import VideoMAEVideoProcessor

        self.recipe: Any = recipe
        self.model, self.source = model, source
        spacing = {"frame_stride": recipe.frame_stride, "frame_seconds": recipe.frame_seconds}
        self.processor = VideoMAEVideoProcessor.from_config(model.config, **{**spacing, **settings})

    def baseline(self, batch: Batch) -> float | None:
        """Return None: there is no baseline."""
        return None

    def save(self, folder: Path) -> None:
        """Write model and processor, as `from_pretrained` reads them."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def run_metadata(self) -> dict[str, Any]:
        """Return recipe, data and parents for `run.json`."""
        return self._run_metadata

    @cached_property
    def _run_metadata(self) -> dict[str, Any]:
        metadata = collect_run_metadata(self.recipe, config=self.model.config, source=self.source)
        return metadata if self.does is None else {**metadata, "does": self.does}

    def finalize_output(self, output_dir: Path) -> list[str]:
        """Write nothing."""
        return []


@dataclass(frozen=True)
class ValidationResult:
    """The result of one validation.

    Attributes:
        metrics: values by their names in `metrics.jsonl`.
        summary: one line for the user.
    """

    metrics: dict[str, float]
    summary: str


class Validator(Protocol):
    """Measures the model on other data. All processes call it at the same time and get the same result."""

    def is_due(self, step: int, *, last: bool) -> bool:
        """Return whether to validate after a step; `last` says that it is the last one of the run."""

    def validate(self) -> ValidationResult:
        """Measure the model in training; raise `RunError` if nothing can be measured."""

    def test(self) -> None:
        """Measure the final model, after it is saved."""
