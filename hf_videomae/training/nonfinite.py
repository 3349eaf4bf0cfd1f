"""Count and name the steps whose loss or gradient is not finite, and end a run that has too many in a row."""

import math
from pathlib import Path

from accelerate.utils import gather_object

from ..checkpoint_dir import find_checkpoint
from ..console import is_main_process
from ..errors import RunError
from ..run_files import NONFINITE_FILE
from .run_logger import RunLogger
from .train_state import StepStats, TrainState


class NonFiniteError(RunError):
    """Too many losses or gradients in a row were not finite."""


class NonFiniteGuard:
    """Keep account of steps that were not applied because their loss or gradient was not finite.

    Args:
        state: of the run; `skipped_steps` and `skipped_in_a_row` are updated.
        logger: gets a line for each such step.
        output_dir: output folder of the run.
        max_in_a_row: so many in a row end the run.
    """

    def __init__(self, state: TrainState, *, logger: RunLogger, output_dir: Path, max_in_a_row: int) -> None:
        self.state, self.logger, self.output_dir, self.max_in_a_row = state, logger, output_dir, max_in_a_row

    def check(self, stats: StepStats, sample_ids: list[str], *, rank: int, last: bool) -> None:
        """Count the step that was just done, and log it if it was not finite. Called in all processes.

        Args:
            stats: what the step did.
            sample_ids: what this process trained on.
            rank: rank of this process.
            last: whether the run ends with this step.

        Raises:
            NonFiniteError: after `max_in_a_row` such steps, or at the end of a run in which no step was applied.
        """
        state = self.state
        if stats.is_finite:
            state.skipped_in_a_row = 0
            return
        state.skipped_steps += 1
        state.skipped_in_a_row += 1
        samples = gather_object([{"process": rank, "sample_ids": sample_ids}])
        bad_samples = [row for row in samples if not math.isfinite(stats.losses[row["process"]])]
        quantity = "loss" if bad_samples else "gradient"
        samples = bad_samples or samples
        self.logger.log_nonfinite(
            {
                "step": state.step,
                "what": quantity,
                "losses": [repr(loss) for loss in stats.losses],
                "grad_norm": repr(stats.grad_norm),
                "samples": samples,
            },
            warning=f"step {state.step}: the {quantity} is not finite and was not applied ({state.skipped_in_a_row} "
            f"in a row, {state.skipped_steps} in all); {NONFINITE_FILE} lists its samples, the first is "
            f"{samples[0]['sample_ids'][0]}",
        )
        if state.skipped_in_a_row >= self.max_in_a_row or (last and state.skipped_steps == state.step):
            raise self._error(quantity)

    def _error(self, quantity: str) -> NonFiniteError:
        checkpoint = find_checkpoint("auto", output_dir=self.output_dir) if is_main_process() else None
        kept = "no checkpoint was written yet" if checkpoint is None else f"{checkpoint} is intact"
        return NonFiniteError(
            f"the {quantity} was not finite in {self.state.skipped_in_a_row} steps in a row, up to step "
            f"{self.state.step}; {kept}. Try a lower --base_lr, --clip_grad 1, or look at the samples in "
            f"{self.output_dir / NONFINITE_FILE}"
        )
