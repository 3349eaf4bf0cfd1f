"""Open lists of videos that the user names: index files, and the annotation files of well-known datasets.

- CSV or text with `path label` in each line and no header (VideoMAE, SlowFast, V-JEPA), or with a header.
- UCF101: `trainlist01.txt`, with the names of the classes in `classInd.txt` next to it.
- Something-Something: `train.json` with `id` and `template`, the classes in `labels.json` next to it.
- Kinetics: CSV or JSON with `youtube_id`, `time_start`, `time_end`; the files are cut already.

The user chose the list, so it may name any file on this machine.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from .class_name_files import apply_class_ind
from .folder import FolderSource
from .index_columns import PATH_COLUMNS, find_columns, read_index_table
from .index_files import VideoList
from .index_paths import IndexPathResolver
from .labels import SINGLE_LABEL, LabelKind
from .list_detection import split_from_list_name
from .metadata_files import read_index_split
from .video_ids import id_column, resolve_video_ids

# HMDB51: 1 is training, 2 is testing, 0 is neither, and the class is in the file name.
_HMDB_LIST = re.compile(r".*_test_split\d\.txt")
# Number of rows used to find the folder of a list's paths.
_SAMPLED_ROWS = 40


def open_video_list(dataset: str, *, split: str = "train", kind: LabelKind = SINGLE_LABEL) -> FolderSource:
    """Open a list of videos that the user names.

    Args:
        dataset: the file.
        split: which rows to use, if the list has a column of splits; else `train`, or the split in the file's name.
        kind: what the labels mean.

    Raises:
        DataError: for a file that is not a list, missing videos, and rows that cannot be used.
    """
    listed = read_video_list(Path(dataset))
    index = read_index_split(listed, split=split, kind=kind, name=dataset)
    names = listed.class_names if kind == SINGLE_LABEL else None
    return FolderSource.from_index(dataset, index, root=listed.paths.root, kind=kind, class_names=names)


def read_video_list(file: Path) -> VideoList:
    """Read a list, and find the folder of its videos.

    Raises:
        DataError: for a file that is not a list, or if none of its videos is found.
    """
    if _HMDB_LIST.fullmatch(file.name):
        raise DataError(
            f"{file} looks like a list of HMDB51, whose numbers are splits, not classes; write a CSV file with the "
            f"columns path,label,split from all its lists"
        )
    table = read_index_table(file)
    if id_column(table) is not None:
        ids = resolve_video_ids(table, folders=(file.parent, Path(os.path.normpath(file.parent / ".."))))
        columns, root, class_names, notes = find_columns(ids.table), ids.root, ids.class_names, ids.notes
    else:
        if file.suffix.lower() == ".txt" and PATH_COLUMNS.isdisjoint(table.columns):
            raise DataError(
                f"{file} is neither a video file nor a list of videos: a list has `path label` in each line, or "
                f"a first line that names the columns"
            )
        table, class_names = apply_class_ind(table)
        columns = find_columns(table)
        paths = list(table.texts(columns.path))
        root, notes = _find_root(file, paths), []
        is_elsewhere = os.path.realpath(root) != os.path.realpath(file.parent)
        if is_elsewhere and not all(map(os.path.isabs, _sample_evenly(paths))):
            notes = [f"the paths in {file} are read as relative to {root}"]
    resolver = IndexPathResolver(root, is_trusted=True)
    return VideoList(
        columns=columns, paths=resolver, class_names=class_names, notes=notes, split=split_from_list_name(file)
    )


# The folder of the paths.


def _find_root(file: Path, paths: Sequence[str]) -> Path:
    """Return the folder that a list's paths are relative to: the one with most of a sample of them.

    The candidates are the list's folder, its parent, the working directory, and the folders in the first two. If
    several have as many files, the first one wins.
    """
    if not paths:
        raise DataError(f"{file} lists no videos; add a row for each, such as `videos/a.mp4 run`")
    absolute = [os.path.dirname(path) for path in paths if os.path.isabs(path) and os.path.isfile(path)]
    relative = [path for path in paths if not os.path.isabs(path)]
    if absolute and not relative:
        return Path(os.path.commonpath(absolute))
    sample, best, most = _sample_evenly(relative or paths), file.parent, 0
    for folder in _candidate_folders(file):
        resolver = IndexPathResolver(folder, is_trusted=True)
        count = sum(map(resolver.has_file, sample))
        if count > most:
            best, most = folder, count
        if count == len(sample):
            break
    if not most:
        places = ", ".join(map(str, dict.fromkeys((file.parent, file.parent.parent, Path.cwd()))))
        raise DataError(
            f"{file}: {sample[0]} is not there, nor are other videos of the list (searched in {places} and "
            f"the folders within); write paths relative to the list, or absolute ones"
        )
    return best


def _sample_evenly(items: Sequence[str]) -> list[str]:
    return [items[position] for position in range(0, len(items), max(1, len(items) // _SAMPLED_ROWS))][
        : _SAMPLED_ROWS + 1
    ]


def _candidate_folders(file: Path) -> Iterator[Path]:
    nearby_folders = [file.parent, file.parent / "..", Path()]
    yield from (Path(os.path.normpath(folder)) for folder in nearby_folders)
    for folder in nearby_folders[:2]:
        try:
            inner = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        except OSError:  # a folder that cannot be listed
            continue
        yield from (Path(os.path.normpath(folder / name)) for name in inner if not name.startswith("."))
