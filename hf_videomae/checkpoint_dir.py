"""Find and verify the checkpoints of a run: `OUTPUT_DIR/checkpoint-STEP/`, without loading a tensor."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint_checksums import find_corruption, is_state_intact
from .console import log_main
from .errors import RunError
from .run_files import read_json

STATE_FILE = "run_state.json"
FETCHED_FROM_FILE = "fetched_from.json"
STATE_FORMAT = 1
_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointError(RunError):
    """A checkpoint that is missing, incomplete, or of another model or run."""


def checkpoint_step(folder: Path) -> int | None:
    """The step in a checkpoint's name, or None for another name."""
    match = _CHECKPOINT_NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """All directories named checkpoint-STEP, oldest first, whole or not."""
    root = Path(output_dir)
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if path.is_dir() and checkpoint_step(path) is not None]
    return sorted(found, key=lambda path: checkpoint_step(path) or 0)


def incomplete_reason(checkpoint: Path, *, contents: bool = True) -> str | None:
    """Why a checkpoint is not whole, or None when it is: every file that its state names, as it was written.

    Args:
        checkpoint: the directory.
        contents: compare what the files hold, not only their sizes; checkpoints of before have no checksums, of them
            the JSON and the headers of safetensors are read.
    """
    try:
        files = (path for path in checkpoint.rglob("*") if path.is_file())
        sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
        text = None
        if STATE_FILE in sizes:
            text = (checkpoint / STATE_FILE).read_text(encoding="utf-8", errors="replace")
        fault = find_listing_error(sizes, text)
        return find_corruption(checkpoint, json.loads(text or "")) if fault is None and contents else fault
    except OSError as error:  # of a run that goes on, the oldest is dropped while it is looked at
        return f"it cannot be read: {error.strerror}: {error.filename}"


def find_listing_error(sizes: Mapping[str, int], state_text: str | None) -> str | None:
    """What is wrong with files of these sizes, by what their state file says; None: nothing."""
    if state_text is None:
        return f"it has no {STATE_FILE}"
    try:
        state = json.loads(state_text)
    except ValueError:
        return f"its {STATE_FILE} cannot be read"
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT or not isinstance(state.get("files"), dict):
        return f"its {STATE_FILE} is of another format"
    if not is_state_intact(state):
        return f"its {STATE_FILE} is damaged or was edited: its checksum does not fit"
    for name, size in state["files"].items():
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != size:
            return f"{name} has {sizes[name]} bytes instead of {size}"
    return None


def latest_checkpoint(output_dir: str | Path, *, contents: bool = True) -> Path | None:
    """The newest whole checkpoint; half-written and damaged ones are passed over, visibly."""
    for checkpoint in reversed(list_checkpoints(output_dir)):
        fault = incomplete_reason(checkpoint, contents=contents)
        if fault is None:
            return checkpoint
        log_main(f"note: {checkpoint} is not whole ({fault}) and is passed over")
    return None


def find_checkpoint(resume: str, *, output_dir: str | Path) -> Path | None:
    """The checkpoint that `--resume` means, of those on this machine (of the Hub's: `fetching`).

    Args:
        resume: `auto`, a checkpoint directory, or a directory of checkpoints.
        output_dir: where `auto` looks.

    Returns:
        the checkpoint; None when `auto` finds none yet: one command line serves the first and every later start.

    Raises:
        CheckpointError: for a directory that is no checkpoint, holds none, or is not whole.
    """
    if resume == "auto":
        return latest_checkpoint(output_dir)
    folder = Path(resume)
    if not folder.is_dir():
        raise CheckpointError(
            f"--resume {resume}: there is no such directory; give OUTPUT_DIR/checkpoint-STEP, or auto"
        )
    if checkpoint_step(folder.resolve()) is None and not (folder / STATE_FILE).exists():
        newest = latest_checkpoint(folder)
        if newest is None:
            raise CheckpointError(f"--resume {resume}: no whole checkpoint-STEP directory is in there")
        return newest
    fault = incomplete_reason(folder)
    if fault is not None:
        older = [path for path in list_checkpoints(folder.resolve().parent) if _is_older(path, folder)]
        whole = next((path for path in reversed(older) if incomplete_reason(path) is None), None)
        remedy = "give an earlier one, or auto" if whole is None else f"the newest whole one before it is {whole}"
        raise CheckpointError(f"--resume {resume}: this checkpoint is not whole: {fault}; {remedy}")
    return folder


def _is_older(path: Path, checkpoint: Path) -> bool:
    return (checkpoint_step(path) or 0) < (checkpoint_step(checkpoint.resolve()) or 0)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `run_state.json` holds: step, counters, recipe, processes, optimizer settings, files."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state


def resume_settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resumed run takes over from a checkpoint's state: its recipe, and whether it logs its samples."""
    kept = {"log_samples": True} if state.get("log_samples") else {}
    return {**state["recipe"], **kept}


def checkpoint_run_id(checkpoint: Path | None) -> str | None:
    """The id of the run that a checkpoint is of; None for a new run, or one of before there were ids."""
    found = None if checkpoint is None else read_state(checkpoint).get("run_id")
    return found if isinstance(found, str) else None


def checkpoint_source(checkpoint: Path) -> str:
    """Where a checkpoint comes from: `org/name@commit` of one that was fetched, else its path."""
    path = checkpoint / FETCHED_FROM_FILE
    if not path.exists():
        return str(checkpoint)
    origin = read_checkpoint_json(path)
    return f"{origin.get('repository')}@{origin.get('commit')}"


def read_checkpoint_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint; raise `CheckpointError` when it is damaged."""
    return read_json(path, remedy="resume from another checkpoint", kind=CheckpointError)
