"""Report logged steps and undecodable videos: in the run's files, to the trackers, and to the user."""

import math
from typing import Any

from accelerate import Accelerator

from .. import run_files
from .progress import ProgressBar, ThroughputMeter
from .recipe import RunRecipe
from .run_logger import RunLogger, gather_bad_videos
from .task import Batch, Task, TrainLoader, ValidationResult
from .train_state import StepStats, TrainState

_MAX_SHOWN_BAD_VIDEOS = 3
_BAD_VIDEO_ACTION = {"replace": "is replaced", "skip": "is left out", "raise": "ends the run"}


class StepLogger:
    """Report the steps of a run while it trains. Called in all processes.

    Args:
        recipe: settings of the run.
        accelerator: of the run.
        task: gives the baseline.
        loader: gives the epoch, the undecodable videos and the time of each stage.
        files: where the lines go.
        clips_per_step: clips of a full step, over all processes.
        steps_per_epoch: steps of one pass over the data; None if unknown.

    Attributes:
        throughput: measures clips per second and the wait for data.
        progress: the bar or the lines on the terminal; set when training starts.
    """

    progress: ProgressBar

    def __init__(
        self,
        recipe: RunRecipe,
        *,
        accelerator: Accelerator,
        task: Task,
        loader: TrainLoader,
        files: RunLogger,
        clips_per_step: int,
        steps_per_epoch: int | None,
    ) -> None:
        self.recipe, self.accelerator, self.task, self.loader, self.files = recipe, accelerator, task, loader, files
        self.clips_per_step, self.steps_per_epoch = clips_per_step, steps_per_epoch
        self.throughput = ThroughputMeter()

    def start(self, *, total_steps: int, step: int) -> None:
        """Show the progress from this step on, and measure throughput from now on."""
        self.progress = ProgressBar(total_steps, start=step)
        self.throughput.read(self.loader.seconds)

    def write(self, message: str) -> None:
        """Print a line for the user."""
        self.progress.write(message)

    def log_step(
        self,
        state: TrainState,
        stats: StepStats,
        *,
        learning_rate: float,
        batch: Batch,
        validation: ValidationResult | None,
    ) -> None:
        """Write a line of `metrics.jsonl`, and report it to the trackers and the user."""
        self._log_bad_videos(state.step)
        metrics = self._step_metrics(state, stats, learning_rate=learning_rate)
        if not self.accelerator.is_main_process:
            return
        baseline = self.task.baseline(batch)
        if baseline is not None:
            metrics["baseline"] = baseline
        if validation is not None:
            metrics.update(validation.metrics)
        self.files.write_metrics(metrics)
        self.progress.show(metrics)
        if validation is not None:
            self.write(f"validation after step {state.step}: {validation.summary}")
        if self.recipe.report_to:
            stages = {f"data_seconds/{stage}": value for stage, value in metrics.pop("data_seconds").items()}
            values = {name: value for name, value in metrics.items() if value is not None and name != "step"}
            self.accelerator.log({**values, **stages}, step=state.step)

    def _step_metrics(self, state: TrainState, stats: StepStats, *, learning_rate: float) -> dict[str, Any]:
        throughput = self.throughput.read(self.loader.seconds)
        epoch: float = self.loader.epoch
        if self.steps_per_epoch is not None:
            epoch = round(state.clips / self.steps_per_epoch / self.clips_per_step, 4)
        return {
            "step": state.step,
            "epoch": epoch,
            "loss": stats.loss if math.isfinite(stats.loss) else None,
            "lr": learning_rate,
            "grad_norm": stats.grad_norm if math.isfinite(stats.grad_norm) else None,
            "clips_per_second": round(throughput.clips_per_second * self.accelerator.num_processes, 3),
            "seconds": round(throughput.seconds, 3),
            "data_wait": round(throughput.data_wait, 4),
            "data_seconds": {stage: round(seconds, 4) for stage, seconds in throughput.data_seconds.items()},
            "skipped_steps": state.skipped_steps,
        }

    def _log_bad_videos(self, step: int) -> None:
        for line in self.files.write_bad_videos(step, gather_bad_videos(self.loader.bad_videos)):
            if len(self.files.bad_video_paths) <= _MAX_SHOWN_BAD_VIDEOS:
                action = _BAD_VIDEO_ACTION[self.recipe.on_bad_video]
                self.write(
                    f"warning: {line['path']} cannot be decoded ({line['reason']}) and {action}; see "
                    f"{run_files.BAD_VIDEOS_FILE}"
                )
