"""Read a folder of videos without an index file: find the videos of a split, and the class of each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import DataError
from ..text import escape_non_utf8
from .class_folders import FolderClasses, FolderNames, read_classes
from .split_folders import SplitLevel, find_split_folders, select_split_folders, split_from_name
from .split_names import normalize_split


@dataclass(kw_only=True)
class FolderVideos:
    """Videos of a folder.

    Attributes:
        paths: posix paths relative to the folder.
        labels: the label of each path; None if the folders name no classes.
        splits: the split of each path.
        no_labels_reason: why there are no labels; "" if there are, or there are fewer than two class folders.
        notes: how the folder was read, for the user.
    """

    paths: list[str]
    labels: list[str] | None
    splits: list[str]
    no_labels_reason: str
    notes: list[str]


def read_split(videos: Sequence[str], *, name: str, split: str) -> FolderVideos:
    """Read the videos of one split.

    Args:
        videos: relative paths of all videos under the folder.
        name: path of the folder.
        split: its name, another word for it, or the exact name of its folder.

    Raises:
        DataError: for a split that is not there, and if only some folders look like splits.
    """
    level, notes = find_split_folders(videos, name=name)
    reading, selected, folder = FolderClasses(), videos, name
    if level is None:
        notes += _note_folder_split(name, split=split)
    else:
        folders, more = select_split_folders(level, split, name=name)
        notes += more
        selected = [path for path in videos if path.split("/")[level.depth] in folders]
        folder = os.path.join(name, folders[0]) if level.depth == 0 else name
        # The folders of all splits name the classes, or those of this split alone.
        reading = read_classes(_class_folders_of(videos, level), paths=videos)
    if reading.labels is not None:
        label_of = dict(zip(videos, reading.labels, strict=True))
        reading = replace(reading, labels=[label_of[path] for path in selected])
    else:
        pattern = os.path.join(folder, "**/*")
        reading = read_classes(_class_folders_of(selected, level), paths=selected, pattern=pattern)
    return _with_classes(reading, paths=selected, splits=[normalize_split(split)] * len(selected), notes=notes)


def read_without_splits(videos: Sequence[str]) -> FolderVideos:
    """Read all videos as one split, whatever the names of their folders; something else gives the splits."""
    reading = replace(read_classes(_class_folders_of(videos, None), paths=videos), note="")
    return _with_classes(reading, paths=videos, splits=[""] * len(videos))


def read_all_splits(videos: Sequence[str], *, name: str) -> FolderVideos:
    """Read the videos of all splits; without folders of splits all are training videos.

    Raises:
        DataError: if only some folders look like splits, or several look like the same.
    """
    level, notes = find_split_folders(videos, name=name, suggest_pattern=False)
    if level is None:
        splits = ["train"] * len(videos)
        notes += _note_folder_split(name, split="train")
    else:
        split, folders = next((item for item in level.by_split().items() if len(item[1]) > 1), ("", []))
        if folders:
            raise DataError(
                escape_non_utf8(
                    f"{name} has {len(folders)} folders for the split {split!r} ({folders[0]}/ and {folders[1]}/); "
                    f"prepare one of them by itself, or list the videos in an index.csv (path,label,split)"
                )
            )
        splits = [level.split_of(path) for path in videos]
    reading = read_classes(_class_folders_of(videos, level), paths=videos)
    return _with_classes(reading, paths=videos, splits=splits, notes=notes)


def _with_classes(
    reading: FolderClasses, *, paths: Sequence[str], splits: list[str], notes: Sequence[str] = ()
) -> FolderVideos:
    return FolderVideos(
        paths=list(paths),
        labels=reading.labels,
        splits=splits,
        no_labels_reason=reading.no_labels_reason,
        notes=[*notes, *filter(None, [reading.note])],
    )


def _class_folders_of(paths: Sequence[str], level: SplitLevel | None) -> list[FolderNames]:
    if level is None:
        return [tuple(path.split("/")[:-1]) for path in paths]
    return [level.folders_without_split(path) for path in paths]


def _note_folder_split(name: str, *, split: str) -> list[str]:
    """Return a note if the dataset's own folder has the name of a split.

    Raises:
        DataError: when another split is requested than the folder can be.
    """
    path = os.path.abspath(name)
    folder_split, requested_split = split_from_name(os.path.basename(path)), normalize_split(split)
    folder = escape_non_utf8(os.path.basename(path))
    if folder_split not in (None, requested_split) and requested_split == "train":
        return [f"the folder is called {folder}, and all its videos are read as the split train"]
    if folder_split == requested_split and requested_split != "train":
        return [f"all videos of the folder {folder} are read as the split {requested_split}"]
    if requested_split == "train":
        return []
    sibling = _find_sibling_split(path, requested_split)
    hint = "" if sibling is None else f"; {sibling} is next to it: give that, or {os.path.dirname(path)}"
    raise DataError(
        escape_non_utf8(
            f"{name} has no split {split!r} (it has: {folder_split or 'train'}); name one of its splits, put the "
            f"split's videos into a folder {split}/, or add a column `split` to its index file{hint}"
        )
    )


def _find_sibling_split(path: str, split: str) -> str | None:
    if split_from_name(os.path.basename(path)) is None:
        return None
    parent = os.path.dirname(path)
    siblings = sorted(name for name in os.listdir(parent) if split_from_name(name) == split)
    return next((os.path.join(parent, name) for name in siblings if os.path.isdir(os.path.join(parent, name))), None)
