"""What a run says of itself: its plan, what a resumed run changed, its result, and the facts in `run.json`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .. import provenance, run_files
from ..cards import redact_path
from ..console import log_main
from ..stop_signals import signal_name
from .optim import CosineSchedule
from .progress import describe_data_wait, hdr_video_notes
from .recipe import RunRecipe, changed_settings
from .run_logger import best_validation, data_loading_times, summary
from .run_setup import describe_compute

_CLIPS_PER_STEP = ("batch_size", "gradient_accumulation")


def log_run_plan(
    recipe: RunRecipe,
    *,
    schedule: CosineSchedule,
    steps_per_epoch: int | None,
    processes: int,
    clips_per_step: int,
    device: torch.device,
) -> None:
    """Print the length of the run, its learning rate, and who computes and decodes."""
    epochs = ""
    if steps_per_epoch is not None:
        epochs = f", {schedule.total_steps / steps_per_epoch:.1f} epochs of {steps_per_epoch} steps"
    log_main(f"{schedule.total_steps} steps{epochs}, warm-up {schedule.warmup_steps} steps")
    shares = f"{recipe.batch_size} x {recipe.gradient_accumulation} accumulated x {processes} processes"
    rate = f"{recipe.base_lr:g} x {clips_per_step} / 256 = {schedule.peak:.4g}, floor {schedule.floor:.3g}"
    log_main(f"{clips_per_step} clips per step ({shares}), learning rate {rate}")
    for line in describe_compute(recipe, device=device):
        log_main(line)
    if recipe.tuned_batch is not None and clips_per_step < recipe.tuned_batch / 2:
        passes = math.ceil(recipe.gradient_accumulation * recipe.tuned_batch / clips_per_step)
        log_main(
            f"warning: this recipe was made for {recipe.tuned_batch} clips per step; {clips_per_step} will not reach "
            f"its number, --gradient_accumulation {passes} makes up for it"
        )


def log_recipe_changes(
    state: Mapping[str, Any], recipe: RunRecipe, *, processes: int, clips_per_step: int, total_steps: int
) -> None:
    """Print what of a resumed run is not as it was.

    Args:
        state: of its checkpoint.
        recipe: of now, as is what follows.
        processes: that train.
        clips_per_step: of all processes.
        total_steps: of the run.
    """
    before = state["recipe"]
    clips = before["batch_size"] * before["gradient_accumulation"] * state["processes"]
    different = changed_settings(before, recipe.numeric_settings())
    if processes != state["processes"]:
        log_main(
            f"note: {processes} {'process goes' if processes == 1 else 'processes go'} on where "
            f"{state['processes']} stood: no sample is left out or repeated, but drop path, dropout and mixup "
            f"draw other numbers"
        )
        if clips == clips_per_step:
            # Another way to the same number of clips.
            different = {name: pair for name, pair in different.items() if name not in _CLIPS_PER_STEP}
    if clips != clips_per_step:
        keeping = f"; --batch_size {clips // processes} keeps all of it" if clips % processes == 0 else ""
        log_main(
            f"note: a step had {clips} clips and has {clips_per_step} from here on, in "
            f"{total_steps} steps in all, and the learning rate goes with it"
            + (keeping if recipe.gradient_accumulation == 1 else "")
        )
    for name, (earlier, now) in different.items():
        log_main(f"note: {name} was {earlier} and is {now} from here on: this is not the run that was interrupted")


def loss_curve_title(task: str, recipe: RunRecipe) -> str:
    """Return the title of the loss picture, which is published: without the folders of this machine."""
    data = [recipe.dataset] if isinstance(recipe.dataset, str) else recipe.dataset
    return f"{task}: {redact_path(recipe.model)} on {' + '.join(map(redact_path, data))}"


def log_train_result(output_dir: Path, *, step: int, baseline_name: str | None, num_workers: int) -> None:
    """Print the final loss, the best validation, and how long the run waited for its data."""
    loss, baseline = summary(output_dir)
    if loss is not None and baseline:
        share = 100 * abs(1 - loss / baseline)
        place = f"{share:.1f} % {'under' if loss < baseline else 'over'} {baseline:.4f}"
        log_main(f"final loss {loss:.4f}, {place} ({baseline_name})")
    best = best_validation(output_dir)
    if best is not None and best["step"] != step:
        log_main(
            f"the best validation was after step {best['step']}: top-1 {best['top1']:.4f}; saved is the last step"
        )
    for line in hdr_video_notes() + describe_data_wait(*data_loading_times(output_dir), num_workers=num_workers):
        log_main(line)
    log_main(f"model, {run_files.METRICS_FILE} and {run_files.LOSS_CURVE_FILE} are in {output_dir}")


def log_stop(output_dir: Path, *, number: int, step: int, of: int, saved: bool) -> None:
    """Print where a run stopped before its last step, and how it continues; `number` is of the signal, or 0."""
    reason = f"stopped by {signal_name(number)}" if number else "stopped"
    kept = f"saved checkpoint-{step}" if saved else "there is nothing to save yet"
    log_main(f"{reason} after step {step} of {of}; {kept}. Go on with: --output_dir {output_dir} --resume")


def collect_result_metadata(output_dir: Path, *, processes: int, device: torch.device) -> dict[str, Any]:
    """Return what `run.json` holds that its files and this machine tell."""
    loss, baseline = summary(output_dir)
    data_wait, data_seconds = data_loading_times(output_dir)
    return {
        "data_wait": data_wait,
        "data_seconds": data_seconds,
        "loss": loss,
        "baseline": baseline,
        "best_validation": best_validation(output_dir),
        "hardware": provenance.describe_hardware(processes, device),
        "versions": provenance.package_versions(),
        "updated": provenance.utc_timestamp(),
    }
