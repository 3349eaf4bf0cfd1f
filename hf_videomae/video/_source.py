"""What the caller named, to what a decoder takes: an absolute path, or the whole file in memory."""

import http.client
import io
import os
import stat
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from . import limits
from .errors import LimitExceeded, VideoBackendError, VideoDecodeError

VideoSource = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO

_DOWNLOAD_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 4 * 2**20
_MATROSKA = b"\x1a\x45\xdf\xa3"
_MAX_BOXES = 64
_FIRST_BOXES_OF_MP4 = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


@dataclass(frozen=True)
class ResolvedSource:
    """`name` is what errors call it; `data` an absolute path or the bytes of the whole file."""

    name: str
    data: str | bytes

    @property
    def can_be_sought(self) -> bool:
        """Whether the container is one with time stamps and a table of key frames: MP4, MOV, Matroska, WebM.

        Goes by the first bytes, whatever the file is called. AVI has no time stamps, MPEG streams have no table.
        """
        with self.open() as file:
            head = file.read(8)
        return head[:4] == _MATROSKA or head[4:8] in _FIRST_BOXES_OF_MP4

    def is_whole_mp4(self) -> bool:
        """Whether the file is MP4 or MOV and ends where its last box does: nothing is cut off."""
        with self.open() as file:
            end = file.seek(0, os.SEEK_END)
            place, number = 0, 0
            while 0 <= end - place - 8 and number < _MAX_BOXES:
                file.seek(place)
                head = file.read(16)
                if place == 0 and head[4:8] not in _FIRST_BOXES_OF_MP4:
                    return False
                size = int.from_bytes(head[:4])
                if size == 1:
                    size = int.from_bytes(head[8:16])
                if size < 8:
                    return False
                place, number = place + size, number + 1
        return place == end

    def open(self) -> BinaryIO:
        """The file's bytes, to be closed again."""
        return io.BytesIO(self.data) if isinstance(self.data, bytes) else open(self.data, "rb")


def resolve_source(source: VideoSource, *, name: str | None = None) -> ResolvedSource:
    """Checks a path, or reads a URL, a binary file object or bytes whole.

    Raises:
        VideoDecodeError: nothing is there, or it is empty, a directory, or cannot be downloaded.
        ValueError: the source is of no kind that can be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_memory(bytes(source), name=name or "<bytes>")
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        if path.startswith("file://"):
            path = urllib.request.url2pathname(urllib.parse.urlsplit(path).path)
        elif "://" in path:
            return _in_memory(_download(path), name=name or path)
        return _on_disk(path, name=name or path)
    if hasattr(source, "read"):
        name = name or str(getattr(source, "name", "<file object>"))
        try:
            return _in_memory(_read_file_object(source), name=name)
        except LimitExceeded as error:
            raise VideoDecodeError(name, str(error)) from error
    raise ValueError(f"a video source is a path, a URL, bytes or a binary file object, got {type(source).__name__}")


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


def _read_file_object(file: BinaryIO) -> bytes:
    content = io.BytesIO()
    while chunk := file.read(_CHUNK_BYTES):
        if isinstance(chunk, str):
            raise ValueError("the file object is opened as text; open it with mode 'rb'")
        content.write(chunk)
        limits.check_fetched(content.tell())
    return content.getvalue()


def _download(url: str) -> bytes:
    """The whole content. http(s) as it is; `hf://` and other stores through fsspec, which knows their credentials."""
    read: Callable[[str], bytes] = _read_http if url.lower().startswith(("http://", "https://")) else _read_fsspec
    try:
        return read(url)
    except LimitExceeded as error:
        raise VideoDecodeError(url, str(error)) from error
    except urllib.error.HTTPError as error:
        raise VideoDecodeError(url, f"the server answers HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise VideoDecodeError(url, f"it cannot be downloaded: {error.reason}") from error
    except ImportError as error:
        raise VideoBackendError(f"reading {url} needs a package that is not installed: {error}") from error
    except _download_errors() as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VideoDecodeError(url, f"it cannot be downloaded: {reason}") from error


def _download_errors() -> tuple[type[Exception], ...]:
    """A broken connection to the Hub is no `OSError`; which client's error it is depends on huggingface_hub."""
    from huggingface_hub.errors import HTTPError

    return (OSError, http.client.HTTPException, ValueError, HTTPError)


def _read_http(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "hf-videomae"})
    with urllib.request.urlopen(request, timeout=_DOWNLOAD_TIMEOUT_SECONDS) as response:
        if response.length is None:
            return _read_file_object(response)
        limits.check_fetched(response.length)
        content: bytes = response.read()  # in one: only so a connection that breaks off is an error
    return content


def _read_fsspec(url: str) -> bytes:
    import fsspec  # type: ignore[import-untyped]

    with fsspec.open(url, "rb") as file:
        limits.check_fetched(getattr(file, "size", None) or 0)
        content: bytes = file.read()
    return content
