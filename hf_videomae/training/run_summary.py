"""Print what a run is about to do, what a resumed run changed, and how a run ended."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import run_files
from ..cards import redact_path
from ..console import log_main
from ..data import describe_epoch, describe_shards, describe_source, source_notes
from ..stop_signals import signal_name
from .distributed import available_cores, local_world_size
from .optim import CosineSchedule
from .progress import describe_data_wait, hdr_video_notes
from .recipe import RunRecipe, changed_settings
from .run_record import best_validation, data_loading_times, final_loss_and_baseline

if TYPE_CHECKING:
    from ..data.source import AnyData

_CLIPS_PER_STEP = ("batch_size", "gradient_accumulation")


def log_data_summary(source: "AnyData", *, processes: int) -> None:
    """Print the data, the length of an epoch, and which processes read which shards, if there is anything to say."""
    for line in (describe_source(source), describe_epoch(source), *describe_shards(source, processes=processes)):
        if line is not None:
            log_main(line)
    for note in source_notes(source):
        log_main(f"note: {note}")


def log_run_plan(
    recipe: RunRecipe, *, schedule: CosineSchedule, steps_per_epoch: int | None, processes: int, device: torch.device
) -> None:
    """Print the length of the run, its learning rate, and who computes and decodes."""
    clips_per_step = recipe.clips_per_step(processes)
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
            f"warning: this recipe was made for {recipe.tuned_batch} clips per step; with {clips_per_step} it will "
            f"not reach its number; --gradient_accumulation {passes} gives as many"
        )


def describe_compute(recipe: RunRecipe, *, device: torch.device) -> list[str]:
    """Return lines that say which processes compute and which decode on this machine."""
    cores, processes, workers = available_cores(), local_world_size(), recipe.num_workers
    computes = f"computes on {device.type}"
    if device.type == "cpu":
        computes = f"computes in {_pluralize(torch.get_num_threads(), 'thread')}"
    decodes = f"{_pluralize(workers, 'worker')} of one thread {'decodes' if workers == 1 else 'each decode'} for it"
    who = "the process" if processes == 1 else f"each of {processes} processes"
    lines = [f"{_pluralize(cores, 'core')}: {who} {computes}, {decodes if workers else 'and decodes in between'}"]
    if workers * processes > max(cores, processes):
        fitting = max(1, cores // processes)
        lines.append(
            f"note: {workers * processes} workers share {_pluralize(cores, 'core')}; with --num_workers {fitting} "
            f"each has its own"
        )
    return lines


def _pluralize(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def log_recipe_changes(saved: Mapping[str, Any], recipe: RunRecipe, *, processes: int, total_steps: int) -> None:
    """Print what has changed since the run was interrupted.

    Args:
        saved: content of `run_state.json` of the checkpoint.
        recipe: settings of the resumed run.
        processes: number of training processes now.
        total_steps: length of the run.
    """
    before, clips_per_step = saved["recipe"], recipe.clips_per_step(processes)
    clips = before["batch_size"] * before["gradient_accumulation"] * saved["processes"]
    different = changed_settings(before, recipe.numeric_settings())
    if processes != saved["processes"]:
        now = f"{processes} {'process' if processes == 1 else 'processes'}"
        log_main(
            f"note: {now} now, {saved['processes']} before: no sample is skipped or repeated, but drop path, dropout "
            f"and mixup draw other random numbers"
        )
        if clips == clips_per_step:
            # The step has the same number of clips as before, distributed in another way.
            different = {name: pair for name, pair in different.items() if name not in _CLIPS_PER_STEP}
    if clips != clips_per_step:
        remedy = f"; --batch_size {clips // processes} keeps all of it" if clips % processes == 0 else ""
        log_main(
            f"note: a step had {clips} clips and has {clips_per_step} from here on, in {total_steps} steps in all, "
            f"and the learning rate is scaled accordingly" + (remedy if recipe.gradient_accumulation == 1 else "")
        )
    for name, (earlier, now) in different.items():
        log_main(f"note: {name} was {earlier} and is {now} from here on: this is not the run that was interrupted")


def loss_curve_title(task: str, recipe: RunRecipe) -> str:
    """Return the title of the loss curve, without folders of this machine, because the image is published."""
    data = [recipe.dataset] if isinstance(recipe.dataset, str) else recipe.dataset
    return f"{task}: {redact_path(recipe.model)} on {' + '.join(map(redact_path, data))}"


def log_train_result(output_dir: Path, *, step: int, baseline_name: str | None, num_workers: int) -> None:
    """Print the final loss, the best validation, and how long the run waited for its data."""
    loss, baseline = final_loss_and_baseline(output_dir)
    if loss is not None and baseline:
        percent = 100 * abs(1 - loss / baseline)
        comparison = f"{percent:.1f} % {'under' if loss < baseline else 'over'} {baseline:.4f}"
        log_main(f"final loss {loss:.4f}, {comparison} ({baseline_name})")
    best = best_validation(output_dir)
    if best is not None and best["step"] != step:
        log_main(
            f"the best validation was after step {best['step']}: top-1 {best['top1']:.4f}; the saved model is that of "
            f"the last step"
        )
    for line in hdr_video_notes() + describe_data_wait(*data_loading_times(output_dir), num_workers=num_workers):
        log_main(line)
    log_main(f"model, {run_files.METRICS_FILE} and {run_files.LOSS_CURVE_FILE} are in {output_dir}")


def log_stop(output_dir: Path, *, signal_number: int, step: int, total_steps: int, saved: bool) -> None:
    """Print where a run stopped before its last step and how to continue it; `signal_number` is 0 without a signal."""
    reason = f"stopped by {signal_name(signal_number)}" if signal_number else "stopped"
    kept = f"saved checkpoint-{step}" if saved else "there is nothing to save yet"
    log_main(f"{reason} after step {step} of {total_steps}; {kept}. Continue with: --output_dir {output_dir} --resume")
