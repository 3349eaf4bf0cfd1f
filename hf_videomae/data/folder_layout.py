"""Read a folder of videos without an index file: which videos are of a split, and the class of each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..records import readable
from .class_folders import ClassReading, Folders, read_classes
from .samples import DataError
from .split_folders import SplitLevel, choose_folders, find_splits, split_in_name
from .split_names import split_name


@dataclass(kw_only=True)
class FolderVideos:
    """Videos of a folder.

    Attributes:
        paths: relative to it, in posix form.
        labels: of each path; None where the folders name no classes.
        splits: of each path.
        unlabelled: why there are no labels; "" where there are, or there are not two class folders.
        notes: how the folder was read, for the user.
    """

    paths: list[str]
    labels: list[str] | None
    splits: list[str]
    unlabelled: str = ""
    notes: list[str] = field(default_factory=list)


def read_split(videos: Sequence[str], *, name: str, split: str) -> FolderVideos:
    """Read the videos of one split.

    Args:
        videos: relative paths of all videos under the folder.
        name: path of the folder.
        split: its name, another word for it, or the very name of its folder.

    Raises:
        DataError: for a split that is not there, and where only some folders look like splits.
    """
    found = find_splits(videos, name=name)
    level, notes = found.level, list(found.notes)
    if level is None:
        chosen, folder = list(videos), name
        notes += _notes_on_whole(name, split=split)
    else:
        folders, more = choose_folders(level, split, name=name)
        chosen = [path for path in videos if path.split("/")[level.depth] in folders]
        folder = os.path.join(name, folders[0]) if level.depth == 0 else name
        notes += more
    reading = _classes_of(chosen, videos, level=level, pattern=os.path.join(folder, "**/*"))
    notes += filter(None, [reading.note])
    splits = [split_name(split)] * len(chosen)
    return FolderVideos(paths=chosen, labels=reading.labels, splits=splits, unlabelled=reading.why, notes=notes)


def read_whole(videos: Sequence[str]) -> FolderVideos:
    """Read all videos as one split, whatever their folders are called: something else says the splits."""
    reading = read_classes(_folders(videos, None), paths=videos)
    return FolderVideos(paths=list(videos), labels=reading.labels, splits=[""] * len(videos), unlabelled=reading.why)


def read_all_splits(videos: Sequence[str], *, name: str) -> FolderVideos:
    """Read the videos of all splits; without folders of splits all are training videos.

    Raises:
        DataError: where only some folders look like splits, or several for the same.
    """
    found = find_splits(videos, name=name, patterns=False)
    level, notes = found.level, list(found.notes)
    if level is None:
        splits = ["train"] * len(videos)
        notes += _notes_on_whole(name, split="train")
    else:
        for split in level.by_split():
            _refuse_two_folders(level, split, name=name)
        splits = [level.split_of(path) for path in videos]
    reading = read_classes(_folders(videos, level), paths=videos)
    notes += filter(None, [reading.note])
    return FolderVideos(paths=list(videos), labels=reading.labels, splits=splits, unlabelled=reading.why, notes=notes)


def _refuse_two_folders(level: SplitLevel, split: str, *, name: str) -> None:
    folders = level.by_split()[split]
    if len(folders) > 1:
        both = " and ".join(f"{folder}/" for folder in folders[:2])
        raise DataError(
            readable(
                f"{name} has {len(folders)} folders for the split {split!r} ({both}); prepare one of them by itself, "
                f"or list the videos in an index.csv (path,label,split)"
            )
        )


def _folders(paths: Sequence[str], level: SplitLevel | None) -> list[Folders]:
    if level is None:
        return [tuple(path.split("/")[:-1]) for path in paths]
    return [level.without(path) for path in paths]


def _classes_of(
    chosen: Sequence[str], videos: Sequence[str], *, level: SplitLevel | None, pattern: str
) -> ClassReading:
    """Read classes as all splits show them; a split whose own folders differ from the others is read by itself."""
    if level is not None:
        whole = read_classes(_folders(videos, level), paths=videos)
        if whole.labels is not None:
            label_of = dict(zip(videos, whole.labels, strict=True))
            return ClassReading(labels=[label_of[path] for path in chosen], note=whole.note)
    return read_classes(_folders(chosen, level), paths=chosen, pattern=pattern)


def _notes_on_whole(name: str, *, split: str) -> list[str]:
    """Return a note where the folder that was named is called as a split.

    Raises:
        DataError: where another split is asked for than the folder can be.
    """
    path = os.path.abspath(name)
    called, asked = split_in_name(os.path.basename(path)), split_name(split)
    folder = readable(os.path.basename(path))
    if called not in (None, asked) and asked == "train":
        return [f"the folder is called {folder}, and all its videos are read as the split train"]
    if called == asked and asked != "train":
        return [f"all videos of the folder {folder} are read as the split {asked}"]
    if asked == "train":
        return []
    beside = _sibling_of_split(path, asked)
    hint = "" if beside is None else f"; {beside} lies beside it: give that, or {os.path.dirname(path)}"
    raise DataError(
        readable(
            f"{name} has no split {split!r} (it has: {called or 'train'}); name a split that it has, put the split's "
            f"videos into a folder {split}/, or add a column `split` to its index file{hint}"
        )
    )


def _sibling_of_split(path: str, split: str) -> str | None:
    if split_in_name(os.path.basename(path)) is None:
        return None
    parent = os.path.dirname(path)
    found = sorted(name for name in os.listdir(parent) if split_in_name(name) == split)
    return next((os.path.join(parent, name) for name in found if os.path.isdir(os.path.join(parent, name))), None)
