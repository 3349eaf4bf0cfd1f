"""List the videos of a folder or a list file with their labels, splits and segments."""

import re
from dataclasses import dataclass, replace

from ..data.folder_layout import FolderVideos
from ..data.index_files import IndexEntry, VideoIndex
from ..data.labels import LabelKind
from ..data.tables import parse_number
from ..data.video_files import FolderScan, file_extension
from ..text import escape_non_utf8

_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True)
class SkippedVideo:
    """A video that is left out, and why."""

    path: str
    reason: str


def entries_from_folder(videos: FolderVideos) -> list[IndexEntry]:
    """Return the videos of a folder with their classes and splits."""
    labels = [""] * len(videos.paths) if videos.labels is None else list(map(escape_non_utf8, videos.labels))
    return [
        IndexEntry(path=path, label=label, split=split)
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
) -> tuple[list[IndexEntry], list[SkippedVideo]]:
    """Return the videos of an index file, and the rows that cannot be used.

    Args:
        index: covers all splits.
        kind: one class per video, several, or a number.
        split: the split of all rows, if no row names its split.
    """
    refused = {escape_non_utf8(row.row): row.reason for row in index.refused}
    has_splits = any(listed.split for listed in index.entries)
    has_numbers = kind == "regression" and index.is_labeled
    kept: dict[str, IndexEntry] = {}
    for listed in index.entries:
        reason = _find_row_problem(listed, has_numbers=has_numbers, has_splits=has_splits)
        if reason:
            refused[escape_non_utf8(listed.path)] = reason
            continue
        entry = replace(listed, split=listed.split or split)
        before = kept.setdefault(escape_non_utf8(entry.id), entry)
        if before != entry:
            described = (f"{other.label or 'unlabeled'} in {other.split}" for other in (before, entry))
            refused[escape_non_utf8(entry.id)] = f"it is listed twice, as {' and '.join(described)}"
    entries = [entry for id, entry in kept.items() if id not in refused]
    return entries, [SkippedVideo(path, f"{reason} ({index.file.name})") for path, reason in sorted(refused.items())]


def _find_row_problem(row: IndexEntry, *, has_numbers: bool, has_splits: bool) -> str:
    """Return what is wrong with a row; "" if nothing is."""
    if has_numbers and parse_number(row.label) is None:
        return f"its label {row.label!r} is not a finite number"
    if has_splits and not row.split:
        return "it has no split, though other rows have one"
    if row.split and not _SPLIT_NAME.fullmatch(row.split):
        return f"its split {row.split!r} is not a name: letters, digits, _ and . are allowed"
    return ""
