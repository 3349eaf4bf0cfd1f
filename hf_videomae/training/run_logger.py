"""Report a run while it trains: in its files, to the trackers, and to the user."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from .. import run_files
from ..video import hdr
from .progress import ProgressBar, ThroughputMeter
from .recipe import RunRecipe
from .task import Batch, Task, TrainLoader, ValidationResult
from .train_state import StepStats, TrainState

_MAX_SHOWN_BAD_VIDEOS = 3
_BAD_VIDEO_ACTION = {"replace": "is replaced", "skip": "is left out", "raise": "ends the run"}


class RunLogger:
    """Report steps and undecodable videos. Called in all processes.

    The main process writes metrics.jsonl, nonfinite.jsonl and bad_videos.jsonl; with `log_samples`, each process
    writes samples-RANK.jsonl.

    Args:
        recipe: settings of the run; its output folder exists.
        accelerator: of the run.
        task: gives the baseline.
        loader: gives the epoch, the undecodable videos and the time of each loading stage.
        steps_per_epoch: steps of one pass over the data; None if unknown.
        truncate_after: the step to resume from: lines of later steps are dropped. None: start with empty files.

    Attributes:
        throughput: measures clips per second and the wait for data.
        progress: the bar or the lines on the terminal; set by `start`.
        bad_video_paths: undecodable videos so far, in the main process.
    """

    progress: ProgressBar

    def __init__(
        self,
        recipe: RunRecipe,
        *,
        accelerator: Accelerator,
        task: Task,
        loader: TrainLoader,
        steps_per_epoch: int | None,
        truncate_after: int | None,
    ) -> None:
        self.recipe, self.accelerator, self.task, self.loader = recipe, accelerator, task, loader
        self.clips_per_step = recipe.clips_per_step(accelerator.num_processes)
        self.steps_per_epoch = steps_per_epoch
        self.throughput = ThroughputMeter()
        self.bad_video_paths: set[str] = set()
        self._bad_videos_path = Path(recipe.output_dir) / run_files.BAD_VIDEOS_FILE

        def open_lines(name: str) -> run_files.JsonlWriter:
            return run_files.JsonlWriter(Path(recipe.output_dir) / name, truncate_after=truncate_after)

        if recipe.log_samples:
            self._samples = open_lines(f"samples-{accelerator.process_index}.jsonl")
        if accelerator.is_main_process:
            self._metrics = open_lines(run_files.METRICS_FILE)
            self._nonfinite = open_lines(run_files.NONFINITE_FILE)
            open_lines(run_files.BAD_VIDEOS_FILE)
            self.bad_video_paths = self._recorded_bad_videos()

    def start(self, *, total_steps: int, step: int) -> None:
        """Show the progress from this step on, and measure throughput from now on."""
        self.progress = ProgressBar(total_steps, start=step)
        self.throughput.read(self.loader.seconds)

    def count_step(self, step: int, sample_ids: list[str]) -> None:
        """Count a step in the progress; write what this process trained on in it, if the recipe says so."""
        self.progress.advance()
        self.throughput.count(len(sample_ids))
        if self.recipe.log_samples:
            self._samples.write({"step": step, "sample_ids": sample_ids})

    def log_nonfinite(self, values: dict[str, Any], *, warning: str) -> None:
        """Write a step that was not applied, with its samples, and warn the user."""
        if self.accelerator.is_main_process:
            self._nonfinite.write(values)
        self.progress.write(f"warning: {warning}")

    def log_step(
        self,
        state: TrainState,
        stats: StepStats,
        *,
        learning_rate: float,
        batch: Batch,
        validation: ValidationResult | None,
    ) -> None:
        """Write a line of metrics.jsonl, and report it to the trackers and the user."""
        self._log_bad_videos(state.step)
        metrics = self._step_metrics(state, stats, learning_rate=learning_rate)
        if not self.accelerator.is_main_process:
            return
        baseline = self.task.baseline(batch)
        if baseline is not None:
            metrics["baseline"] = baseline
        if validation is not None:
            metrics.update(validation.metrics)
        self._metrics.write(metrics)
        self.progress.show(metrics)
        if validation is not None:
            self.progress.write(f"validation after step {state.step}: {validation.summary}")
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
        """Record the undecodable videos of all processes."""
        for names in gather_object([hdr.hdr_counter.names()]):
            hdr.hdr_counter.add(names)  # the main process reports the HDR videos of all
        lines = gather_object(list(self.loader.bad_videos))
        if self.accelerator.is_main_process:
            self._record_bad_videos(step, lines, warn=True)

    def flush_bad_videos(self, step: int) -> None:
        """Record the undecodable videos of this process when it fails and the main process cannot gather them."""
        if not self.accelerator.is_main_process:
            self.bad_video_paths = self._recorded_bad_videos()
        self._record_bad_videos(step, self.loader.bad_videos, warn=False)

    def _record_bad_videos(self, step: int, lines: Iterable[dict[str, Any]], *, warn: bool) -> None:
        """Write videos to bad_videos.jsonl, each one once, and warn about the first few."""
        for line in lines:
            if line["path"] in self.bad_video_paths:
                continue
            self.bad_video_paths.add(line["path"])
            run_files.append_jsonl(self._bad_videos_path, {"step": step, **line})
            if warn and len(self.bad_video_paths) <= _MAX_SHOWN_BAD_VIDEOS:
                action = _BAD_VIDEO_ACTION[self.recipe.on_bad_video]
                self.progress.write(
                    f"warning: {line['path']} cannot be decoded ({line['reason']}) and {action}; see "
                    f"{run_files.BAD_VIDEOS_FILE}"
                )

    def _recorded_bad_videos(self) -> set[str]:
        return {line["path"] for line in run_files.read_jsonl(self._bad_videos_path)}
