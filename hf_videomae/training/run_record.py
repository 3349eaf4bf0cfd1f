"""Write `run.json`: what a run was asked to do, how far it is, and what it reached; read back what it logged."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from .. import provenance, run_files
from ..checkpoint_dir import checkpoint_source
from ..errors import RunError
from ..filesystem import wrap_write_errors
from . import loss_curve
from .lineage_record import LINEAGE_KEY, lineage_fields
from .optim import CosineSchedule
from .recipe import RunRecipe
from .task import Task
from .train_state import TrainState


class RunRecord:
    """The record of a run, in `run.json` and in its checkpoints. Made when the run starts or resumes.

    Args:
        recipe: settings of the run.
        accelerator: of the run.
        task: what is trained.
        run_id: identifies the run, also on the Hub and after a resume.
        schedule: length and learning rate.
        resume: the checkpoint to resume from; None: a new run.
    """

    def __init__(
        self,
        recipe: RunRecipe,
        *,
        accelerator: Accelerator,
        task: Task,
        run_id: str,
        schedule: CosineSchedule,
        resume: Path | None,
    ) -> None:
        self.recipe, self.accelerator, self.task = recipe, accelerator, task
        self.run_id, self.schedule, self.output_dir = run_id, schedule, Path(recipe.output_dir)
        self._resumed_from = None if resume is None else checkpoint_source(resume)
        self._start_time, self._started_at = time.time(), provenance.utc_timestamp()

    def total_seconds(self, state: TrainState) -> float:
        """Return how long the run has trained, over its interruptions."""
        return round(state.seconds + time.time() - self._start_time, 1)

    def write(self, status: str, state: TrainState, *, num_bad_videos: int) -> None:
        """Write `run.json`, in the main process.

        Args:
            status: running, stopped, finished or failed.
            state: how far the run is.
            num_bad_videos: how many videos could not be decoded.

        Raises:
            RunError: if the disk does not accept it.
        """
        if not self.accelerator.is_main_process:
            return
        with wrap_write_errors(run_files.RUN_FILE, self.output_dir, kind=RunError):
            content = self._content(status, state, num_bad_videos=num_bad_videos)
            run_files.write_json(self.output_dir / run_files.RUN_FILE, content)

    def _content(self, status: str, state: TrainState, *, num_bad_videos: int) -> dict[str, Any]:
        loss, baseline = final_loss_and_baseline(self.output_dir)
        data_wait, data_seconds = data_loading_times(self.output_dir)
        return {
            "run_id": self.run_id,
            "status": status,
            "task": self.task.name,
            "command": provenance.redacted_command_line(),
            "recipe": self.recipe.as_dict(),
            **self.task.run_metadata(),
            "steps": state.step,
            "total_steps": self.schedule.total_steps,
            "clips": state.clips,
            "skipped_steps": state.skipped_steps,
            "bad_videos": num_bad_videos,
            "baseline_is": self.task.baseline_name,
            "learning_rate": self.schedule.peak,
            "started": self._started_at,
            "seconds": self.total_seconds(state),
            "resumed_from": self._resumed_from,
            "data_wait": data_wait,
            "data_seconds": data_seconds,
            "loss": loss,
            "baseline": baseline,
            "best_validation": best_validation(self.output_dir),
            "hardware": provenance.describe_hardware(self.accelerator.num_processes, self.accelerator.device),
            "versions": provenance.package_versions(),
            "updated": provenance.utc_timestamp(),
        }

    def checkpoint_state(self, state: TrainState) -> dict[str, Any]:
        """Return what `run_state.json` of a checkpoint says about the run; its step and files come from elsewhere."""
        is_main = self.accelerator.is_main_process
        return {
            **asdict(state),
            "run_id": self.run_id,
            "task": self.task.name,
            "processes": self.accelerator.num_processes,
            "recipe": self.recipe.numeric_settings(),
            "log_samples": self.recipe.log_samples,
            "seconds": self.total_seconds(state),
            LINEAGE_KEY: lineage_fields(self.task.run_metadata()) if is_main else {},
        }


def final_loss_and_baseline(output_dir: Path) -> tuple[float | None, float | None]:
    """Return the mean loss over the last twentieth of the logged steps, and the mean baseline over all of them."""
    lines = run_files.read_jsonl(output_dir / run_files.METRICS_FILE)
    last = lines[-max(1, len(lines) // 20) :]
    loss = loss_curve.mean_ignoring_none(line["loss"] for line in last)
    return loss, loss_curve.mean_ignoring_none(line.get("baseline") for line in lines)


def data_loading_times(output_dir: Path) -> tuple[float, dict[str, float]]:
    """Return the fraction of time that the main process waited for data, and the seconds of each loading stage.

    Both cover the whole run, over its interruptions.
    """
    lines = [line for line in run_files.read_jsonl(output_dir / run_files.METRICS_FILE) if "data_seconds" in line]
    seconds = sum(line["seconds"] for line in lines)
    waited = sum(line["seconds"] * line["data_wait"] for line in lines)
    stages: dict[str, float] = {}
    for line in lines:
        stages.update({stage: stages.get(stage, 0.0) + value for stage, value in line["data_seconds"].items()})
    return round(waited / max(seconds, 1e-9), 4), {stage: round(value, 3) for stage, value in stages.items()}


def best_validation(output_dir: Path) -> dict[str, Any] | None:
    """Return step and top-1 accuracy of the best validation, the last one of equals; None without a top-1."""
    history = run_files.validation_history(run_files.read_jsonl(output_dir / run_files.METRICS_FILE))
    if not history:
        return None
    step, accuracy = max(reversed(history), key=lambda pair: pair[1])
    return {"step": step, "top1": accuracy}
