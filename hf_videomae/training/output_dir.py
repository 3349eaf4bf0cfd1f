"""The output directory of a run: taken for it, and cleared of what it does not go on from."""

import shutil
from pathlib import Path

from .. import run_files
from ..checkpoint_dir import checkpoint_step, list_checkpoints
from ..errors import RunError
from ..filesystem import create_folder, wrap_write_errors
from ..folder_lock import FolderLock, lock_folder
from .run_setup import find_run_outputs, has_other_run


def prepare_output_dir(output_dir: Path, *, resume: Path | None, step: int) -> FolderLock:
    """Take the output directory for this run, in its first process: its first write.

    Args:
        output_dir: made where it is missing.
        resume: the checkpoint that the run goes on from; None: it starts anew, and earlier files go.
        step: that it goes on from: later checkpoints and lines go.

    Raises:
        RunError: when another run has it, or it cannot be written; nothing in it is changed then.
    """
    create_folder(output_dir, kind=RunError)
    with wrap_write_errors("the run", output_dir, kind=RunError):
        lock = lock_folder(output_dir, kind=RunError)
        if resume is None or has_other_run(output_dir, resume):
            gone = find_run_outputs(output_dir)
        else:
            gone = [path for path in list_checkpoints(output_dir) if (checkpoint_step(path) or 0) > step]
        for path in gone:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        # Those of processes that are no more have no other keeper.
        for path in output_dir.glob("samples-*.jsonl"):
            run_files.JsonlWriter(path, truncate_after=step)
    return lock
