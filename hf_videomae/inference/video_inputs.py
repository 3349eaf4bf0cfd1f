"""Resolve what the user named (files, URLs, folders, patterns, lists, frames) to the videos to read."""

import glob
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..credentials import redact_credentials
from ..data.folder import is_glob_pattern
from ..data.index_files import VideoList, build_index, check_index, read_index_file
from ..data.labels import SINGLE_LABEL
from ..data.list_detection import is_list_file
from ..data.source import segment_id
from ..data.video_files import INDEX_FILES, find_videos, is_video_file
from ..data.video_lists import read_video_list
from ..errors import DataError
from ..text import escape_non_utf8
from ..video.segments import VideoSegment
from ..video.url_allowlist import redact_url

logger = logging.getLogger(__name__)
FILE_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, VideoSegment)
"""The types of videos that are decoded as files; others hold decoded frames, or are open decoders."""
_logged_hosts: set[str] = set()


def find_inputs(names: Iterable[str | os.PathLike[str] | VideoSegment]) -> list[str | VideoSegment]:
    """Return the videos that files, URLs, folders, patterns and lists stand for, each once, in order.

    Folders are searched at any depth. If the index file of a folder has segments, and in a list of videos (CSV, JSON
    or text), each row is a video or a segment of one.

    A URL is read from wherever it leads, including other servers, the local network, and the Hub with the caller's
    token. Each server is logged once.

    Raises:
        ValueError: for a folder or list without videos, or a pattern that no video matches. A missing file is kept in
            the result: reading it reports the error.
    """
    videos: dict[str | VideoSegment, None] = {}
    items = list(names)
    for item in items:
        if isinstance(item, VideoSegment):
            if _is_path(item.video):
                log_remote_host(item.video)  # type: ignore[arg-type]
            videos[item] = None
        else:
            log_remote_host(item)
            videos |= dict.fromkeys(_resolve_name(os.fsdecode(item), is_alone=len(items) == 1))
    return list(videos)


def _resolve_name(name: str, *, is_alone: bool) -> Sequence[str | VideoSegment]:
    path = os.path.expanduser(name)
    if "://" in name:
        return [name]
    if os.path.isdir(path):
        videos = _folder_segments(Path(path)) or [os.path.join(path, video) for video in find_videos(Path(path))]
        if not videos:
            raise ValueError(f"the folder {name} holds no videos (.mp4, .avi, .mkv, .webm, ...); give another")
        return videos
    if os.path.isfile(path) and is_list_file(path):
        return _list_videos(path, is_alone=is_alone)
    if is_glob_pattern(name) and not os.path.exists(path):
        matches = [match for match in sorted(glob.glob(path, recursive=True)) if is_video_file(Path(match).name)]
        if not matches:
            raise ValueError(f"no video matches the pattern {name}; check it, or give a folder")
        return matches
    return [path]


def _list_videos(path: str, *, is_alone: bool) -> list[str | VideoSegment]:
    """Return the rows of a list of videos.

    A text file that is no list is an error if it is the only input. Among others its path is returned, and reading it
    then reports a bad video.
    """
    try:
        return _listed_videos(read_video_list(Path(path)))
    except DataError:
        if is_alone:
            raise
        return [path]


def _folder_segments(root: Path) -> list[str | VideoSegment]:
    """Return the rows of a folder's index file if it has segments, else nothing; labels and splits are ignored."""
    file = next((root / name for name in INDEX_FILES if (root / name).is_file()), None)
    if file is None:
        return []
    try:
        listed = read_index_file(file, root=root)
    except DataError:  # an unreadable index names no segments: all videos of the folder are taken
        return []
    return _listed_videos(listed) if listed.columns.start or listed.columns.end else []


def _listed_videos(listed: VideoList) -> list[str | VideoSegment]:
    """Return the videos and segments of a list or an index file, all of which must exist; labels are ignored."""
    videos, root = list[str | VideoSegment](), listed.paths.root
    unlabeled = replace(listed, columns=replace(listed.columns, label=""))
    index = build_index(unlabeled, split=None, kind=SINGLE_LABEL)
    for entry in check_index(index, root=root).entries:
        file = os.path.normpath(root / entry.path)
        is_whole = entry.start is None and entry.end is None
        videos.append(file if is_whole else VideoSegment(file, start=entry.start or 0.0, end=entry.end))
    return videos


def log_remote_host(video: str | os.PathLike[str]) -> None:
    """Log each server that videos are read from, once: the caller may have got the address from someone else."""
    url = os.fsdecode(video)
    if "://" not in url or url.startswith("file://"):
        return
    scheme, _, location = redact_url(url).partition("://")
    host = "/".join(location.split("/")[: 3 if scheme.lower() == "hf" else 1])
    server = f"{scheme}://{host}"
    if server not in _logged_hosts:
        _logged_hosts.add(server)
        logger.warning("reading videos from %s, as asked; do not pass addresses chosen by strangers", server)


def display_name(video: str | os.PathLike[str] | VideoSegment) -> str:
    """Return the name of a video in results: its path, or its URL without credentials; `PATH@START-END` of a segment.

    A segment of bytes or of an open file is called `<video>@START-END`.
    """
    if isinstance(video, VideoSegment):
        source = display_name(video.video) if isinstance(video.video, (str, os.PathLike)) else "<video>"
        return segment_id(source, start=video.start, end=video.end)
    return escape_non_utf8(redact_credentials(os.fsdecode(video)))


def resolve_videos(videos: Any) -> list[tuple[str, Any]]:
    """Return (name, video) for each video that the caller gave, after expanding folders and patterns.

    A list of frames is one video; a tensor or array of five dimensions is a batch of them.
    """
    if _is_path(videos) or isinstance(videos, VideoSegment):
        videos = [videos]
    if isinstance(videos, Sequence) and not isinstance(videos, (bytes, bytearray, memoryview)):
        if not videos:
            raise ValueError("the list of videos is empty; give at least one video")
        if all(_is_path(item) or isinstance(item, VideoSegment) for item in videos):
            return [(display_name(video), video) for video in find_inputs(videos)]
        if not all(_is_frame(item) for item in videos):
            for item in filter(_is_path, videos):
                log_remote_host(item)
            return [(display_name(item) if _is_path(item) else f"<video {n}>", item) for n, item in enumerate(videos)]
    elif getattr(videos, "ndim", 4) == 5:
        return [(f"<video {n}>", video) for n, video in enumerate(videos)]
    return [("<video 0>", videos)]


def _is_path(video: Any) -> bool:
    return isinstance(video, (str, os.PathLike))


def _is_frame(item: Any) -> bool:
    """Return whether an item of a list is a frame of one video: a PIL image, or an array of two or three axes."""
    return hasattr(item, "getbands") or getattr(item, "ndim", 0) in (2, 3)
