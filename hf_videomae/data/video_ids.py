"""Find the videos of tables with ids instead of paths: Kinetics and Something-Something."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..text import escape_non_utf8
from .class_name_files import apply_something_labels
from .index_columns import PATH_COLUMNS
from .tables import Cell, Table, cell_text
from .video_files import FolderScan, find_videos

_ID_COLUMNS = ("youtube_id", "ytid", "yt_id", "youtubeid", "video_id", "videoid", "vid_name", "vid", "id")


@dataclass(frozen=True, kw_only=True)
class ResolvedIds:
    """A table with a new column `path`, for the videos that exist.

    Attributes:
        table: without the rows of missing videos.
        root: the folder that the paths are relative to.
        class_names: all classes in their order, if a file next to the table has them.
        notes: how it was read, for the user.
    """

    table: Table
    root: Path
    class_names: list[str] | None
    notes: list[str]


def id_column(table: Table) -> str | None:
    """Return the column of ids of a table that names no files; None if there is none."""
    has_paths = not PATH_COLUMNS.isdisjoint(table.columns)
    return None if has_paths else next((name for name in _ID_COLUMNS if name in table.columns), None)


def resolve_video_ids(table: Table, *, folders: Sequence[Path], scan: FolderScan | None = None) -> ResolvedIds:
    """Find the files of a table's ids.

    Args:
        table: with a column of ids.
        folders: searched at any depth; the first that holds one of the files is used.
        scan: of the folder, if there is one and it is listed already.

    Raises:
        DataError: if no file is found, or a video is found twice.
    """
    file, column = table.file, id_column(table)
    assert column is not None
    table, class_names = apply_something_labels(table)
    names = _candidate_stems(column)
    root, files = _find_files(file, {name for row in table.rows for name in names(row)}, folders=folders, scan=scan)
    rows, row_numbers, missing = [], [], []
    for number, row in zip(table.row_numbers, table.rows, strict=True):
        paths = next((files[name] for name in names(row) if name in files), [])
        if len(paths) > 1:
            raise DataError(
                f"{file}: the video {cell_text(row.get(column))} is there more than once "
                f"({escape_non_utf8(paths[0])}, {escape_non_utf8(paths[1])}); put the list next to the right folder, "
                f"or write a CSV file with the columns path,label"
            )
        if paths:
            rows.append({**row, "path": paths[0]})
            row_numbers.append(number)
        else:
            missing.append(cell_text(row.get(column)))
    notes = [f"{file} names its videos by `{column}`; their files are in {root}"]
    if missing:
        notes.append(
            f"left out: {len(missing)} of the {len(table.rows)} videos in {file}, which are not there; the first is "
            f"{missing[0]}"
        )
    table = replace(table, columns=["path", *table.columns], rows=rows, row_numbers=row_numbers)
    return ResolvedIds(table=table, root=root, class_names=class_names, notes=notes)


def _candidate_stems(id_column: str) -> Callable[[dict[str, Cell]], list[str]]:
    """Return a function for the file names, without extension, that a row may have: `ID_000010_000020`, or `ID`."""

    def names(row: dict[str, Cell]) -> list[str]:
        name = cell_text(row.get(id_column))
        times = [cell_text(row.get(column)) for column in ("time_start", "time_end")]
        whole = [int(float(time)) for time in times if re.fullmatch(r"\d+(\.0*)?", time)]
        return [f"{name}_{whole[0]:06d}_{whole[1]:06d}", name] if len(whole) == 2 else [name]

    return names


def _find_files(
    file: Path, wanted: set[str], *, folders: Sequence[Path], scan: FolderScan | None
) -> tuple[Path, dict[str, list[str]]]:
    """Return the first folder that has files with these names, and the files."""
    for folder in dict.fromkeys(folders):
        if folder.resolve() in (Path(folder.resolve().anchor), Path.home().resolve()):
            continue  # too large to search
        files: dict[str, list[str]] = {}
        for path in find_videos(folder) if scan is None else scan.videos:
            inner_path = PurePosixPath(path).with_suffix("")
            for known in {inner_path.name, str(inner_path)} & wanted:
                files.setdefault(known, []).append(path)
        if files:
            return folder, files
    raise DataError(
        f"{file} names its videos by ids, and no file of these names is in {' or '.join(map(str, folders))}; put the "
        f"list next to the folder of the videos, or write a CSV file with the columns path,label"
    )
