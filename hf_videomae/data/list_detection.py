"""Recognize lists of videos by their file names: `train.csv`, `kinetics400_val_list.txt`, `trainlist01.txt`."""

import os
import re
from pathlib import Path

from ..text import escape_non_utf8
from .split_folders import split_into_words
from .split_names import normalize_split
from .video_files import is_video_file

LIST_EXTENSIONS = frozenset((".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson"))
_SPLIT_WORD = re.compile(
    r"(?<![a-z])(training|train|validation|validate|valid|val|testing|test|eval|dev)(?=list|set|[^a-z]|$)"
)
_SPREADSHEET_EXTENSIONS = frozenset((".xlsx", ".xls", ".ods"))
# Words in the names of lists of labels: labels.csv, annotations.json, Index.CSV, ground_truth.csv.
_LIST_WORDS = frozenset(
    "label labels annotation annotations annot index metadata target targets truth list videos clips "
    "dataset splits".split()
)
# The classes of Something-Something, and tables that are read in place.
_KNOWN_TABLES = frozenset(("labels.json", "index.csv", "metadata.csv", "metadata.jsonl", "metadata.parquet"))
_MAX_SHOWN = 3


def is_list_file(name: str) -> bool:
    """Return whether a file is taken for a list of videos, by its extension."""
    return os.path.splitext(name)[1].lower() in LIST_EXTENSIONS


def split_from_list_name(file: Path) -> str:
    """Return the split that the name of a list contains; "" unless it is exactly one."""
    splits = {normalize_split(match[1]) for match in _SPLIT_WORD.finditer(file.stem.lower())}
    return splits.pop() if len(splits) == 1 else ""


def note_unread_lists(folder: Path) -> str:
    """Return a note on the lists of videos in a folder, and how to use one; "" if there are none.

    It looks for lists of splits and of labels, at the top and in its folders without videos.
    """
    names = sorted(_find_lists(folder))
    if not names:
        return ""
    shown = ", ".join(names[:_MAX_SHOWN]) + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
    verb = "is" if len(names) == 1 else "are"
    lists = [name for name in names if is_list_file(name)]
    if not lists:
        return f"{shown} in {folder} {verb} not read; save the table as index.csv there, with the columns path,label"
    first = next((name for name in lists if split_from_list_name(Path(name)) == "train"), lists[0])
    return f"{shown} in {folder} {verb} not read; to use a list, name it instead of the folder, as {folder / first}"


def _find_lists(folder: Path) -> list[str]:
    lists = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            lists += [f"{path.name}/{name}" for name in _find_lists_in_subfolder(path)]
        elif _is_video_list(path):
            lists.append(path.name)
    return list(map(escape_non_utf8, lists))


def _find_lists_in_subfolder(folder: Path) -> list[str]:
    lists = []
    try:
        for entry in os.scandir(folder):
            if is_video_file(entry.name):
                return []
            if _is_video_list(Path(entry.path)) and entry.is_file():
                lists.append(entry.name)
    except OSError:  # a folder that cannot be listed is reported elsewhere
        return []
    return lists


def _is_video_list(file: Path) -> bool:
    if (
        file.name.startswith(".")
        or file.name in _KNOWN_TABLES
        or not (is_list_file(file.name) or file.suffix.lower() in _SPREADSHEET_EXTENSIONS)
    ):
        return False
    is_text = file.suffix.lower() == ".txt"
    return bool(split_from_list_name(file)) or not is_text and not _LIST_WORDS.isdisjoint(split_into_words(file.stem))
