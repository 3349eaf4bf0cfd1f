"""Write and read the files of a run: JSON and JSON lines, each file complete or absent.

`metrics.jsonl`, `run.json` and the others are in the output folder of the run; publishing and cards read them there.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import RunError
from .filesystem import replace_durably, wrap_write_errors
from .text import escape_non_utf8

METRICS_FILE = "metrics.jsonl"
RUN_FILE = "run.json"
LOSS_CURVE_FILE = "loss.png"
BAD_VIDEOS_FILE = "bad_videos.jsonl"
EVALUATION_FILE = "evaluation.json"
CONFUSION_FILE = "confusion.png"
NONFINITE_FILE = "nonfinite.jsonl"
PUBLISHED_FILE = "published.jsonl"
ACCURACY_KEY = "eval_top1"
"""Key of a validation's accuracy in `metrics.jsonl`."""
STATE_BRANCH = "training-state"
"""The branch of a model repository that holds checkpoints with the state of the run."""


def write_atomic(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file so that it is complete or absent; with `sync`, even after a power cut."""
    temporary = path.with_name(path.name + ".unfinished")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(escape_non_utf8(text))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        (replace_durably if sync else os.replace)(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is None:  # on a full disk
            error.filename = str(path)
        raise


def write_json(path: Path, values: dict[str, Any], *, sync: bool = True) -> None:
    """Write a JSON file so that it is complete or absent; with `sync`, even after a power cut."""
    write_atomic(path, json.dumps(values, indent=2) + "\n", sync=sync)


def read_json(path: Path, *, remedy: str, kind: type[ValueError] = ValueError) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the file.
        remedy: what to do if it is damaged.
        kind: type of the error.

    Raises:
        ValueError: of the `kind`, naming the file, if it holds something else.
    """
    values = None
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise kind(f"{path} is damaged: it is not a JSON object; {remedy}")
    return values


def copy_file_mode(sample: Path, files: Iterable[Path]) -> None:
    """Give files the permissions of one that `open` made: safetensors lets nobody else read its files."""
    mode = stat.S_IMODE(sample.stat().st_mode)
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


class JsonlWriter:
    """A file of one JSON object per line, flushed after each.

    A run that resumes from step n first drops the lines of later steps, because it will write them again.
    """

    def __init__(self, path: Path, *, truncate_after: int | None = None) -> None:
        self.path = path
        if truncate_after is None:
            path.unlink(missing_ok=True)
        elif path.exists():
            kept = [json.dumps(line) + "\n" for line in read_jsonl(path) if line.get("step", 0) <= truncate_after]
            with wrap_write_errors(path.name, path.parent, kind=RunError):
                write_atomic(path, "".join(kept))

    def write(self, values: dict[str, Any]) -> None:
        """Append one object."""
        append_jsonl(self.path, values)


def append_jsonl(path: Path, values: dict[str, Any]) -> None:
    """Append one object to a file of JSON lines, to which other processes may append as well."""
    with wrap_write_errors(path.name, path.parent, kind=RunError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return all complete lines; the last may have been cut by a kill and is then left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    result = []
    for number, line in enumerate(lines):
        try:
            result.append(json.loads(line))
        except ValueError:
            if number != len(lines) - 1:
                raise RunError(f"{path}, line {number + 1}, is not JSON; repair or move the file away") from None
    return result


def read_run_record(output_dir: Path) -> dict[str, Any]:
    """Return `run.json` of an output directory; empty if the file does not exist.

    Raises:
        RunError: the file is damaged.
    """
    path = output_dir / RUN_FILE
    remedy = "remove it, or start over with --overwrite"
    return read_json(path, remedy=remedy, kind=RunError) if path.exists() else {}


def read_run_status(output_dir: Path) -> str | None:
    """Return the status of a run in `run.json`: running, stopped, finished or failed."""
    status = read_run_record(output_dir).get("status")
    return status if isinstance(status, str) else None


def read_run_id(output_dir: Path) -> str | None:
    """Return the id of the run whose `run.json` is in a directory."""
    run_id = read_run_record(output_dir).get("run_id")
    return run_id if isinstance(run_id, str) else None


def validation_history(lines: Iterable[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return (step, top-1 accuracy) of the lines of `metrics.jsonl` that hold a validation."""
    return [(line["step"], line[ACCURACY_KEY]) for line in lines if ACCURACY_KEY in line]
