"""Files that are lists of videos by their names: `train.csv`, `kinetics400_val_list.txt`, `trainlist01.txt`."""

import os
import re
from pathlib import Path

from ..records import readable
from .split_folders import words_of
from .split_names import split_name
from .video_files import is_video_name

LIST_EXTENSIONS = frozenset((".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson"))
_SPLIT = re.compile(
    r"(?<![a-z])(training|train|validation|validate|valid|val|testing|test|eval|dev)(?=list|set|[^a-z]|$)"
)
_SPREADSHEETS = frozenset((".xlsx", ".xls", ".ods"))
# What lists of labels are called: labels.csv, annotations.json, Index.CSV, ground_truth.csv.
_LIST_WORDS = frozenset(
    "label labels annotation annotations annot index metadata target targets truth list videos clips "
    "dataset splits".split()
)
# The classes of Something-Something, and tables that are read where they lie.
_OTHER_TABLES = frozenset(("labels.json", "index.csv", "metadata.csv", "metadata.jsonl", "metadata.parquet"))
_SHOWN = 3


def is_list_name(name: str) -> bool:
    """Return whether a file is taken for a list of videos, by its ending."""
    return os.path.splitext(name)[1].lower() in LIST_EXTENSIONS


def split_of_list(file: Path) -> str:
    """Return the one split that the name of a list tells; "" where it tells none."""
    found = {split_name(match[1]) for match in _SPLIT.finditer(file.stem.lower())}
    return found.pop() if len(found) == 1 else ""


def note_on_lists(folder: Path) -> str:
    """Return which lists of videos lie in a folder, and how to have one read; "" where there are none.

    Looked for are lists of splits and of labels, at the top and in folders there that hold no videos.
    """
    names = sorted(_lists_in(folder))
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    verb = "is" if len(names) == 1 else "are"
    lists = [name for name in names if is_list_name(name)]
    if not lists:
        return f"{shown} in {folder} {verb} not read; save the table as index.csv there, with the columns path,label"
    first = next((name for name in lists if split_of_list(Path(name)) == "train"), lists[0])
    return f"{shown} in {folder} {verb} not read; to use a list name it instead of the folder, as {folder / first}"


def _lists_in(folder: Path) -> list[str]:
    found = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += [f"{path.name}/{name}" for name in _lists_beside_no_video(path)]
        elif _is_list_of_videos(path):
            found.append(path.name)
    return list(map(readable, found))


def _lists_beside_no_video(folder: Path) -> list[str]:
    found = []
    try:
        for entry in os.scandir(folder):
            if is_video_name(entry.name):
                return []
            if _is_list_of_videos(Path(entry.path)) and entry.is_file():
                found.append(entry.name)
    except OSError:  # a folder that may not be listed, which is told elsewhere
        return []
    return found


def _is_list_of_videos(file: Path) -> bool:
    if (
        file.name.startswith(".")
        or file.name in _OTHER_TABLES
        or not (is_list_name(file.name) or file.suffix.lower() in _SPREADSHEETS)
    ):
        return False
    is_text = file.suffix.lower() == ".txt"
    return bool(split_of_list(file)) or not is_text and not _LIST_WORDS.isdisjoint(words_of(file.stem))
