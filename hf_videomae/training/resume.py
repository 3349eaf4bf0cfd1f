"""Find the checkpoint to resume from, and claim the output folder of a run."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from .. import run_files
from ..checkpoint_dir import (
    CheckpointError,
    checkpoint_run_id,
    checkpoint_step,
    find_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    read_state,
)
from ..console import is_main_process, log_main
from ..errors import RunError
from ..filesystem import check_folder_writable, create_folder, wrap_write_errors
from ..folder_lock import FolderLock, check_folder_unlocked, lock_folder
from .distributed import raise_on_all_ranks, run_on_main_process
from .hub_checkpoints import HubCheckpoint, download_checkpoint, is_hub_resume, latest_hub_checkpoint
from .recipe import AUTO, RunRecipe

_RUN_FILE_PATTERNS = (
    run_files.METRICS_FILE,
    run_files.RUN_FILE,
    run_files.LOSS_CURVE_FILE,
    run_files.BAD_VIDEOS_FILE,
    run_files.NONFINITE_FILE,
    run_files.PUBLISHED_FILE,
    "samples-*.jsonl",
    "reconstruction-*",
    run_files.EVALUATION_FILE,
    "predictions.jsonl",
    run_files.CONFUSION_FILE,
    "config.json",
    "model.safetensors",
)
_RESULT_FILES = (
    run_files.LOSS_CURVE_FILE,
    run_files.EVALUATION_FILE,
    "predictions.jsonl",
    "config.json",
    "model.safetensors",
)
"""The files that only a run with a checkpoint or a result has."""


def resolve_resume_checkpoint(recipe: RunRecipe) -> Path | None:
    """Return the checkpoint to resume from, or None for a new run.

    Raises:
        CheckpointError: if `--resume` names something that cannot be resumed, or the model is another one.
        RunError: if the output folder holds an earlier run and neither `--resume` nor `--overwrite` was given.
    """
    raise_on_all_ranks(partial(_check_output_dir, recipe), RunError)
    if recipe.resume is None:
        _check_no_previous_run(recipe)
        return None
    if is_hub_resume(recipe.resume):
        downloaded = run_on_main_process(
            partial(_resolve_hub_checkpoint, recipe), what=f"fetching a checkpoint of {recipe.resume}"
        )
        if not all(gather_object([downloaded.is_dir()])):
            raise RunError(
                f"--output_dir {recipe.output_dir} is not visible to all processes; give a shared directory"
            )
        return downloaded
    checkpoint = find_checkpoint(recipe.resume, output_dir=recipe.output_dir)
    if checkpoint is None:
        if is_fresh_restart(recipe):
            log_main(
                f"note: --resume: the run in {recipe.output_dir} was interrupted before its first checkpoint; it "
                f"starts at step 0 and replaces its files"
            )
        else:
            _check_no_previous_run(recipe)
            log_main(f"note: --resume: no checkpoint in {recipe.output_dir} yet, starting at step 0")
        return None
    _check_resume_compatible(read_state(checkpoint), recipe, name=str(checkpoint))
    _check_nothing_is_dropped(checkpoint, Path(recipe.output_dir), overwrite=recipe.overwrite)
    return checkpoint


def _check_nothing_is_dropped(checkpoint: Path, output_dir: Path, *, overwrite: bool) -> None:
    """Raise if a resume would remove another run, or later checkpoints of this one, without `--overwrite`."""
    if has_other_run(output_dir, checkpoint) and not overwrite:
        raise CheckpointError(
            f"{output_dir} holds another run than that of {checkpoint}; give another --output_dir, or --overwrite to "
            f"drop what is there"
        )
    step = checkpoint_step(checkpoint.resolve()) or 0
    later = [path for path in list_checkpoints(output_dir) if (checkpoint_step(path) or 0) > step]
    if later and checkpoint != find_checkpoint(AUTO, output_dir=output_dir) and not overwrite:
        raise CheckpointError(
            f"{output_dir} holds {later[-1].name}, later than {checkpoint.name}; resume that one, give another "
            f"--output_dir, or --overwrite to drop the later ones"
        )


def _resolve_hub_checkpoint(recipe: RunRecipe) -> Path:
    """Download the newest checkpoint of the Hub, unless the output folder has one of the same run that is as new."""
    assert recipe.resume is not None
    folder, remote = Path(recipe.output_dir), latest_hub_checkpoint(recipe.resume)
    _check_resume_compatible(remote.state, recipe, name=f"{remote.name} of {remote.repo}")
    local = None if recipe.overwrite else remote.find_local_checkpoint(folder)
    if local is not None:
        log_main(
            f"note: {local} is of the same run and no older than {remote.name} of {remote.repo}: resuming from it"
        )
        return local
    lock = lock_folder(create_folder(folder, kind=RunError), kind=RunError)
    try:
        return _download_into(folder, remote, recipe)
    except RunError:
        lock.release()
        raise


def _download_into(folder: Path, remote: HubCheckpoint, recipe: RunRecipe) -> Path:
    """Download a checkpoint of the Hub into a folder that this process has locked, unless it holds another run."""
    if remote.is_same_run(folder):
        return download_checkpoint(remote, folder)
    earlier = find_run_outputs(folder)
    if earlier and not recipe.overwrite:
        raise CheckpointError(
            f"{folder} holds another run than that of {remote.repo}; give another --output_dir, or --overwrite to "
            f"drop what is there"
        )
    _check_no_previous_run(recipe)
    return download_checkpoint(remote, folder, replacing=earlier)


def _check_resume_compatible(state: Mapping[str, Any], recipe: RunRecipe, *, name: str) -> None:
    """Raise if a run cannot continue with these settings; `name` is that of its checkpoint, for the message."""
    if recipe.task not in (None, state["task"]):
        raise CheckpointError(
            f"{name} is of a {state['task']} run, it cannot continue as {recipe.task}; start a new run from its "
            f"weights with --model"
        )
    trained = state["recipe"].get("model")
    if trained != recipe.model:
        raise CheckpointError(
            f"{name} was trained with --model {trained}, not {recipe.model}; give its --model or leave it out"
        )


def _check_output_dir(recipe: RunRecipe) -> None:
    """Raise, in the main process, if the folder cannot be written, or another run writes into it."""
    if is_main_process():
        check_folder_writable(recipe.output_dir, kind=RunError)
        check_folder_unlocked(recipe.output_dir, kind=RunError)


def is_fresh_restart(recipe: RunRecipe) -> bool:
    """Return whether `--resume` finds a run of the same task that ended before it had a checkpoint or a result.

    Its lines are removed and the run starts at step 0, so that the same command line works for every start.
    """
    folder = Path(recipe.output_dir)
    outputs = find_run_outputs(folder)
    if recipe.resume != AUTO or not outputs or any(path.name in _RESULT_FILES or path.is_dir() for path in outputs):
        return False
    run = run_files.read_run_record(folder)
    is_same_task = recipe.task is None or run.get("task", recipe.task) == recipe.task
    return run.get("status") != "finished" and is_same_task


def resolve_run_id(recipe: RunRecipe, resume: Path | None) -> str | None:
    """Return the id of the run that is resumed or restarted; None for a new one."""
    if resume is None and is_fresh_restart(recipe):
        return run_files.read_run_id(Path(recipe.output_dir))  # its Hub repository is marked with this id
    return checkpoint_run_id(resume)


def _check_no_previous_run(recipe: RunRecipe) -> None:
    folder = Path(recipe.output_dir)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--output_dir {folder} is a file; give a directory")
    if not recipe.overwrite and find_run_outputs(folder):
        found = "an earlier run; continue it with --resume"
        if recipe.resume == AUTO:
            found = "an earlier run without a complete checkpoint to resume from"
        raise RunError(f"{folder} holds {found}, start over with --overwrite, or give another --output_dir")


def find_run_outputs(folder: Path) -> list[Path]:
    """Return the files and checkpoints that an earlier run left in an output folder."""
    files = [path for pattern in _RUN_FILE_PATTERNS for path in folder.glob(pattern)]
    return [*files, *list_checkpoints(folder)]


def has_other_run(folder: Path, checkpoint: Path) -> bool:
    """Return whether an output folder holds another run than the one of a checkpoint from elsewhere."""
    if checkpoint.resolve().parent == folder.resolve() or not find_run_outputs(folder):
        return False
    return checkpoint_run_id(checkpoint) not in (
        run_files.read_run_id(folder),
        checkpoint_run_id(latest_checkpoint(folder)),
    )


def prepare_output_dir(output_dir: Path, *, resume: Path | None, step: int) -> FolderLock:
    """Lock the output folder for this run, and remove what the run does not continue: its first write.

    Called in the main process.

    Args:
        output_dir: created if it is missing.
        resume: the checkpoint to resume from; None: a new run, all earlier files are removed.
        step: the step to resume from: later checkpoints and lines are removed.

    Raises:
        RunError: if another run uses the folder, or it cannot be written; nothing in it is changed then.
    """
    create_folder(output_dir, kind=RunError)
    with wrap_write_errors("the run", output_dir, kind=RunError):
        lock = lock_folder(output_dir, kind=RunError)
        if resume is None or has_other_run(output_dir, resume):
            obsolete = find_run_outputs(output_dir)
        else:
            obsolete = [path for path in list_checkpoints(output_dir) if (checkpoint_step(path) or 0) > step]
        for path in obsolete:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        # There may be files of ranks that this run no longer has.
        for path in output_dir.glob("samples-*.jsonl"):
            run_files.JsonlWriter(path, truncate_after=step)
    return lock
