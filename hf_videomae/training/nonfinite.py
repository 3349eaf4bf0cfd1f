"""Count and name the steps whose loss or gradient is not finite, and end a run that has too many in a row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from .. import run_files
from ..checkpoint_dir import find_checkpoint
from ..console import is_main_process
from ..errors import RunError
from .step_logger import StepLogger
from .train_state import StepStats, TrainState


class NonFiniteError(RunError):
    """Too many losses or gradients in a row were not finite."""


class NonFiniteGuard:
    """Keep account of steps that were not applied because their loss or gradient was not finite.

    Args:
        state: of the run; `skipped_steps` and `skipped_in_a_row` are updated.
        logger: gets a line for each such step.
        output_dir: of the run.
        max_in_a_row: so many in a row end the run.
    """

    def __init__(self, state: TrainState, *, logger: StepLogger, output_dir: Path, max_in_a_row: int) -> None:
        self.state, self.logger, self.output_dir, self.max_in_a_row = state, logger, output_dir, max_in_a_row

    def check(self, stats: StepStats, sample_ids: list[str], *, rank: int, last: bool) -> None:
        """Count the step that was just done, and log it if it was not finite. Called in all processes.

        Args:
            stats: of the step.
            sample_ids: what this process trained on.
            rank: of this process.
            last: the run ends with this step.

        Raises:
            NonFiniteError: after `max_in_a_row` such steps, or at the end of a run in which no step was applied.
        """
        state = self.state
        if stats.is_finite:
            state.skipped_in_a_row = 0
            return
        state.skipped_steps += 1
        state.skipped_in_a_row += 1
        per_rank = gather_object([{"process": rank, "sample_ids": sample_ids}])
        skipped = NonFiniteStep(state.step, stats.losses, stats.grad_norm, per_rank)
        self.logger.files.write_nonfinite(skipped.record())
        self.logger.write(skipped.warning(in_a_row=state.skipped_in_a_row, total=state.skipped_steps))
        if state.skipped_in_a_row >= self.max_in_a_row or (last and state.skipped_steps == state.step):
            last_checkpoint = find_checkpoint("auto", output_dir=self.output_dir) if is_main_process() else None
            raise skipped.error(self.output_dir, in_a_row=state.skipped_in_a_row, last_checkpoint=last_checkpoint)


@dataclass(frozen=True)
class NonFiniteStep:
    """A step that was not applied.

    Attributes:
        step: its number.
        losses: of every process.
        norm: of the gradient.
        per_rank: `process` and `sample_ids` of every process.
    """

    step: int
    losses: Sequence[float]
    norm: float
    per_rank: Sequence[dict[str, Any]]

    @property
    def quantity(self) -> str:
        """Return what is not finite: `loss` or `gradient`."""
        return "loss" if not all(map(math.isfinite, self.losses)) else "gradient"

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Return the rows of `per_rank` whose loss is not finite, or all of them."""
        rows = [row for row in self.per_rank if not math.isfinite(self.losses[row["process"]])]
        return rows or list(self.per_rank)

    def record(self) -> dict[str, Any]:
        """Return a line of `nonfinite.jsonl`."""
        numbers = {"losses": [repr(loss) for loss in self.losses], "grad_norm": repr(self.norm)}
        return {"step": self.step, "what": self.quantity, **numbers, "samples": self.samples}

    def warning(self, *, in_a_row: int, total: int) -> str:
        """Return a line for the user."""
        return (
            f"warning: step {self.step}: the {self.quantity} is not finite and was not applied ({in_a_row} in a row, "
            f"{total} in all); {run_files.NONFINITE_FILE} lists its samples, the first is "
            f"{self.samples[0]['sample_ids'][0]}"
        )

    def error(self, output_dir: Path, *, in_a_row: int, last_checkpoint: Path | None) -> NonFiniteError:
        """Return the error that ends the run."""
        kept = "no checkpoint was written yet" if last_checkpoint is None else f"{last_checkpoint} is intact"
        return NonFiniteError(
            f"the {self.quantity} was not finite in {in_a_row} steps in a row, up to step {self.step}; {kept}. Try a "
            f"lower --base_lr, --clip_grad 1, or look at the samples in {output_dir / run_files.NONFINITE_FILE}"
        )
