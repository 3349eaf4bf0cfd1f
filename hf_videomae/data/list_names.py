"""Files that are lists of videos by their names: `train.csv`, `kinetics400_val_list.txt`, `trainlist01.txt`."""

import os
import re
from pathlib import Path

from .split_names import split_name

LIST_EXTENSIONS = frozenset((".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson"))
_SPLIT = re.compile(
    r"(?<![a-z])(training|train|validation|validate|valid|val|testing|test|eval|dev)(?=list|set|[^a-z]|$)"
)
_SHOWN = 3


def is_list_name(name: str) -> bool:
    """Return whether a file is taken for a list of videos, by its ending."""
    return os.path.splitext(name)[1].lower() in LIST_EXTENSIONS


def split_of_list(file: Path) -> str:
    """Return the one split that the name of a list tells; "" where it tells none."""
    found = {split_name(match[1]) for match in _SPLIT.finditer(file.stem.lower())}
    return found.pop() if len(found) == 1 else ""


def note_on_lists(folder: Path) -> str:
    """Return which lists of splits lie at the top of a folder, and how to have one read; "" where there are none."""
    names = sorted(path.name for path in folder.iterdir() if is_list_name(path.name) and split_of_list(path))
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    first = next((name for name in names if split_of_list(Path(name)) == "train"), names[0])
    verb = "is" if len(names) == 1 else "are"
    return f"{shown} in {folder} {verb} not read; to use a list name it instead of the folder, as {folder / first}"
