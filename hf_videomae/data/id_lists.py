"""Tables that name videos by ids in place of paths: Kinetics and Something-Something."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .class_lists import something_labels
from .samples import DataError
from .tables import Cell, Table, text_of
from .video_files import find_videos, readable

_IDS = ("youtube_id", "ytid", "yt_id", "youtubeid", "video_id", "videoid", "vid_name", "vid", "id")


@dataclass(frozen=True, kw_only=True)
class FoundIds:
    """A table with a column `path` for the videos that are there.

    Attributes:
        table: without the rows of videos that are not there.
        root: the paths are relative to it.
        class_names: all classes in their order, where a file beside the table has them.
        notes: how it was read, for the user.
    """

    table: Table
    root: Path
    class_names: list[str] | None
    notes: list[str]


def has_ids(table: Table) -> bool:
    """Return whether a table has a column of ids."""
    return _id_column(table) is not None


def _id_column(table: Table) -> str | None:
    return next((name for name in _IDS if name in table.columns), None)


def find_ids(table: Table, *, folders: Sequence[Path]) -> FoundIds:
    """Find the files of a table's ids.

    Args:
        table: with a column of ids.
        folders: are searched at any depth, the first that holds one of the files is taken.

    Raises:
        DataError: where no file is there, or a video is there twice.
    """
    file, identifier = table.file, _id_column(table)
    assert identifier is not None
    table, class_names = something_labels(table)
    names = _file_names(identifier)
    root, files = _search(file, {name for row in table.rows for name in names(row)}, folders=folders)
    rows, numbers, missing = [], [], []
    for number, row in zip(table.numbers, table.rows, strict=True):
        found = next((files[name] for name in names(row) if name in files), [])
        if len(found) > 1:
            raise DataError(
                f"{file}: the video {text_of(row.get(identifier))} is there more than once ({readable(found[0])}, "
                f"{readable(found[1])}); put the list beside the folder that is meant, or write a CSV file with the "
                f"columns path,label"
            )
        if found:
            rows.append({**row, "path": found[0]})
            numbers.append(number)
        else:
            missing.append(text_of(row.get(identifier)))
    notes = [f"{file} names its videos by `{identifier}`; their files are taken from {root}"]
    if missing:
        notes.append(
            f"left out: {len(missing)} of the {len(table.rows)} videos in {file}, which are not there; the first is "
            f"{missing[0]}"
        )
    table = replace(table, columns=["path", *table.columns], rows=rows, numbers=numbers)
    return FoundIds(table=table, root=root, class_names=class_names, notes=notes)


def _file_names(identifier: str) -> Callable[[dict[str, Cell]], list[str]]:
    """Return the names, without ending, that the file of a row may have: `ID_000010_000020` in Kinetics, or `ID`."""

    def names(row: dict[str, Cell]) -> list[str]:
        name = text_of(row.get(identifier))
        times = [text_of(row.get(column)) for column in ("time_start", "time_end")]
        whole = [int(float(time)) for time in times if re.fullmatch(r"\d+(\.0*)?", time)]
        return [f"{name}_{whole[0]:06d}_{whole[1]:06d}", name] if len(whole) == 2 else [name]

    return names


def _search(file: Path, wanted: set[str], *, folders: Sequence[Path]) -> tuple[Path, dict[str, list[str]]]:
    """Return the first of the folders with files of these names, and the files."""
    for folder in dict.fromkeys(folders):
        if folder.resolve() in (Path(folder.resolve().anchor), Path.home().resolve()):
            continue  # too much to walk through
        files: dict[str, list[str]] = {}
        for path in find_videos(folder):
            inner = PurePosixPath(path).with_suffix("")
            for known in {inner.name, str(inner)} & wanted:
                files.setdefault(known, []).append(path)
        if files:
            return folder, files
    raise DataError(
        f"{file} names its videos by ids, and no file of these names is in {' or '.join(map(str, folders))}; put the "
        f"list beside the folder of the videos, or write a CSV file with the columns path,label"
    )
