"""Index files: tables of the videos of a folder, with their labels and splits, as CSV or JSONL."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .labels import MISSING, SEPARATOR
from .samples import DataError

INDEX_FILES = ("index.csv", "metadata.csv", "metadata.jsonl")


@dataclass(frozen=True, kw_only=True)
class Index:
    """Videos of one split that an index file lists.

    Attributes:
        paths: relative posix paths.
        labels: of each path, or None where no row has one.
    """

    paths: list[str]
    labels: list[str] | None


def read_index(index: Path, *, root: Path, present: set[str], split: str, split_names: Sequence[str]) -> Index:
    """Read the videos of a split, and their labels, from an index file.

    Args:
        index: the file.
        root: its paths are relative to it.
        present: paths that are known to be there.
        split: of the rows wanted.
        split_names: what rows may call that split.

    Raises:
        DataError: for a file that cannot be read, or does not fit the folder.
    """
    rows = _rows_of_split(list(read_rows(index)), split=split, split_names=split_names, index=index)
    paths = [_path_of(row, number, index=index) for number, row in enumerate(rows, start=1)]
    # Files that the walk left out (hidden, or with another extension) may be listed all the same.
    missing = [path for path in paths if path not in present and not (root / path).is_file()]
    if missing:
        raise DataError(
            f"{index}: {len(missing)} of the {len(paths)} videos listed are not there, the first is {missing[0]}; "
            f"paths are relative to {root}: remove those rows or fetch the files"
        )
    repeated = len(paths) - len(set(paths))
    if repeated:
        raise DataError(f"{index} lists {repeated} videos more than once; remove the repeated rows")
    labels = [(row.get("label") or "").strip() for row in rows]
    unlabelled = [path for path, label in zip(paths, labels, strict=True) if label.lower() in MISSING]
    if unlabelled and len(unlabelled) < len(paths):
        raise DataError(
            f"{index}: {len(unlabelled)} of {len(paths)} rows have no label, the first is {unlabelled[0]}; "
            f"label all or none"
        )
    return Index(paths=paths, labels=None if unlabelled else labels)


def read_rows(index: Path) -> Iterator[dict[str, str]]:
    """The rows of an index file by column.

    Raises:
        DataError: for a file that is no table in UTF-8.
    """
    try:
        with open(index, encoding="utf-8-sig", newline="") as file:
            yield from (_json_rows(file) if index.suffix == ".jsonl" else csv.DictReader(file))
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error, OSError) as error:
        remedy = "give the path of a CSV or JSONL file" if isinstance(error, OSError) else "write it as UTF-8 text"
        raise DataError(f"{index} cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}") from error


def _json_rows(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    for line in filter(str.strip, lines):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise json.JSONDecodeError("not a JSON object", line, 0)
        yield {name: _json_text(value) for name, value in row.items()}


def _json_text(value: object) -> str:
    if isinstance(value, list):
        return SEPARATOR.join(map(str, value))
    return "" if value is None else str(value)


def _rows_of_split(
    rows: list[dict[str, str]], *, split: str, split_names: Sequence[str], index: Path
) -> list[dict[str, str]]:
    if not rows:
        raise DataError(f"{index} lists no videos; add a row for each, or remove it to take every video in the folder")
    if "split" not in rows[0]:
        if split != "train":
            raise DataError(f"{index} has no column `split`, so all its videos are `train`; {split!r} was asked for")
        return rows
    without = next((number for number, row in enumerate(rows, start=1) if row.get("split") is None), None)
    if without is not None:
        raise DataError(f"{index}: row {without} has no `split`, though the first has one; give every row its split")
    kept = [row for row in rows if row["split"] in split_names]
    if not kept:
        known = ", ".join(sorted({str(row["split"]) for row in rows}))
        raise DataError(f"{index} has no rows of the split {split!r} (it has: {known}); name one of those")
    return kept


def _path_of(row: dict[str, str], number: int, *, index: Path) -> str:
    path = row.get("path") or row.get("file_name")
    if not path:
        columns = ", ".join(str(name) for name in row)
        raise DataError(f"{index}: row {number} has no `path` or `file_name` (its columns: {columns}); add one")
    return PurePosixPath(path).as_posix()
