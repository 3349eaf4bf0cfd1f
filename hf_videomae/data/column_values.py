"""Read all values of one column of shards without their videos, and find out whether a folder holds shards."""

import importlib.util
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

from ..errors import DataError, first_line
from ..hub.source_errors import read_with_retries
from .shard_folders import has_shards
from .video_files import FolderScan

_NUM_READERS = 8
# Larger rows contain their videos.
_MAX_ROW_BYTES_WITHOUT_VIDEO = 2**16
_PAGE_BYTES = 2**16
_NUM_PEEKED_ROWS = 100
_VIDEO_COLUMN = "video"
# Little of a file on the Hub is needed, from few places.
_BLOCK_BYTES = 2**20


def is_parquet(files: Sequence[str]) -> bool:
    """Return whether all files are Parquet, by their names."""
    return bool(files) and all(file.endswith(".parquet") for file in files)


def is_tar(files: Sequence[str]) -> bool:
    """Return whether all files are tar archives, by their names."""
    return bool(files) and all(".tar" in PurePosixPath(file).suffixes for file in files)


def read_parquet_column(
    files: Sequence[str], column: str, *, names: Sequence[str], path: str
) -> Iterator[tuple[str, Any]]:
    """Yield the values of a column of Parquet files, local or on the Hub.

    Args:
        files: paths or URLs.
        column: its name.
        names: the names of the files in the ids of samples.
        path: of the dataset, for errors.

    Yields:
        (sample id, value).

    Raises:
        DataError: for a file that is not Parquet.
    """

    def read(file: str) -> list[Any]:
        import pyarrow.parquet

        def read_column() -> list[Any]:
            with _open_file(file) as content:
                table = pyarrow.parquet.ParquetFile(content).read(columns=[column])
            values: list[Any] = table[column].to_pylist()
            return values

        name = names[files.index(file)]
        return read_with_retries(read_column, dataset_name=path, file=name, is_local="://" not in file)

    import pyarrow

    try:
        with ThreadPoolExecutor(_NUM_READERS) as pool:
            for name, values in zip(names, pool.map(read, files), strict=True):
                yield from ((f"{name}#{number}", value) for number, value in enumerate(values))
    # A damaged page is an OSError. Network errors were retried before.
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {first_line(error)[:200]}; download or write its files again"
        ) from error


def read_tar_member(
    files: Sequence[str], member: str, *, video: str, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Yield one member of each sample of local tar files, skipping over the others.

    Args:
        files: paths.
        member: its extension, such as `cls`.
        video: extension of the videos; a key without a video is not a sample.
        names: the names of the files in the ids of samples.

    Yields:
        (sample id, text or None).

    Raises:
        DataError: for a file that is not a complete tar archive.
    """
    for file, name in zip(files, names, strict=True):
        try:
            with tarfile.open(file) as archive:
                yield from ((f"{name}/{key}", value) for key, value in _iter_members(archive, member, video))
        except tarfile.TarError as error:
            raise DataError(f"{file} is not a complete tar file ({error}); download or write it again") from error


def _iter_members(archive: tarfile.TarFile, member: str, video: str) -> Iterator[tuple[str, str | None]]:
    """Yield (key, text) per sample: consecutive members with the same name up to the first dot, as in `datasets`."""
    current = ""
    members: dict[str, str | None] = {}
    for entry in archive:
        folder, _, base = entry.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not entry.isreg() or not stem or not dot or base.startswith("__"):
            continue
        key = f"{folder}/{stem}" if folder else stem
        if key != current:
            if video in members:
                yield current, members.get(member)
            current, members = key, {}
        content = archive.extractfile(entry) if extension == member else None
        members[extension] = None if content is None else content.read().decode("utf-8", "replace")
    if video in members:
        yield current, members.get(member)


def peek_video_paths(file: str, column: str) -> list[str]:
    """Return the paths in the first rows of a Parquet file; empty if its videos are embedded.

    Raises:
        OSError: or the client's error, if the file cannot be read.
    """
    import pyarrow.parquet

    types = pyarrow.types
    with _open_file(file) as content:
        # Read page by page, because a column of videos may be large.
        table = pyarrow.parquet.ParquetFile(content, buffer_size=_PAGE_BYTES)
        if column not in table.schema_arrow.names or table.num_row_groups == 0:
            return []
        kind = table.schema_arrow.field(column).type
        if types.is_struct(kind):
            if not {"bytes", "path"} <= {field.name for field in kind}:
                return []
            # The size of the whole group: pyarrow aborts the process if asked for the size of a damaged column.
            group = table.metadata.row_group(0)
            if group.total_byte_size > _MAX_ROW_BYTES_WITHOUT_VIDEO * max(group.num_rows, 1):
                return []
        elif not (types.is_string(kind) or types.is_large_string(kind)):
            return []
        rows = next(table.iter_batches(_NUM_PEEKED_ROWS, row_groups=[0], columns=[column]), None)
        values = [] if rows is None else rows.column(0).to_pylist()
    if any(isinstance(value, dict) and value.get("bytes") is not None for value in values):
        return []
    paths = [value.get("path") if isinstance(value, dict) else value for value in values]
    return [path for path in paths if isinstance(path, str)]


def is_sharded(scan: FolderScan) -> bool:
    """Return whether a folder holds Parquet, WebDataset or Arrow files, and no videos except those that rows name.

    The labels of such a dataset are in its columns.
    """
    return has_shards(scan) and (not scan.videos or _has_video_paths(scan))


def _has_video_paths(scan: FolderScan) -> bool:
    """Return whether a Parquet file of a folder names, in its column `video`, video files of the folder."""
    first = next((scan.root / path for path in scan.shards if path.endswith(".parquet")), None)
    if first is None or importlib.util.find_spec("pyarrow") is None:
        return False
    import pyarrow

    try:
        paths = peek_video_paths(str(first), _VIDEO_COLUMN)
    except pyarrow.ArrowInvalid:  # not Parquet, whatever its name
        return False
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{first} cannot be read: {first_line(error)[:200]}; get the file again, or remove it from the folder"
        ) from error
    return any((scan.root / path).is_file() for path in paths)


def _open_file(file: str) -> Any:
    """Open a file, local or on the Hub."""
    if "://" not in file:
        return open(file, "rb")
    import fsspec  # type: ignore[import-untyped]

    return fsspec.open(file, "rb", block_size=_BLOCK_BYTES)
