"""Data that fail in the middle of a run: every process ends at the same step, and no step is lost.

A process that gets no batch must not leave at once: the others would wait for it in the middle of their step. It
computes on a batch of before instead, all learn of it with the losses, and none applies that step. What is saved then
is the state before the step, so a resumed run draws the same samples and numbers as one that was never interrupted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from ..data.samples import DataError
from ..video.decoding import VideoBackendError
from .checkpoints import generator_state, restore_generators

Batch = dict[str, Any]


class DataFaults:
    """What went wrong with the data of this process and of others, and where the run stood before it."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.saved_step: int | None = None
        self._stream: dict[str, Any] = {}
        self._generators: Any = None
        self._stand_in: Batch | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    def note_stream(self, stream: dict[str, Any]) -> None:
        """Remember the position in the data before a batch is asked for."""
        self._stream = stream

    def note_generators(self) -> None:
        """Remember the generators before a step."""
        self._generators = generator_state()

    def batch_of(self, fetch: Callable[[], Batch]) -> Batch:
        """Return the next batch, or in place of one that cannot be had the first one of the run."""
        if self.reason is None:
            try:
                batch = fetch()
                self._stand_in = self._stand_in or batch
                return batch
            except (DataError, VideoBackendError) as error:
                self.reason = str(error)
                if self._stand_in is None:
                    raise
        assert self._stand_in is not None
        return self._stand_in

    def share(self) -> list[float]:
        """Tell all processes the first reason of any; the step has no losses."""
        self.reason = next(reason for reason in gather_object([self.reason]) if reason is not None)
        return []

    def note_saved(self, step: int, checkpoint: Path | None, output_dir: Path) -> None:
        """Remember that a step is saved in the output directory; a checkpoint from elsewhere is not."""
        if checkpoint is not None and checkpoint.resolve().parent == output_dir.resolve():
            self.saved_step = step

    def stream_before(self, now: dict[str, Any]) -> dict[str, Any]:
        """Return the position to save: that of now, or after a fault that before the step."""
        if self.reason is None:
            return now
        restore_generators(*self._generators)
        return self._stream
