"""Find the columns of a table of videos by their names, in any case; raise an error if two could be meant."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from .split_names import SPLIT_NAMES, normalize_split
from .tables import Table, cell_text, has_file_extension, normalize_column_name, read_table

# The names of each column. A name in the first list is certain; of the others a table may have only one.
COLUMN_NAMES = {
    "path": (
        ["path", "file_name"],
        "filename file file_path filepath video video_path videopath video_file video_filename video_file_name "
        "video_name clip clip_path clip_file clip_name".split(),
    ),
    "label": (["label"], "class category target labels label_name class_name classname class_label".split()),
    "split": (["split"], ["subset", "partition"]),
    "start": (["start"], ["start_seconds", "start_second", "start_sec", "start_s"]),
    "end": (["end"], ["end_seconds", "end_second", "end_sec", "end_s"]),
}
PATH_COLUMNS = frozenset(name for names in COLUMN_NAMES["path"] for name in names)
# Times that often refer to an uncut original, and frame numbers, which have no common convention.
_UNUSED_TIME_COLUMNS = frozenset(
    "time_start time_end start_time end_time t_start t_end begin begin_time stop stop_time start_frame end_frame "
    "frame_start frame_end start_ms end_ms timestamp timestamp_start timestamp_end segment".split()
)
_SPLIT_WORDS = frozenset("train training test testing val valid validation split fold set subset partition".split())
_MAX_SPLITS = 8
_UPLOAD_ID_COLUMNS = frozenset("youtube_id ytid yt_id youtubeid youtube_url youtube_key".split())


@dataclass(frozen=True, kw_only=True)
class IndexColumns:
    """The columns of a table by their meaning; "" for a missing one.

    Attributes:
        table: the table.
        path, label, split, start, end: the names of its columns.
        unused_times: columns with times that are not used.
        upload_id_column: the column with the id of an original upload.
    """

    table: Table
    path: str
    label: str
    split: str
    start: str
    end: str
    unused_times: tuple[str, ...] = ()
    upload_id_column: str = ""

    @property
    def notes(self) -> list[str]:
        """Return how columns were read that can be read in two ways, for the user."""
        file, notes = self.table.file, []
        times = ", ".join(f"`{name}`" for name in self.unused_times)
        if not self.split:
            read = (self.path, self.label, self.start, self.end)
            candidate_splits = [
                name for name in self.table.columns if name not in read and _may_hold_splits(self.table, name)
            ]
            notes += [
                f"{file}: the column `{name}` is not read, so videos of all its values are used together; if it tells "
                f"training from test videos write a column `split` with train and test"
                for name in candidate_splits
            ]
        if self.split and self.split not in ("split", *COLUMN_NAMES["split"][1]):
            notes.append(f"{file}: the column `{self.split}` is read as the split; name it `split`")
        if self.unused_times and self.upload_id_column:
            notes.append(
                f"{file}: {times} are taken for times in the original upload (`{self.upload_id_column}`), so nothing "
                f"is cut out of the files; to use parts of these files name the columns `start` and `end`, in seconds"
            )
        elif self.unused_times:
            notes.append(
                f"{file}: {times} are not used, so nothing is cut out of the files; to use parts of them name the "
                f"columns `start` and `end`, in seconds of the file"
            )
        if (self.start or self.end) and self.upload_id_column:
            used = " and ".join(f"`{name}`" for name in (self.start, self.end) if name)
            notes.append(
                f"{file}: {used} are cut out of the files; if they are times in the original upload "
                f"(`{self.upload_id_column}`) and the files are cut already, remove these columns"
            )
        return notes


def read_index_table(file: Path) -> Table:
    """Read an index file; the columns of a list without a header are named by their positions.

    Raises:
        DataError: for a file that cannot be read, or whose columns have no names.
    """
    table = read_table(file, known=PATH_COLUMNS)
    return table if table.has_header or not table.rows else _name_columns_by_position(table)


def _name_columns_by_position(table: Table) -> Table:
    """Return a list without a header with names for its columns: `path`, `path label`, or `path 0 -1`."""
    widths = sorted({len(row) for row in table.rows})
    names = ["path", "label"]
    if widths == [3] and all((cell_text(row["1"]), cell_text(row["2"])) == ("0", "-1") for row in table.rows):
        names = ["path", "first_frame", "num_frames"]  # VideoMAE V2's lists for pre-training: whole videos
    elif len(widths) > 1 or widths[-1] > 2:
        odd = next(position for position, row in enumerate(table.rows) if len(row) != 2)
        raise DataError(
            f"{table.file} has no header, and its row {table.row_numbers[odd]} is not `path label` but has "
            f"{len(table.rows[odd])} columns; name the columns in a first line, such as path,label,start,end"
        )
    names = names[: widths[-1]]
    rows = [{name: row[str(position)] for position, name in enumerate(names)} for row in table.rows]
    return replace(table, columns=names, rows=rows)


def find_columns(table: Table) -> IndexColumns:
    """Find the columns of a table by their meaning.

    Raises:
        DataError: if no column holds paths, or two columns could be meant.
    """
    if not table.columns:
        raise DataError(f"{table.file} lists no videos; add a row for each, after a first row such as path,label")
    roles = {role: _find_column(table, role) for role in COLUMN_NAMES}
    if not roles["path"]:
        remedy = "name the columns in its first row, or begin each row with a path that has its ending (.mp4)"
        if not table.delimiter:
            remedy = "name the file of each video in a key `path`"
        raise DataError(
            f"{table.file} has no column `path` or `file_name` (its columns: {_format_columns(table)}); {remedy}"
        )
    roles["split"] = roles["split"] or _find_split_column(table, used=set(roles.values()))
    _refuse_line_breaks(table, [name for name in roles.values() if name])
    filled = [name for name in table.columns if _is_filled(table, name)]
    return IndexColumns(
        table=table,
        **roles,
        unused_times=tuple(name for name in filled if name in _UNUSED_TIME_COLUMNS),
        upload_id_column=next((name for name in filled if name in _UPLOAD_ID_COLUMNS), ""),
    )


def _refuse_line_breaks(table: Table, names: list[str]) -> None:
    """Raise for a cell with a line break: after an unclosed quotation mark, it holds the rows that follow."""
    for number, row in zip(table.row_numbers, table.rows, strict=True):
        for name in names:
            cell = row.get(name, "")
            if any(len(text.splitlines()) > 1 for text in (cell if isinstance(cell, list) else [cell])):
                raise DataError(
                    f"{table.file}: row {number} has a line break in `{name}`; close the quotation mark in that row, "
                    f"or remove the line break"
                )


def _format_columns(table: Table) -> str:
    shown = [name[:40] for name in table.columns[:12]]
    return ", ".join(shown) + (", ..." if len(table.columns) > len(shown) else "")


def _find_column(table: Table, role: str) -> str:
    """Return the column for a role; "" if there is none."""
    for names in COLUMN_NAMES[role]:
        candidates = [name for name in names if name in table.columns]
        if len(candidates) > 1:
            candidates = [name for name in candidates if _is_filled(table, name)] or candidates[:1]
        if len(candidates) > 1 and role == "path":
            files = [name for name in candidates if all(map(has_file_extension, table.texts(name)))]
            candidates = files if files else candidates
        if len(candidates) > 1 and not _have_equal_cells(table, candidates):
            both = " and ".join(f"`{name}`" for name in candidates)
            raise DataError(
                f"{table.file}: {both} could both be the {role} (its columns: {_format_columns(table)}); name the "
                f"right one `{COLUMN_NAMES[role][0][0]}` and remove or rename the other"
            )
        if candidates:
            return candidates[0]
    return ""


def _is_filled(table: Table, name: str) -> bool:
    return any(table.texts(name))


def _have_equal_cells(table: Table, names: list[str]) -> bool:
    """Return whether columns agree in every row; empty cells do not count."""
    return all(len({text for name in names if (text := cell_text(row.get(name)))}) < 2 for row in table.rows)


def _may_hold_splits(table: Table, name: str) -> bool:
    """Return whether a column may separate training from test videos, by its name or its cells."""
    if _SPLIT_WORDS & set(name.split("_")):
        return True
    values = set(table.texts(name))
    return 1 < len(values) <= _MAX_SPLITS and any(normalize_split(text) in SPLIT_NAMES for text in values)


def _find_split_column(table: Table, *, used: set[str]) -> str:
    """Return a column of any name whose cells all name splits: `train` and at least one other."""
    for name in table.columns:
        splits = set(map(normalize_split, table.texts(name))) if name not in used else set()
        if "train" in splits and len(splits) > 1 and splits <= SPLIT_NAMES.keys():
            return name
    return ""


def find_typed_column(features: Any, role: str, *, dtypes: tuple[str, ...]) -> str | None:
    """Return the first column for a role, by the names in `COLUMN_NAMES`, with one of these types.

    Args:
        features: of a dataset, by `datasets`.
        role: one of `COLUMN_NAMES`.
        dtypes: how the names of the types begin; a `ClassLabel` counts as text.
    """
    typed = {
        normalize_column_name(column): column
        for column, feature in features.items()
        if ("string" if hasattr(feature, "names") else str(getattr(feature, "dtype", ""))).startswith(dtypes)
    }
    return next((typed[name] for names in COLUMN_NAMES[role] for name in names if name in typed), None)
