"""Refuse local Parquet and WebDataset files that mix splits, and note a split column that is not read.

The splits of such datasets are files (`train-000.tar`, `test-000.parquet`), so a column `split`, or folders in a tar
file, would be overlooked and the test videos would be used for training.
"""

import tarfile
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .column_values import is_parquet, is_tar, read_parquet_column
from .index_columns import find_typed_column
from .split_folders import find_reached_splits
from .split_names import SPLIT_NAMES, normalize_split

_REMEDY = "write the videos of each split into files of their own (train-000{ending}, test-000{ending})"


def check_row_splits(features: Any, files: Sequence[str], *, names: Sequence[str], path: str) -> list[str]:
    """Raise for files of one split whose rows belong to several; return a note if their rows are not checked.

    Args:
        features: of the dataset, by `datasets`.
        files: paths or URLs of the files of the split.
        names: of the files in the ids of samples.
        path: of the dataset.

    Raises:
        DataError: with the column or the folders.
    """
    is_local = all("://" not in file for file in files)
    if is_tar(files):
        if is_local and len(files) == len(names):
            _check_keys(files, path=path)
        return []
    column = find_typed_column(features, "split", dtypes=("string", "large_string"))
    if column is None:
        return []
    if not (is_local and is_parquet(files) and len(files) == len(names)):
        return [f"{path}: the column {column!r} is not read, so videos of all its values are used together"]
    values = {
        _text(value, features[column]) for _, value in read_parquet_column(files, column, names=names, path=path)
    }
    splits = {normalize_split(text) for text in values} & SPLIT_NAMES.keys()
    if len(splits) > 1:
        raise DataError(
            f"{path}: the column {column!r} says that one file holds several splits ({', '.join(sorted(splits))}); "
            f"{_REMEDY.format(ending='.parquet')}, or remove that column to use all together"
        )
    return []


def _text(value: Any, feature: Any) -> str:
    names = getattr(feature, "names", None)
    return str(names[value]) if names and isinstance(value, int) and 0 <= value < len(names) else str(value)


def _check_keys(files: Sequence[str], *, path: str) -> None:
    """Raise for tar files with folders of several splits; only the first and the last file are checked."""
    keys: list[str] = []
    for file in dict.fromkeys((files[0], files[-1])):
        try:
            with tarfile.open(file) as archive:
                keys += [entry.name.removeprefix("./") for entry in archive if entry.isreg()]
        except (tarfile.TarError, OSError):  # reading it reports the error
            return
    folders = find_reached_splits(keys)
    if folders:
        shown = ", ".join(f"{folder}/" for folder in folders[:4])
        raise DataError(
            f"{path}: its tar files hold several splits ({shown}); {_REMEDY.format(ending='.tar')}, or rename these "
            f"folders to use all together"
        )
