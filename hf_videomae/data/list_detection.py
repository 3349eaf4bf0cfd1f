"""Recognize lists of videos by their file names: `train.csv`, `kinetics400_val_list.txt`, `trainlist01.txt`."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..text import escape_non_utf8
from .split_folders import split_into_words
from .split_names import normalize_split

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


def note_unread_lists(folder: Path, lists: Sequence[str]) -> str:
    """Return a note on the lists of videos in a folder, by `scan_folder`, and how to use one; "" if there are none."""
    names = sorted(map(escape_non_utf8, lists))
    if not names:
        return ""
    shown = ", ".join(names[:_MAX_SHOWN]) + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
    verb = "is" if len(names) == 1 else "are"
    tables = [name for name in names if is_list_file(name)]
    if not tables:
        return f"{shown} in {folder} {verb} not read; save the table as index.csv there, with the columns path,label"
    first = next((name for name in tables if split_from_list_name(Path(name)) == "train"), tables[0])
    return f"{shown} in {folder} {verb} not read; to use a list, name it instead of the folder, as {folder / first}"


def is_video_list(name: str) -> bool:
    """Return whether a file is probably a list of videos, of a split or with labels, by its name."""
    stem, extension = os.path.splitext(name)
    is_table = is_list_file(name) or extension.lower() in _SPREADSHEET_EXTENSIONS
    if name.startswith(".") or name in _KNOWN_TABLES or not is_table:
        return False
    has_list_word = extension.lower() != ".txt" and not _LIST_WORDS.isdisjoint(split_into_words(stem))
    return has_list_word or bool(split_from_list_name(Path(name)))
