"""Find and verify the checkpoints of a run, `OUTPUT_DIR/checkpoint-STEP/`, without loading a tensor."""

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
    """Return the step in the name of a checkpoint, or None for another name."""
    match = _CHECKPOINT_NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Return all folders named checkpoint-STEP, complete or not, sorted by step."""
    root = Path(output_dir)
    if not root.is_dir():
        return []
    checkpoints = [path for path in root.iterdir() if path.is_dir() and checkpoint_step(path) is not None]
    return sorted(checkpoints, key=lambda path: checkpoint_step(path) or 0)


def incomplete_reason(checkpoint: Path, *, contents: bool = True) -> str | None:
    """Return why a checkpoint is incomplete or damaged; None if it has every file that its state names.

    Args:
        checkpoint: its folder.
        contents: compare the contents of the files with their checksums, not only the sizes. In older checkpoints,
            which have no checksums, the JSON files and the headers of safetensors are read instead.
    """
    try:
        files = (path for path in checkpoint.rglob("*") if path.is_file())
        sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
        text = None
        if STATE_FILE in sizes:
            text = (checkpoint / STATE_FILE).read_text(encoding="utf-8", errors="replace")
        reason = find_listing_error(sizes, text)
        return find_corruption(checkpoint, json.loads(text or "")) if reason is None and contents else reason
    except OSError as error:  # a running training may remove its oldest checkpoint in the meantime
        return f"it cannot be read: {error.strerror}: {error.filename}"


def find_listing_error(sizes: Mapping[str, int], state_text: str | None) -> str | None:
    """Return how files of these sizes disagree with the text of their state file; None if they agree."""
    if state_text is None:
        return f"it has no {STATE_FILE}"
    try:
        state = json.loads(state_text)
    except ValueError:
        return f"its {STATE_FILE} cannot be read"
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT or not isinstance(state.get("files"), dict):
        return f"its {STATE_FILE} is of another format"
    if not is_state_intact(state):
        return f"its {STATE_FILE} is damaged or was edited: its checksum does not match"
    for name, size in state["files"].items():
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != size:
            return f"{name} has {sizes[name]} bytes instead of {size}"
    return None


def latest_checkpoint(output_dir: str | Path, *, contents: bool = True) -> Path | None:
    """Return the newest complete checkpoint, or None; print a note for each incomplete or damaged one."""
    for checkpoint in reversed(list_checkpoints(output_dir)):
        reason = incomplete_reason(checkpoint, contents=contents)
        if reason is None:
            return checkpoint
        log_main(f"note: {checkpoint} is incomplete ({reason}) and is skipped")
    return None


def find_checkpoint(resume: str, *, output_dir: str | Path) -> Path | None:
    """Return the local checkpoint that `--resume` names.

    Args:
        resume: `auto`, a checkpoint, or a folder of checkpoints.
        output_dir: where `auto` looks.

    Returns:
        the checkpoint; None if `auto` finds none yet, so that the same command line works for every start.

    Raises:
        CheckpointError: for a folder that is not a checkpoint, holds none, or is incomplete.
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
            raise CheckpointError(f"--resume {resume}: it holds no complete checkpoint-STEP directory")
        return newest
    reason = incomplete_reason(folder)
    if reason is not None:
        step = checkpoint_step(folder.resolve()) or 0
        older = [path for path in list_checkpoints(folder.resolve().parent) if (checkpoint_step(path) or 0) < step]
        complete = next((path for path in reversed(older) if incomplete_reason(path) is None), None)
        remedy = "give an earlier one, or auto"
        if complete is not None:
            remedy = f"the newest complete one before it is {complete}"
        raise CheckpointError(f"--resume {resume}: this checkpoint is incomplete: {reason}; {remedy}")
    return folder


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read `run_state.json` of a checkpoint: step, counters, recipe, number of processes, files."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state


def resume_settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a resumed run takes from a checkpoint: its recipe, and whether it logs its samples."""
    kept = {"log_samples": True} if state.get("log_samples") else {}
    return {**state["recipe"], **kept}


def checkpoint_run_id(checkpoint: Path | None) -> str | None:
    """Return the id of the run that wrote a checkpoint; None for a new run, or an older one without an id."""
    run_id = None if checkpoint is None else read_state(checkpoint).get("run_id")
    return run_id if isinstance(run_id, str) else None


def checkpoint_source(checkpoint: Path) -> str:
    """Return where a checkpoint comes from: `org/name@commit` if it was downloaded, else its path."""
    path = checkpoint / FETCHED_FROM_FILE
    if not path.exists():
        return str(checkpoint)
    origin = read_checkpoint_json(path)
    return f"{origin.get('repository')}@{origin.get('commit')}"


def read_checkpoint_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint; raise `CheckpointError` when it is damaged."""
    return read_json(path, remedy="resume from another checkpoint", kind=CheckpointError)
