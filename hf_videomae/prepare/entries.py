"""List the videos of a folder or a list file with their labels, splits and segments."""

import math
import re
from dataclasses import dataclass

from ..data.folder_layout import FolderVideos
from ..data.index_files import VideoIndex
from ..data.labels import LabelKind
from ..data.source import segment_id
from ..data.video_files import FolderScan, file_extension
from ..text import escape_non_utf8
from ..video.encoding import Trim

_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True)
class SkippedVideo:
    """A video that is left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class InputEntry:
    """A video, or a segment of one, as its folders or its row in an index file name it."""

    path: str
    label: str = ""
    split: str = "train"
    start: float | None = None
    end: float | None = None

    @property
    def id(self) -> str:
        """Return the path, with `@START-END` for a segment."""
        return segment_id(escape_non_utf8(self.path), start=self.start, end=self.end)

    @property
    def trim(self) -> Trim | None:
        """Return the segment to keep; None for a whole video."""
        if self.start is None and self.end is None:
            return None
        return Trim(start=self.start or 0.0, end=self.end)


def entries_from_folder(videos: FolderVideos) -> list[InputEntry]:
    """Return the videos of a folder with their classes and splits."""
    labels = [""] * len(videos.paths) if videos.labels is None else list(map(escape_non_utf8, videos.labels))
    return [
        InputEntry(path=path, label=label, split=split)
        for path, label, split in zip(videos.paths, labels, videos.splits, strict=True)
    ]


def skipped_in_folder(scan: FolderScan) -> list[SkippedVideo]:
    """Return the media files whose extensions are not among those of videos."""
    return [
        SkippedVideo(
            escape_non_utf8(path), f"its extension {file_extension(path) or '(none)'} is not taken for a video's"
        )
        for path in scan.other_media
    ]


def entries_from_index(
    index: VideoIndex, *, kind: LabelKind, split: str
) -> tuple[list[InputEntry], list[SkippedVideo]]:
    """Return the videos of an index file, and the rows that cannot be used.

    Args:
        index: covers all splits.
        kind: one class per video, several, or a number.
        split: the split of all rows, if no row names its row_split.
    """
    refused = {escape_non_utf8(row.row): f"{row.reason} ({index.file.name})" for row in index.refused}
    has_splits = any(listed.split for listed in index.entries)
    kept: dict[str, InputEntry] = {}
    for position, listed in enumerate(index.entries):
        label = "" if index.labels is None else index.labels[position]
        reason = _find_row_problem(
            label if kind == "regression" and index.labels is not None else None, listed.split, has_splits
        )
        if reason:
            refused[escape_non_utf8(listed.path)] = f"{reason} ({index.file.name})"
            continue
        row_split = listed.split or split
        entry = InputEntry(path=listed.path, label=label, split=row_split, start=listed.start, end=listed.end)
        before = kept.setdefault(entry.id, entry)
        if before != entry:
            refused[entry.id] = (
                f"it is listed twice, as {_describe_entry(before)} and {_describe_entry(entry)} ({index.file.name})"
            )
    entries = [entry for id, entry in kept.items() if id not in refused]
    return entries, [SkippedVideo(path, reason) for path, reason in sorted(refused.items())]


def _find_row_problem(number: str | None, split: str, has_splits: bool) -> str:
    """Return what is wrong with a row; "" if nothing is."""
    if number is not None and not _is_number(number):
        return f"its label {number!r} is not a finite number"
    if has_splits and not split:
        return "it has no split, though other rows have one"
    if split and not _SPLIT_NAME.fullmatch(split):
        return f"its split {split!r} is not a name: letters, digits, _ and . are allowed"
    return ""


def _describe_entry(entry: InputEntry) -> str:
    return f"{entry.label or 'unlabeled'} in {entry.split}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
