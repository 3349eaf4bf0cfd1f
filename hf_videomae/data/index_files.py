"""Read index files: tables of videos with labels, splits and segments, as CSV, JSON Lines or JSON.

Columns are found by their names, in any case. Nothing is guessed: a table that can be read in two ways raises an error
that says so, and what to write instead.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..errors import DataError
from .index_columns import IndexColumns, find_columns, read_index_table
from .index_paths import IndexPathResolver
from .label_parsing import is_missing_label, parse_label_cells
from .labels import MISSING_VALUES, LabelKind
from .source import Segment, segment_id
from .split_names import normalize_split
from .tables import Cell, Table, cell_text, parse_number
from .video_files import FolderScan
from .video_ids import id_column, resolve_video_ids

_CLOCK_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")

InvalidField = Literal["path", "label", "split", "segment"]


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """A table of videos, and where its files are.

    Attributes:
        columns: the columns of the table.
        paths: finds the files of its rows.
        class_names: all classes in their order, if a file next to the table has them.
        notes: how it was read, for the user.
        split: the split in the name of a list; "" if there is none.
    """

    columns: IndexColumns
    paths: IndexPathResolver
    class_names: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """A video, or a segment of one, that a row lists.

    Attributes:
        path: relative to the folder, in posix style.
        label: as `parse_labels` takes it; "" if no row has one.
        split: as `normalize_split` returns it; "" if the table has no splits.
        start, end: of a segment, in seconds of the file; None for the beginning and the end of the file.
    """

    path: str
    label: str = ""
    split: str = ""
    start: float | None = None
    end: float | None = None

    @property
    def id(self) -> str:
        """Return the path, with `@START-END` for a segment."""
        return segment_id(self.path, start=self.start, end=self.end)


@dataclass(frozen=True, kw_only=True)
class InvalidRow:
    """A row that cannot be used.

    Attributes:
        row: its path, or `row N`.
        reason: what is wrong, such as "it has no label".
        invalid_field: what the reason is about.
    """

    row: str
    reason: str
    invalid_field: InvalidField


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """The videos that an index file lists for one split, or for all.

    Attributes:
        file: for errors.
        entries: in the order of the rows, including repeated ones.
        is_labeled: whether they have labels.
        refused: rows that cannot be used.
        notes: how the file was read, for the user.
        no_labels_reason: why there are no labels; "" if there are.
        has_unused_times: whether there are times in columns that are not used.
    """

    file: Path
    entries: list[IndexEntry]
    is_labeled: bool
    refused: list[InvalidRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    no_labels_reason: str = ""
    has_unused_times: bool = False

    @property
    def paths(self) -> list[str]:
        """Return the path of each entry."""
        return [entry.path for entry in self.entries]


def read_index_file(
    file: Path, *, root: Path, scan: FolderScan | None = None, allowed: Sequence[str] = ()
) -> VideoList:
    """Read an index file of a folder.

    Args:
        file: the index file.
        root: the folder.
        scan: of the folder, if it is listed already.
        allowed: by `parse_allowed_paths`.

    Raises:
        DataError: for a file that cannot be read, or columns that can be read in two ways.
    """
    table, paths, notes = read_index_table(file), IndexPathResolver(root, allowed=allowed), list[str]()
    if id_column(table) is not None:
        resolved = resolve_video_ids(table, folders=(root,), scan=scan)
        table, notes = resolved.table, resolved.notes
    return VideoList(columns=find_columns(table), paths=paths, notes=notes)


def build_index(listed: VideoList, *, split: str | None, kind: LabelKind) -> VideoIndex:
    """Return the videos that a table lists for a split (None: for all), and the rows that cannot be used.

    Raises:
        DataError: if there are no rows of the split, or the labels can be read in two ways.
    """
    columns = listed.columns
    table = columns.table
    rows = _select_rows(table, columns, split=split)
    is_labeled = bool(columns.label) and not all(
        is_missing_label(row[1].get(columns.label, ""), kind=kind) for row in rows
    )
    entries, cells, refused, label_notes = list[IndexEntry](), list[Cell](), list[InvalidRow](), list[str]()
    for number, row, name in rows:
        cell = row.get(columns.label, "") if is_labeled else ""
        try:
            entry = _parse_entry(row, columns, paths=listed.paths, split=name)
            if is_labeled and is_missing_label(cell, kind=kind):
                raise _RowError("it has no label, though others have", "label")
        except _RowError as error:
            row_name = cell_text(row.get(columns.path)) or f"row {number}"
            refused.append(InvalidRow(row=row_name, reason=str(error), invalid_field=error.invalid_field))
        else:
            entries.append(entry)
            cells.append(cell)
    if is_labeled:
        all_cells, ids = [row.get(columns.label, "") for row in table.rows], [entry.id for entry in entries]
        labels, label_notes = parse_label_cells(cells, all_cells=all_cells, kind=kind, file=table.file, ids=ids)
        entries = [replace(entry, label=label) for entry, label in zip(entries, labels, strict=True)]
    return VideoIndex(
        file=table.file,
        entries=entries,
        is_labeled=is_labeled,
        refused=refused,
        notes=[*listed.notes, *columns.notes, *label_notes, *_note_shared_videos(columns)],
        no_labels_reason="" if is_labeled else _explain_no_labels(table, columns),
        has_unused_times=bool(columns.unused_times),
    )


def _note_shared_videos(columns: IndexColumns) -> list[str]:
    """Return a note on videos (or overlapping segments of one) that are listed in several splits."""
    if not columns.split:
        return []
    uses: dict[str, list[tuple[str, float, float]]] = {}
    for row in columns.table.rows:
        path = os.path.normpath(cell_text(row.get(columns.path)).replace("\\", "/"))
        try:
            start, end = _parse_segment(row, columns)
        except ValueError:  # reported when the row is read
            continue
        use = (normalize_split(cell_text(row.get(columns.split))), start or 0.0, math.inf if end is None else end)
        uses.setdefault(path, []).append(use)
    overlaps = {path: sorted(_find_overlapping_splits(path_uses)) for path, path_uses in uses.items()}
    shared = {path: splits for path, splits in overlaps.items() if splits}
    if not shared:
        return []
    first = next(iter(shared))
    return [
        f"{columns.table.file}: {len(shared)} videos are listed in several splits, the first is {first} "
        f"({', '.join(shared[first])}); a test on training videos is too optimistic: keep each in one split"
    ]


def _find_overlapping_splits(uses: Sequence[tuple[str, float, float]]) -> set[str]:
    """Return the splits whose segments (split, start, end) overlap a segment of another split."""
    overlapping: set[str] = set()
    latest: dict[str, float] = {}
    for split, start, end in sorted(uses, key=lambda use: use[1]):
        others = {other for other, other_end in latest.items() if other != split and start < other_end}
        overlapping |= {split, *others} if others else set()
        latest[split] = max(end, latest.get(split, 0.0))
    return overlapping


def _explain_no_labels(table: Table, columns: IndexColumns) -> str:
    if columns.label:
        return f"the column `{columns.label}` of {table.file.name} is empty"
    return f"{table.file.name} has no column `label` (its columns: {', '.join(table.columns)})"


def _select_rows(table: Table, columns: IndexColumns, *, split: str | None) -> list[tuple[int, dict[str, Cell], str]]:
    """Return (row number, row, split) for the rows of a split."""
    file = table.file
    if not table.rows:
        raise DataError(f"{file} lists no videos; add a row for each, or remove it to take every video in the folder")
    names = list(map(normalize_split, table.texts(columns.split))) if columns.split else [""] * len(table.rows)
    rows = list(zip(table.row_numbers, table.rows, names, strict=True))
    if split is None or not any(names):
        return rows
    missing = next((number for number, _, name in rows if not name), None)
    if missing is not None:
        raise DataError(
            f"{file}: row {missing} has no `{columns.split}`, though others have; give every row its split"
        )
    selected = [row for row in rows if row[2].casefold() == normalize_split(split).casefold()]
    if not selected:
        known = ", ".join(sorted(set(names)))
        raise DataError(f"{file} has no rows of the split {split!r} (it has: {known}); name one of these")
    return selected


class _RowError(ValueError):
    """A row cannot be used."""

    def __init__(self, reason: str, invalid_field: InvalidField) -> None:
        super().__init__(reason)
        self.invalid_field = invalid_field


def _parse_entry(row: dict[str, Cell], columns: IndexColumns, *, paths: IndexPathResolver, split: str) -> IndexEntry:
    try:
        path = paths.resolve_path(cell_text(row.get(columns.path)))
    except ValueError as error:
        raise _RowError(str(error), "path") from None
    try:
        start, end = _parse_segment(row, columns)
        check_segment(start, end)
    except ValueError as error:
        raise _RowError(str(error), "segment") from None
    return IndexEntry(path=path, split=split, start=start, end=end)


def _parse_segment(row: dict[str, Cell], columns: IndexColumns) -> Segment:
    decimal_comma = columns.table.delimiter in (";", "\t", "|")
    start, end = (
        parse_seconds(cell_text(row.get(name)), decimal_comma=decimal_comma) if name else None
        for name in (columns.start, columns.end)
    )
    return start, end


def parse_seconds(text: str, *, decimal_comma: bool = False) -> float | None:
    """Parse a time in seconds, written as a number or as [HOURS:]MINUTES:SECONDS; None for an empty cell.

    Raises:
        ValueError: for any other text, a negative number or one that is not finite.
    """
    text = text.strip()
    if text.lower() in MISSING_VALUES:
        return None
    clock = _CLOCK_TIME.fullmatch(text)
    if clock is not None:
        return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    if decimal_comma and re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", ".")
    seconds = parse_number(text)
    if seconds is None:
        raise ValueError(
            f"its start or end {text!r} is no number of seconds; leave the cell empty for the whole video"
        )
    if seconds < 0:
        raise ValueError(f"its start or end {text} is negative; leave the cell empty for the beginning or the end")
    return seconds


def check_segment(start: float | None, end: float | None) -> None:
    """Raise ValueError if nothing lies between start and end."""
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"nothing lies between {start or 0:g} and {end:g} s; the end must come after the start")


def check_index(index: VideoIndex, *, root: Path) -> VideoIndex:
    """Return the index if all of its rows can be used and none is repeated.

    Raises:
        DataError: otherwise, with the first bad row and what to do.
    """
    file, total = index.file, len(index.entries) + len(index.refused)
    for invalid_field, what, remedy in (
        ("path", "the {total} videos listed are not there", f"paths are relative to {root}"),
        ("label", "{total} rows have no label", "label all or none; a class of such a name needs another name"),
        ("segment", "{total} rows have a segment that cannot be used", "give `start` and `end` in seconds"),
    ):
        bad = [row for row in index.refused if row.invalid_field == invalid_field]
        if bad:
            reason = "" if invalid_field == "label" else f" ({bad[0].reason})"
            raise DataError(
                f"{file}: {len(bad)} of {what.format(total=total)}, the first is {bad[0].row}{reason}; {remedy}: fix "
                f"or remove those rows"
            )
    _refuse_duplicate_entries(index)
    return index


def _refuse_duplicate_entries(index: VideoIndex) -> None:
    counts = Counter(entry.id for entry in index.entries)
    repeated = sum(counts.values()) - len(counts)
    if not repeated:
        return
    first = next(id for id, count in counts.items() if count > 1)
    remedy = "remove the repeated rows"
    labels = {entry.label for entry in index.entries if entry.id == first}
    if index.has_unused_times:
        remedy = "to use parts of a file name the columns of their times `start` and `end`, in seconds"
    elif len(labels) > 1:
        remedy = "remove the wrong rows, or write its classes in one row separated by | for several classes of a video"
    raise DataError(f"{index.file} lists {repeated} videos more than once, the first is {first}; {remedy}")
