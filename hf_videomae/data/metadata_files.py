"""Read `metadata` files below the top of a dataset (the Hub's `videofolder`), and choose a split of any index.

`train/metadata.csv` lists videos relative to `train/`. A file applies to the videos in its folder and below; the
nearest one counts.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError
from ..text import escape_non_utf8
from .folder_layout import FolderVideos
from .index_columns import IndexColumns, find_columns, read_index_table
from .index_files import IndexEntry, InvalidRow, VideoIndex, VideoList, build_index, check_index
from .index_paths import IndexPathResolver
from .labels import LabelKind
from .split_folders import find_reached_splits, find_split_folders
from .split_names import normalize_split
from .video_files import METADATA_FILES


@dataclass(frozen=True)
class MetadataFile:
    """A table of the videos under a folder.

    Attributes:
        folder: the folder that its paths are relative to, relative to the dataset; "" is the dataset itself.
        columns: the columns of the table.
        videos: the videos under the folder, except under folders with tables of their own.
    """

    folder: str
    columns: IndexColumns
    videos: list[str]

    @property
    def name(self) -> str:
        """Return the path of the file within the dataset."""
        return os.path.join(self.folder, self.columns.table.file.name)


def find_metadata(root: Path, files: Sequence[str], videos: Sequence[str]) -> tuple[list[MetadataFile], list[str]]:
    """Find the tables that list videos of a dataset; return notes on files that do not.

    Args:
        root: the dataset.
        files: index files in it, by `scan_folder`.
        videos: paths of all videos.

    Raises:
        DataError: for a table that cannot be read.
    """
    by_folder: dict[str, list[str]] = {}
    for file in files:
        by_folder.setdefault(os.path.dirname(file), []).append(file)
    owned: dict[str, list[str]] = {}
    for video in videos:
        folder = os.path.dirname(video)
        while folder and folder not in by_folder:
            folder = os.path.dirname(folder)
        owned.setdefault(folder, []).append(video)
    tables, notes = [], []
    for folder in sorted(by_folder.keys() & owned.keys()):
        chosen = min(by_folder[folder], key=lambda file: METADATA_FILES.index(os.path.basename(file)))
        table = read_index_table(root / chosen)
        if not table.rows or not {"path", "file_name"} & set(table.columns):
            notes.append(f"{escape_non_utf8(chosen)} has no column `path` or `file_name`, so it is not read")
            continue
        tables.append(MetadataFile(folder, find_columns(table), owned[folder]))
    return tables, notes


def read_metadata(
    root: Path,
    files: Sequence[MetadataFile],
    videos: FolderVideos,
    *,
    kind: LabelKind,
    allowed: Sequence[str] = (),
    strict: bool = True,
) -> VideoIndex:
    """Read what tables say about the videos of one split, or of all.

    Args:
        root: the dataset.
        files: by `find_metadata`.
        videos: the videos of the split, or of all, as read from their folders.
        kind: what the labels mean.
        allowed: by `parse_allowed_paths`.
        strict: raise for a row that cannot be used, instead of listing it in the result.

    Returns:
        entries by their paths in the dataset. Labels come from the tables, or from the folders if no table has any.

    Raises:
        DataError: for a row that cannot be used, videos that no table lists, and labels in some tables only.
    """
    split_of = dict(zip(videos.paths, videos.splits, strict=True))
    used = [file for file in files if any(video in split_of for video in file.videos)]
    covered = {video for file in used for video in file.videos}
    uncovered = [video for video in videos.paths if video not in covered]
    if uncovered:
        raise DataError(
            escape_non_utf8(
                f"{used[0].name} does not cover {len(uncovered)} of the videos, the first is {uncovered[0]}; write a "
                f"file for each folder, or one at the top"
            )
        )
    shown = ", ".join(escape_non_utf8(file.name) for file in used[:2])
    shown += f" and {len(used) - 2} more" if used[2:] else ""
    notes = [f"which videos are used, and their labels, is read from {shown}"]
    entries, refused, labeled = list[IndexEntry](), list[InvalidRow](), set[bool]()
    for file in used:
        paths = IndexPathResolver(root / file.folder, allowed=allowed)
        index = build_index(VideoList(columns=file.columns, paths=paths), split=None, kind=kind)
        index = check_index(index, root=root / file.folder) if strict else index
        refused += [replace(row, row=os.path.join(file.folder, row.row)) for row in index.refused]
        notes += index.notes
        for entry in index.entries:
            path = os.path.normpath(os.path.join(file.folder, entry.path))
            if path in split_of:
                entries.append(replace(entry, path=path, split=entry.split or split_of[path]))
                labeled.add(index.is_labeled)
    first = root / used[0].name
    if len(labeled) > 1:
        raise DataError(f"{first} has labels, and other files like it have none; label all or none")
    entries.sort(key=lambda entry: entry.id)
    merged = VideoIndex(file=first, entries=entries, is_labeled=labeled == {True}, refused=refused, notes=notes)
    return _complete_from_folders(merged, videos)


def _complete_from_folders(index: VideoIndex, videos: FolderVideos) -> VideoIndex:
    """Return an index with the labels of the folders if it has none, and a note on videos that it does not list."""
    file, entries, notes = index.file, index.entries, index.notes
    unlisted = len(set(videos.paths) - {entry.path for entry in entries})
    if unlisted:
        notes.append(f"left out: {unlisted} videos that are not listed there")
    if not entries:
        raise DataError(f"{file} lists none of the videos next to it; its paths are relative to {file.parent}")
    if index.is_labeled:
        return index
    if videos.labels is None:
        return replace(index, no_labels_reason=f"{file.name} has no column `label`")
    label_of = dict(zip(videos.paths, videos.labels, strict=True))
    notes.append(f"{escape_non_utf8(file.name)} has no column `label`, so the classes are those of the folders")
    return replace(index, entries=[replace(entry, label=label_of[entry.path]) for entry in entries], is_labeled=True)


# Splits by the folders of the paths that an index file lists.


def add_folder_splits(index: VideoIndex, *, name: str) -> VideoIndex:
    """Return an index with the splits of its paths' folders, if its rows name no splits and the folders name several.

    Raises:
        DataError: if only some of the folders look like splits.
    """
    if any(entry.split for entry in index.entries) or not find_reached_splits(index.paths):
        return index
    level, _ = find_split_folders(index.paths, name=name)
    if level is None:
        return index
    entries = [replace(entry, split=level.split_of(entry.path)) for entry in index.entries]
    note = f"{index.file.name} has no column `split`, so the folders of its paths give it: " + ", ".join(
        f"{escape_non_utf8(folder)}/ is {split}" for folder, split in sorted(level.folders.items())
    )
    return replace(index, entries=entries, notes=[*index.notes, note])


def select_split(index: VideoIndex, split: str, *, name: str) -> VideoIndex:
    """Return the rows of one split of an index.

    Raises:
        DataError: if there are none, or a row has no split.
    """
    missing = next((entry.path for entry in index.entries if not entry.split), None)
    if missing is not None:
        raise DataError(
            f"{name}: {escape_non_utf8(missing)} has no split, though others have; give every row its split"
        )
    wanted = normalize_split(split).casefold()
    selected = [entry for entry in index.entries if entry.split.casefold() == wanted]
    if not selected:
        known = ", ".join(sorted({entry.split for entry in index.entries}))
        raise DataError(f"{name} has no split {split!r} (it has: {known}); name one of these")
    return replace(index, entries=selected)


def read_index_split(listed: VideoList, *, split: str, kind: LabelKind, name: str) -> VideoIndex:
    """Return the rows of one split of an index file or a list, all of which can be used.

    If neither a column nor the name of the list gives the splits, the folders of the paths do, if they name several.

    Raises:
        DataError: for a row that cannot be used, or if there are no rows of the split.
    """
    has_column = bool(listed.columns.split)
    index = build_index(listed, split=split if has_column else None, kind=kind)
    if not has_column and not listed.split:
        index = add_folder_splits(index, name=name)
    check_index(index, root=listed.paths.root)
    if any(entry.split for entry in index.entries):
        return index if has_column else select_split(index, split, name=name)
    # A list without splits is one split as a whole, and the user may train on it.
    own = listed.split or "train"
    if normalize_split(split) not in (own, "train"):
        raise DataError(
            f"{index.file} has no column `split`, so all its videos are in the split {own}, not in {split!r}: ask for "
            f"{own}, add that column, or name the list of that split"
        )
    return index
