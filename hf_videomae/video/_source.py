"""Resolve what the caller named to what a decoder takes: an absolute path, the bytes of a file, or a remote file."""

import functools
import io
import os
import re
import stat
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import BinaryIO

from ._mp4 import FIRST_BOXES, iterate_boxes
from ._remote import RemoteVideoFile, download_or_open_remote, read_all_bytes
from .containers import MATROSKA, MP4, Container, find_container, has_external_media
from .decode_errors import BackendFailure, LimitExceeded, VideoDecodeError
from .url_allowlist import BlockedVideo, redact_url

VideoSource = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO

# FFmpeg reads a path with one of these characters as a pattern of image names.
_PATTERN = re.compile(r"[%*?\[\]{}]")


@dataclass(frozen=True)
class ResolvedSource:
    """A video source. `name` is for errors; `content` is an absolute path, the whole file, or a large remote file."""

    name: str
    content: str | bytes | RemoteVideoFile

    @functools.cached_property
    def container(self) -> Container:
        """Return the container, by the first bytes. Raises `VideoDecodeError` for a file that is no video."""
        try:
            with self.open() as file:
                return find_container(file, name=self.name)
        except BackendFailure:  # the server does not give parts after all
            self.download()
            return find_container(io.BytesIO(self.content.all_bytes), name=self.name)  # type: ignore[union-attr]
        except OSError as error:
            raise VideoDecodeError(self.name, (error.strerror or str(error)).lower()) from error

    def validate_container(self) -> None:
        """Raise `VideoDecodeError` if the container is not supported. Reads the start of the file once."""
        _ = self.container

    @property
    def data(self) -> str | bytes:
        """Return an absolute path or the bytes of the whole file; a remote file is downloaded for it, once."""
        return self.content.all_bytes if isinstance(self.content, RemoteVideoFile) else self.content

    def download(self) -> None:
        """Download a remote file into memory."""
        assert not isinstance(self.data, str)

    @property
    def is_remote(self) -> bool:
        """Return whether the bytes are on a server, so that each read costs time."""
        return isinstance(self.content, RemoteVideoFile) and not self.content.is_downloaded

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        if isinstance(self.content, RemoteVideoFile):
            return self.content.size
        return len(self.content) if isinstance(self.content, bytes) else os.path.getsize(self.content)

    @property
    def is_seekable(self) -> bool:
        """Return whether the container has time stamps and a table of keyframes: MP4, MOV, Matroska, WebM.

        Goes by the first bytes, whatever the file is called. AVI has no time stamps, MPEG streams have no table.
        """
        return self.container in (MP4, MATROSKA)

    @property
    def has_ffmpeg_pattern(self) -> bool:
        """Return whether FFmpeg, given the path alone, might read other files."""
        return isinstance(self.content, str) and _PATTERN.search(self.content) is not None

    def is_complete_mp4(self) -> bool:
        """Return whether the file is MP4 or MOV and ends with its last box: nothing is cut off."""
        with self.open() as file:
            size = file.seek(0, os.SEEK_END)
            end = 0
            for box in iterate_boxes(file, 0, size):
                if box.start == 0 and box.kind not in FIRST_BOXES:
                    return False
                end = box.end
        return end == size

    def has_external_media(self) -> bool:
        """Return whether it is a QuickTime reference movie, whose video lies in another file."""
        if self.is_remote or self.container is not MP4:
            return False
        with self.open() as file:
            return has_external_media(file)

    def open(self) -> BinaryIO:
        """Open the file for reading; the bytes of a remote file are fetched as they are read. The caller closes it."""
        if isinstance(self.content, RemoteVideoFile):
            return self.content.open()
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else open(self.content, "rb")


def resolve_source(source: VideoSource, *, name: str | None = None) -> ResolvedSource:
    """Check a path, or read a URL, a binary file object or bytes whole; large files that support it stay remote.

    Raises:
        VideoDecodeError: nothing is there, or it is empty, a directory, or cannot be downloaded.
        ValueError: the source is of no kind that can be read.
    """
    if isinstance(source, BlockedVideo):
        raise VideoDecodeError(name or source.path, source.reason)
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_memory(bytes(source), name=name or "<bytes>")
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        if path.startswith("file://"):
            path = urllib.request.url2pathname(urllib.parse.urlsplit(path).path)
        elif "://" in path:
            return _from_download(download_or_open_remote(path), name=name or redact_url(path))
        return _on_disk(path, name=name or path)
    if hasattr(source, "read"):
        name = name or str(getattr(source, "name", "<file object>"))
        try:
            return _in_memory(read_all_bytes(source), name=name)
        except LimitExceeded as error:
            raise VideoDecodeError(name, str(error)) from error
    raise ValueError(f"a video source is a path, a URL, bytes or a binary file object, got {type(source).__name__}")


def _from_download(content: bytes | RemoteVideoFile, *, name: str) -> ResolvedSource:
    return _in_memory(content, name=name) if isinstance(content, bytes) else ResolvedSource(name, content)


def _in_memory(data: bytes, *, name: str) -> ResolvedSource:
    if not data:
        raise VideoDecodeError(name, "it is empty (0 bytes)")
    return ResolvedSource(name, data)


def _on_disk(path: str, *, name: str) -> ResolvedSource:
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb"):
                pass
    except OSError as error:
        raise VideoDecodeError(name, (error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a NUL character in the path
        raise VideoDecodeError(name, str(error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoDecodeError(name, "it is a directory, not a video file")
    if not stat.S_ISREG(status.st_mode):
        raise VideoDecodeError(name, "it is not a regular file")
    if status.st_size == 0:
        raise VideoDecodeError(name, "it is empty (0 bytes)")
    # Absolute, because FFmpeg takes "12:30.mp4" for a protocol called "12".
    return ResolvedSource(name, os.path.abspath(path))
