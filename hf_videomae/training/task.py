"""Define what a run needs of its task, its data and its validation, as protocols."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

Batch = dict[str, Any]


class TrainLoader(Protocol):
    """An endless iterable of the batches of this process, as `hf_videomae.data.build_loader` returns it."""

    epoch: int
    steps_per_epoch: int | None
    bad_videos: list[dict[str, Any]]
    seconds: Mapping[str, float]

    def __iter__(self) -> Iterator[Batch]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_states(self, states: Sequence[dict[str, Any]]) -> None: ...


class Task(Protocol):
    """What a run trains.

    Attributes:
        name: e.g. "pretrain".
        baseline_name: what `baseline` measures, for the loss curve; None: nothing.
    """

    name: str
    baseline_name: str | None

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
