"""Open local videos: a folder, a glob pattern or a single file, with labels from class folders or an index file."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..text import escape_non_utf8
from .class_folders import innermost_classes
from .folder_layout import read_split, read_without_splits
from .frame_folder_hint import describe_frame_folder
from .index_files import VideoIndex, read_index_file
from .labels import SINGLE_LABEL, LabelKind, note_similar_class_names, parse_labels
from .list_detection import note_unread_lists
from .metadata_files import find_metadata, read_index_split, read_metadata, select_split
from .source import Label, Sample, Segment, segment_id
from .split_folders import find_reached_splits, split_from_name
from .video_files import INDEX_FILES, VIDEO_EXTENSIONS, FolderScan, is_video_file

_GLOB_CHARACTERS = frozenset("*?[")


def is_glob_pattern(dataset: str) -> bool:
    """Return whether a name is a glob pattern."""
    return not _GLOB_CHARACTERS.isdisjoint(dataset)


class FolderSource:
    """Local files as a `Source`; opened by `open_video_folder`, `open_glob` or `open_video_file`.

    Args:
        name: what messages call it.
        root: the folder that paths are relative to; it is not part of the samples' ids.
        paths: relative posix paths, which are the samples' ids (with bytes that are not UTF-8 escaped).
        labels: the label of each path, or None for an unlabeled dataset.
        kind: what the labels mean.
        notes: how the folder was read, for the user.
        segments: start and end of each path in seconds; None if all are whole files.
        no_labels_reason: why there are no labels, for errors.
        class_names: all classes in their order, for one class per video; by default those of the labels.
    """

    def __init__(
        self,
        name: str,
        *,
        root: Path,
        paths: list[str],
        labels: list[str] | None = None,
        kind: LabelKind = SINGLE_LABEL,
        notes: Sequence[str] = (),
        segments: Sequence[Segment] | None = None,
        no_labels_reason: str = "",
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.segments, self.no_labels_reason = segments, no_labels_reason
        self.notes = list(notes)
        self.name, self.root, self.paths = escape_non_utf8(name), root, paths
        self.class_names: list[str] | None = None
        self.labels: list[Label] | None = None
        if labels is not None:
            texts, ids = list(map(escape_non_utf8, labels)), list(map(escape_non_utf8, paths))
            self.class_names, self.labels = parse_labels(texts, kind=kind, ids=ids, name=self.name)
            self.notes += note_similar_class_names(self.class_names, name=self.name)
            if class_names is not None and kind == SINGLE_LABEL:
                number = {known: position for position, known in enumerate(class_names)}
                self.class_names, self.labels = list(class_names), [number[text] for text in texts]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        label = None if self.labels is None else self.labels[index]
        start, end = (None, None) if self.segments is None else self.segments[index]
        id = segment_id(escape_non_utf8(path), start=start, end=end)
        return Sample(id=id, video=str(self.root / path), label=label, start=start, end=end)

    @classmethod
    def from_index(
        cls, name: str, index: VideoIndex, *, root: Path, kind: LabelKind, class_names: Sequence[str] | None = None
    ) -> "FolderSource":
        """Return the videos of an index file as a source; `class_names` are all classes in order."""
        segments = [(entry.start, entry.end) for entry in index.entries]
        reason = index.no_labels_reason
        return cls(
            name,
            root=root,
            paths=index.paths,
            labels=[entry.label for entry in index.entries] if index.is_labeled else None,
            kind=kind,
            notes=index.notes,
            segments=segments if any(segment != (None, None) for segment in segments) else None,
            no_labels_reason=f"{reason}; give every row its class in that column" if reason else "",
            class_names=class_names,
        )


def open_video_folder(
    dataset: str,
    scan: FolderScan,
    *,
    split: str = "train",
    kind: LabelKind = SINGLE_LABEL,
    allowed: Sequence[str] = (),
) -> FolderSource:
    """Open the videos under a folder, by its index files or by its subfolders.

    An index file (`INDEX_FILES`) at its top, with a column `path` or `file_name` and optionally `label` and `split`,
    says which videos belong to the dataset. Without one, all videos do: folders with the names of splits are splits,
    at any depth (`find_split_folders`), and class folders are classes (`read_classes`). Several classes of one video
    are separated by `|`.

    Raises:
        DataError: for a folder without videos, an index file that does not fit the folder, an unknown split, or
            folders that can be read in two ways.
    """
    root = scan.root
    if scan.top_index is not None:
        listed = read_index_file(scan.top_index, root=root, scan=scan, allowed=allowed)
        index = read_index_split(listed, split=split, kind=kind, name=dataset)
        return FolderSource.from_index(dataset, index, root=root, kind=kind)
    if not scan.videos:
        raise DataError(_describe_no_videos(scan))
    metadata, notes = find_metadata(root, scan.index_files, scan.videos) if scan.index_files else ([], [])
    if any(file.columns.split for file in metadata):
        full_index = read_metadata(root, metadata, read_without_splits(scan.videos), kind=kind, allowed=allowed)
        source = FolderSource.from_index(dataset, select_split(full_index, split, name=dataset), root=root, kind=kind)
        source.notes += notes
    else:
        videos = read_split(scan.videos, name=dataset, split=split)
        notes = [*videos.notes, *notes]
        if not {video for file in metadata for video in file.videos}.isdisjoint(videos.paths):
            index = read_metadata(root, metadata, videos, kind=kind, allowed=allowed)
            source = FolderSource.from_index(dataset, index, root=root, kind=kind)
            source.notes += notes
        else:
            source = FolderSource(dataset, root=root, paths=videos.paths, labels=videos.labels, kind=kind, notes=notes)
            source.no_labels_reason = videos.no_labels_reason
            if "in no class folder" in videos.no_labels_reason:
                source.no_labels_reason += (
                    "; move it into the folder of its class or out of here, or add an index.csv (path,label)"
                )
    lists = note_unread_lists(root, scan.lists)
    source.notes += [*scan.notes(), *filter(None, [lists])]
    if lists and source.labels is None:
        source.no_labels_reason = f"{source.no_labels_reason or 'its folders name no classes'}; {lists}"
    return source


def open_glob(pattern: str, *, split: str = "train", kind: LabelKind = SINGLE_LABEL) -> FolderSource:
    """Open the videos that a glob pattern matches (`**` is recursive).

    Ids are relative to the folder before the first wildcard.

    Raises:
        DataError: when nothing matches, or no match is a video.
    """
    if split != "train":
        raise DataError(f"{pattern} is a pattern and has no split {split!r}; give the pattern of that split's files")
    matches = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    videos = [path for path in matches if is_video_file(os.path.basename(path))]
    if not videos:
        what = f"{len(matches)} files match but none has a video's extension" if matches else "no file matches"
        raise DataError(f"{pattern}: {what}; check the pattern, or give a folder (its subfolders are searched)")
    fixed = pattern[: min(pattern.index(character) for character in _GLOB_CHARACTERS if character in pattern)]
    root = Path(os.path.dirname(fixed) or ".")
    paths = [Path(path).relative_to(root).as_posix() for path in videos]
    labels = innermost_classes([tuple(path.split("/")[:-1]) for path in paths])
    notes = _describe_pattern_splits(paths, labels, pattern=pattern)
    return FolderSource(pattern, root=root, paths=paths, labels=labels, kind=kind, notes=notes)


def _describe_pattern_splits(paths: Sequence[str], labels: Sequence[str] | None, *, pattern: str) -> list[str]:
    """Return a note if a pattern matches several splits, which are then read as one.

    Raises:
        DataError: when the classes would be the splits.
    """
    named = {split_from_name(label) for label in labels or ()}
    if len(named) > 1 and None not in named:
        raise DataError(
            escape_non_utf8(
                f"{pattern}: the folders that hold the videos are called {', '.join(sorted(set(labels or ())))}, as "
                f"splits are; give the folder above them, or the pattern of one split's files"
            )
        )
    splits = ", ".join(f"{escape_non_utf8(folder)}/" for folder in find_reached_splits(paths))
    return [f"the pattern reaches into {splits}, and all its videos are read as the split train"] if splits else []


def open_video_file(dataset: str) -> FolderSource:
    """Open a single video.

    Raises:
        DataError: for any other file.
    """
    path = Path(dataset)
    if not is_video_file(path.name):
        known = " ".join(sorted(VIDEO_EXTENSIONS))
        raise DataError(f"{dataset} is not a video file (known extensions: {known}); give a folder of videos")
    return FolderSource(dataset, root=path.parent, paths=[path.name])


def _describe_no_videos(scan: FolderScan) -> str:
    root, others = scan.root, scan.num_files
    if scan.is_frame_folder:
        return describe_frame_folder(root, scan.images)
    what = f"none of the {others} files in the folder {root} is a video" if others else f"the folder {root} is empty"
    what += scan.describe_skipped()
    if scan.archives:
        return f"{what}; unpack the archives ({scan.archives}), and give the folder of the videos"
    lists = note_unread_lists(root, scan.lists)
    if lists:
        return escape_non_utf8(f"{what}; {lists}")
    return escape_non_utf8(f"{what}; give a folder that holds videos (.mp4, .avi, .mkv, .webm, ...), at any depth")


def check_labels(source: FolderSource) -> None:
    """Raise `DataError` for a dataset without labels."""
    if source.labels is None and source.no_labels_reason:
        raise DataError(f"{source.name} has no labels: {source.no_labels_reason}")
    if source.labels is None:
        raise DataError(
            f"{source.name} has no labels; put each class's videos into a folder of its name (two or more), or "
            f"add an {INDEX_FILES[0]} with the columns path,label"
        )
