"""The output directory of a run: taken for it, and cleared of what it does not go on from."""

import shutil
from pathlib import Path

from ..locking import FolderLock, take_folder
from ..storage import make_folder, writing
from . import report
from .checkpoints import list_checkpoints, step_of
from .errors import RunError
from .preparation import earlier_files, holds_another_run


def claim(output_dir: Path, *, resume: Path | None, step: int) -> FolderLock:
    """Take the output directory for this run, in its first process: its first write.

    Args:
        output_dir: made where it is missing.
        resume: the checkpoint that the run goes on from; None: it starts anew, and earlier files go.
        step: that it goes on from: later checkpoints and lines go.

    Raises:
        RunError: when another run has it, or it cannot be written; nothing in it is changed then.
    """
    make_folder(output_dir, kind=RunError)
    with writing("the run", output_dir, kind=RunError):
        lock = take_folder(output_dir, kind=RunError)
        if resume is None or holds_another_run(output_dir, resume):
            gone = earlier_files(output_dir)
        else:
            gone = [path for path in list_checkpoints(output_dir) if (step_of(path) or 0) > step]
        for path in gone:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        # Those of processes that are no more have no other keeper.
        for path in output_dir.glob("samples-*.jsonl"):
            report.JsonLines(path, keep_until=step)
    return lock
