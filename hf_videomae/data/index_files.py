"""Index files: tables of the videos of a folder, with labels, splits and segments, as CSV, JSON Lines or JSON.

Columns are found by their names, in any case. A row is refused rather than guessed at: a table that can be read in two
ways is one line that says so, and what to write instead.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .id_lists import find_ids, has_ids
from .index_columns import PATH_NAMES, Columns, find_columns, read_index_table
from .index_paths import IndexPaths
from .label_cells import is_missing, read_labels
from .labels import MISSING, SINGLE, LabelKind
from .samples import DataError, segment_id
from .split_names import split_name
from .tables import Cell, Table, text_of

INDEX_FILES = ("index.csv", "metadata.csv", "metadata.jsonl")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")

Fault = Literal["path", "label", "split", "segment"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A video, or a segment of one, as a row names it.

    Attributes:
        path: relative to the folder, in posix style.
        cell: its label as it stands in the row.
        split: as `split_name` gives it; "" where the table has no splits.
        start, end: of a segment in seconds of the file; None is its beginning, and its end.
    """

    path: str
    cell: Cell = ""
    split: str = ""
    start: float | None = None
    end: float | None = None

    @property
    def id(self) -> str:
        """Return the path, with `@START-END` for a segment."""
        return segment_id(self.path, start=self.start, end=self.end)


@dataclass(frozen=True, kw_only=True)
class RefusedRow:
    """A row that cannot be used.

    Attributes:
        row: its path, or `row N`.
        reason: what is wrong, as in "it has no label".
        fault: what the reason is about.
    """

    row: str
    reason: str
    fault: Fault


@dataclass(frozen=True, kw_only=True)
class Index:
    """What an index file lists of one split, or of all.

    Attributes:
        file: for errors.
        entries: in the order of the rows, repeated ones too.
        labels: of each entry, as `parse_labels` takes them; None where no row has one.
        refused: rows that cannot be used.
        notes: how the file was read, for the user.
        unlabelled: why there are no labels; "" where there are.
        has_other_times: whether times stand in columns that are not used.
    """

    file: Path
    entries: list[Entry]
    labels: list[str] | None
    refused: list[RefusedRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unlabelled: str = ""
    has_other_times: bool = False

    @property
    def paths(self) -> list[str]:
        """Return the path of each entry."""
        return [entry.path for entry in self.entries]

    @property
    def segments(self) -> list[tuple[float | None, float | None]]:
        """Return start and end of each entry in seconds."""
        return [(entry.start, entry.end) for entry in self.entries]


def read_index(file: Path, *, paths: IndexPaths, split: str, kind: LabelKind = SINGLE) -> Index:
    """Read the videos of a split from an index file; every row of that split has to be usable.

    Args:
        file: CSV, JSON Lines or JSON.
        paths: finds the files.
        split: of the rows wanted.
        kind: what the labels say.

    Raises:
        DataError: for a file that cannot be read or has no rows of the split, and for the first row that cannot be
            used.
    """
    columns, notes = read_index_columns(file, root=paths.root)
    index = index_of(columns, paths=paths, split=split, kind=kind, notes=notes)
    return check_index(index, root=paths.root)


def read_index_columns(file: Path, *, root: Path) -> tuple[Columns, list[str]]:
    """Read an index file of a folder, and find its columns; notes where its videos are named by ids.

    Raises:
        DataError: for a file that cannot be read, or columns that can be read in two ways.
    """
    table = read_index_table(file)
    if PATH_NAMES.isdisjoint(table.columns) and has_ids(table):
        found = find_ids(table, folders=(root,))
        return find_columns(found.table), found.notes
    return find_columns(table), []


def index_of(
    columns: Columns, *, paths: IndexPaths, split: str | None, kind: LabelKind, notes: Sequence[str] = ()
) -> Index:
    """Return what a table lists of a split (None: of all splits), and which of these rows cannot be used.

    Raises:
        DataError: where there are no rows of the split, or the labels can be read in two ways.
    """
    table = columns.table
    rows = _rows_of_split(table, columns, split=split)
    is_labelled = bool(columns.label) and not all(is_missing(row[1].get(columns.label, ""), kind=kind) for row in rows)
    entries, refused = [], []
    for number, row, name in rows:
        label = row.get(columns.label, "") if is_labelled else ""
        shown = text_of(row.get(columns.path)) or f"row {number}"
        try:
            entries.append(_entry(row, columns, paths=paths, split=name, label=label))
        except _RowError as error:
            refused.append(RefusedRow(row=shown, reason=str(error), fault=error.fault))
            continue
        if is_labelled and is_missing(label, kind=kind):
            entries.pop()
            refused.append(RefusedRow(row=shown, reason="it has no label, though others have", fault="label"))
    labels: list[str] | None = None
    said: list[str] = []
    if is_labelled:
        every = [row.get(columns.label, "") for row in table.rows]
        cells, ids = [entry.cell for entry in entries], [entry.id for entry in entries]
        labels, said = read_labels(cells, every=every, kind=kind, file=table.file, ids=ids)
    return Index(
        file=table.file,
        entries=entries,
        labels=labels,
        refused=refused,
        notes=[*notes, *columns.notes, *said, *_shared_by_splits(columns)],
        unlabelled="" if is_labelled else _why_unlabelled(table, columns),
        has_other_times=bool(columns.other_times),
    )


def _shared_by_splits(columns: Columns) -> list[str]:
    """Return a note on videos, or overlapping segments of one, that are listed in several splits."""
    if not columns.split:
        return []
    uses: dict[str, list[tuple[str, float, float]]] = {}
    for row in columns.table.rows:
        path = os.path.normpath(text_of(row.get(columns.path)).replace("\\", "/"))
        try:
            start, end = _segment(row, columns)
        except ValueError:  # refused where the row is read
            continue
        use = (split_name(text_of(row.get(columns.split))), start or 0.0, math.inf if end is None else end)
        uses.setdefault(path, []).append(use)
    shared = {path: sorted(_meeting(found)) for path, found in uses.items() if _meeting(found)}
    if not shared:
        return []
    first = next(iter(shared))
    return [
        f"{columns.table.file}: {len(shared)} videos are listed in several splits, the first is {first} "
        f"({', '.join(shared[first])}); a test on videos of the training says too much: keep each in one split"
    ]


def _meeting(uses: Sequence[tuple[str, float, float]]) -> set[str]:
    """Return the splits of segments (split, start, end) that overlap one of another split."""
    found: set[str] = set()
    latest: dict[str, float] = {}
    for split, start, end in sorted(uses, key=lambda use: use[1]):
        others = {other for other, other_end in latest.items() if other != split and start < other_end}
        found |= {split, *others} if others else set()
        latest[split] = max(end, latest.get(split, 0.0))
    return found


def _why_unlabelled(table: Table, columns: Columns) -> str:
    if columns.label:
        return f"the column `{columns.label}` of {table.file.name} is empty"
    return f"{table.file.name} has no column `label` (its columns: {', '.join(table.columns)})"


def _rows_of_split(table: Table, columns: Columns, *, split: str | None) -> list[tuple[int, dict[str, Cell], str]]:
    """Return (number, row, name of its split) of the rows of a split."""
    file = table.file
    if not table.rows:
        raise DataError(f"{file} lists no videos; add a row for each, or remove it to take every video in the folder")
    names = [split_name(text_of(row.get(columns.split))) if columns.split else "" for row in table.rows]
    rows = list(zip(table.numbers, table.rows, names, strict=True))
    if split is None:
        return rows
    if not any(names):
        if split_name(split) != "train":
            raise DataError(
                f"{file} has no column `split`, so all its videos are `train`; {split!r} was asked for: add that "
                f"column, or name the list of that split"
            )
        return rows
    without = next((number for number, _, name in rows if not name), None)
    if without is not None:
        raise DataError(
            f"{file}: row {without} has no `{columns.split}`, though others have; give every row its split"
        )
    kept = [row for row in rows if row[2].casefold() == split_name(split).casefold()]
    if not kept:
        known = ", ".join(sorted(set(names)))
        raise DataError(f"{file} has no rows of the split {split!r} (it has: {known}); name one of those")
    return kept


class _RowError(ValueError):
    """What is wrong with one row."""

    def __init__(self, reason: str, fault: Fault) -> None:
        super().__init__(reason)
        self.fault = fault


def _entry(row: dict[str, Cell], columns: Columns, *, paths: IndexPaths, split: str, label: Cell) -> Entry:
    try:
        path = paths.find(text_of(row.get(columns.path)))
    except ValueError as error:
        raise _RowError(str(error), "path") from None
    try:
        start, end = _segment(row, columns)
        check_segment(start, end)
    except ValueError as error:
        raise _RowError(str(error), "segment") from None
    return Entry(path=path, cell=label, split=split, start=start, end=end)


def _segment(row: dict[str, Cell], columns: Columns) -> tuple[float | None, float | None]:
    decimal_comma = columns.table.delimiter in (";", "\t", "|")
    start, end = (
        read_seconds(text_of(row.get(name)), decimal_comma=decimal_comma) if name else None
        for name in (columns.start, columns.end)
    )
    return start, end


def read_seconds(text: str, *, decimal_comma: bool = False) -> float | None:
    """Return a time in seconds, written as a number or as [HOURS:]MINUTES:SECONDS; None for an empty cell.

    Raises:
        ValueError: for any other text, a negative number or one that is not finite.
    """
    text = text.strip()
    if text.lower() in MISSING:
        return None
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    if decimal_comma and re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", ".")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(
            f"its start or end {text!r} is no number of seconds; leave the cell empty for the whole video"
        )
    if seconds < 0:
        raise ValueError(f"its start or end {text} is negative; leave the cell empty for the beginning or the end")
    return seconds


def check_segment(start: float | None, end: float | None) -> None:
    """Raise ValueError where nothing lies between start and end."""
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"nothing lies between {start or 0:g} and {end:g} s; the end has to come after the start")


def check_index(index: Index, *, root: Path) -> Index:
    """Return an index all of whose rows can be used, each video or segment once.

    Raises:
        DataError: naming the file, the first bad row and what to do.
    """
    file, total = index.file, len(index.entries) + len(index.refused)
    for fault, what, remedy in (
        ("path", "the {total} videos listed are not there", f"paths are relative to {root}"),
        ("label", "{total} rows have no label", "label all or none; a class of such a name needs another name"),
        ("segment", "{total} rows have a segment that cannot be used", "give `start` and `end` in seconds"),
    ):
        bad = [row for row in index.refused if row.fault == fault]
        if bad:
            reason = "" if fault == "label" else f" ({bad[0].reason})"
            raise DataError(
                f"{file}: {len(bad)} of {what.format(total=total)}, the first is {bad[0].row}{reason}; {remedy}: mend "
                f"or remove those rows"
            )
    _refuse_repeated(index)
    return index


def _refuse_repeated(index: Index) -> None:
    counts = Counter(entry.id for entry in index.entries)
    repeated = sum(counts.values()) - len(counts)
    if not repeated:
        return
    first = next(id for id, count in counts.items() if count > 1)
    remedy = "remove the repeated rows"
    cells = {str(entry.cell) for entry in index.entries if entry.id == first}
    if index.has_other_times:
        remedy = "to use parts of a file name the columns of their times `start` and `end`, in seconds"
    elif len(cells) > 1:
        remedy = "remove the wrong rows, or write its classes in one row separated by | for several classes of a video"
    raise DataError(f"{index.file} lists {repeated} videos more than once, the first is {first}; {remedy}")
