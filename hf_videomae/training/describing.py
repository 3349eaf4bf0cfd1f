"""What a run says of itself: its plan, what a resumed run changed, its result, and the facts in `run.json`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..cards import public_path
from ..stopping import name_of
from . import report
from .errors import say
from .journal import best_validation, data_times, summary
from .optim import CosineSchedule
from .preparation import describe_work
from .progress import hdr_notes, tell_data
from .recipes import RunRecipe, changes

_CLIPS_PER_STEP = ("batch_size", "gradient_accumulation")


def announce_plan(
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
    say(f"{schedule.total_steps} steps{epochs}, warm-up {schedule.warmup_steps} steps")
    shares = f"{recipe.batch_size} x {recipe.gradient_accumulation} accumulated x {processes} processes"
    rate = f"{recipe.base_lr:g} x {clips_per_step} / 256 = {schedule.peak:.4g}, floor {schedule.floor:.3g}"
    say(f"{clips_per_step} clips per step ({shares}), learning rate {rate}")
    for line in describe_work(recipe, device=device):
        say(line)
    if recipe.tuned_batch is not None and clips_per_step < recipe.tuned_batch / 2:
        passes = math.ceil(recipe.gradient_accumulation * recipe.tuned_batch / clips_per_step)
        say(
            f"warning: this recipe was made for {recipe.tuned_batch} clips per step; {clips_per_step} will not reach "
            f"its number, --gradient_accumulation {passes} makes up for it"
        )


def announce_changes(
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
    different = changes(before, recipe.identity())
    if processes != state["processes"]:
        say(
            f"note: {processes} {'process goes' if processes == 1 else 'processes go'} on where "
            f"{state['processes']} stood: no sample is left out or repeated, but drop path, dropout and mixup "
            f"draw other numbers"
        )
        if clips == clips_per_step:
            # Another way to the same number of clips.
            different = {name: pair for name, pair in different.items() if name not in _CLIPS_PER_STEP}
    if clips != clips_per_step:
        keeping = f"; --batch_size {clips // processes} keeps all of it" if clips % processes == 0 else ""
        say(
            f"note: a step had {clips} clips and has {clips_per_step} from here on, in "
            f"{total_steps} steps in all, and the learning rate goes with it"
            + (keeping if recipe.gradient_accumulation == 1 else "")
        )
    for name, (earlier, now) in different.items():
        say(f"note: {name} was {earlier} and is {now} from here on: this is not the run that was interrupted")


def title_of(task: str, recipe: RunRecipe) -> str:
    """Return the title of the loss picture, which is published: without the folders of this machine."""
    data = [recipe.dataset] if isinstance(recipe.dataset, str) else recipe.dataset
    return f"{task}: {public_path(recipe.model)} on {' + '.join(map(public_path, data))}"


def announce_result(output_dir: Path, *, step: int, baseline_name: str | None, num_workers: int) -> None:
    """Print the final loss, the best validation, and how long the run waited for its data."""
    loss, baseline = summary(output_dir)
    if loss is not None and baseline:
        share = 100 * abs(1 - loss / baseline)
        place = f"{share:.1f} % {'under' if loss < baseline else 'over'} {baseline:.4f}"
        say(f"final loss {loss:.4f}, {place} ({baseline_name})")
    best = best_validation(output_dir)
    if best is not None and best["step"] != step:
        say(f"the best validation was after step {best['step']}: top-1 {best['top1']:.4f}; saved is the last step")
    for line in hdr_notes() + tell_data(*data_times(output_dir), num_workers=num_workers):
        say(line)
    say(f"model, {report.METRICS_FILE} and {report.PICTURE_FILE} are in {output_dir}")


def announce_stop(output_dir: Path, *, number: int, step: int, of: int, saved: bool) -> None:
    """Print where a run stopped before its last step, and how it continues; `number` is of the signal, or 0."""
    reason = f"stopped by {name_of(number)}" if number else "stopped"
    kept = f"saved checkpoint-{step}" if saved else "there is nothing to save yet"
    say(f"{reason} after step {step} of {of}; {kept}. Go on with: --output_dir {output_dir} --resume")


def run_facts_of(output_dir: Path, *, processes: int, device: torch.device) -> dict[str, Any]:
    """Return what `run.json` holds that its files and this machine tell."""
    loss, baseline = summary(output_dir)
    data_wait, data_seconds = data_times(output_dir)
    return {
        "data_wait": data_wait,
        "data_seconds": data_seconds,
        "loss": loss,
        "baseline": baseline,
        "best_validation": best_validation(output_dir),
        "hardware": report.hardware(processes, device),
        "versions": report.versions(),
        "updated": report.now(),
    }
