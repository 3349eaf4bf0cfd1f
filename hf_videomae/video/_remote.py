"""Read files behind URLs: download small ones whole, and of large ones only the parts that are read.

http(s) is read directly, `hf://` and other stores through fsspec, which knows their credentials. What can be read in
parts is a file on a server that says so (`Accept-Ranges: bytes`), or one that fsspec reads by place. Failures are
`VideoDecodeError`s with the client's own error as their cause; trying again is the caller's.
"""

import functools
import http.client
import io
import ipaddress
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from . import limits
from .decode_errors import BackendFailure, IncompleteReadError, LimitExceeded, MissingFilesystemError, VideoDecodeError
from .url_allowlist import AllowedURL, is_allowed_url, redact_url, url_host

_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 4 * 2**20
# Up to here one download is faster than several requests.
_MAX_WHOLE_DOWNLOAD_BYTES = 32 * 2**20
_BLOCK_BYTES = 256 * 2**10
# A sequential reader gets more at once: the index of a video of many hours has several MiB.
_MAX_READAHEAD_BLOCKS = 4
_MAX_CACHED_BLOCKS = 64

_Fetch = Callable[[int, int], bytes]  # from one place to before another


class RemoteVideoFile:
    """A file that is too large to be downloaded for a few of its frames.

    Args:
        url: for errors, too.
        size: in bytes.
        head: its first bytes, which are here already; at most one block.
    """

    def __init__(self, url: str, *, size: int, head: bytes = b"") -> None:
        self.url, self.size = url, size
        self._head = head

    @property
    def is_downloaded(self) -> bool:
        """Return whether the whole file has been downloaded after all."""
        return "all_bytes" in vars(self)

    @functools.cached_property
    def all_bytes(self) -> bytes:
        """Return all its bytes.

        Raises:
            VideoDecodeError: it cannot be downloaded, or is larger than `limits` allow.
        """
        with _translate_download_errors(self.url), _FilesystemErrors():
            content = _get(self.url, whole=True) if _is_http(self.url) else _get_by_fsspec(self.url, whole=True)
        assert isinstance(content, bytes)
        return content

    def open(self) -> BinaryIO:
        """Open the file; its bytes are fetched as they are read."""
        if self.is_downloaded:
            return io.BytesIO(self.all_bytes)
        fetch = functools.partial(_get_range, self.url, self.size) if _is_http(self.url) else _fsspec_range(self.url)
        return io.BufferedReader(_BlockReader(self.url, fetch, size=self.size, head=self._head))


def download_or_open_remote(url: str) -> bytes | RemoteVideoFile:
    """Return the whole file, or a `RemoteVideoFile` if it is large and can be read in parts.

    Raises:
        VideoDecodeError: it cannot be downloaded, or is larger than `limits` allow.
        VideoBackendError: the package that reads such URLs is not installed.
    """
    with _translate_download_errors(url):
        if _is_http(url):
            return _get(url)
        with _FilesystemErrors():
            return _get_by_fsspec(url)


def read_all_bytes(file: Any) -> bytes:
    """Return what a binary file object still holds.

    Raises:
        LimitExceeded: it is too much.
        ValueError: it is opened as text.
    """
    content = io.BytesIO()
    while chunk := file.read(_CHUNK_BYTES):
        if isinstance(chunk, str):
            raise ValueError("the file object is opened as text; open it with mode 'rb'")
        content.write(chunk)
        limits.check_download_size(content.tell())
    return content.getvalue()


class _BlockReader(io.RawIOBase):
    """A file that fetches whole blocks when they are read, and keeps the last ones."""

    def __init__(self, url: str, fetch: _Fetch, *, size: int, head: bytes) -> None:
        self._url, self._fetch, self._size = url, fetch, size
        self._position = 0
        self._cached_blocks: dict[int, bytes] = {0: head} if len(head) == _BLOCK_BYTES else {}
        # Where the last fetch ended, and its number of blocks.
        self._end, self._readahead_blocks = 1, 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target, done = memoryview(buffer).cast("B"), 0
        while done < len(target) and self._position < self._size:
            number, skipped = divmod(self._position, _BLOCK_BYTES)
            part = self._block(number)[skipped : skipped + len(target) - done]
            target[done : done + len(part)] = part
            done, self._position = done + len(part), self._position + len(part)
        return done

    def _block(self, number: int) -> bytes:
        if number not in self._cached_blocks:
            self._readahead_blocks = (
                min(2 * self._readahead_blocks, _MAX_READAHEAD_BLOCKS) if number == self._end else 1
            )
            self._end = number + self._readahead_blocks
            start, end = number * _BLOCK_BYTES, min(self._end * _BLOCK_BYTES, self._size)
            with _translate_download_errors(self._url), _FilesystemErrors():
                content = self._fetch(start, end)
            if len(content) != end - start:
                raise BackendFailure("the server does not give the part that was asked for")
            for place in range(0, len(content), _BLOCK_BYTES):
                self._cached_blocks[number + place // _BLOCK_BYTES] = content[place : place + _BLOCK_BYTES]
            while len(self._cached_blocks) > _MAX_CACHED_BLOCKS:
                del self._cached_blocks[next(iter(self._cached_blocks))]
        return self._cached_blocks[number]


@contextmanager
def _translate_download_errors(url: str) -> Iterator[None]:
    try:
        yield
    except LimitExceeded as error:
        raise VideoDecodeError(redact_url(url), str(error)) from error
    except urllib.error.HTTPError as error:
        raise VideoDecodeError(redact_url(url), f"the server answers HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise VideoDecodeError(redact_url(url), f"it cannot be downloaded: {error.reason}") from error
    except ImportError as error:
        raise MissingFilesystemError(
            f"reading {redact_url(url)} needs a package that is not installed: {error}"
        ) from error
    except _download_errors() as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VideoDecodeError(redact_url(url), f"it cannot be downloaded: {reason}") from error


class _FilesystemErrors:
    """Convert errors of fsspec's file systems to `OSError`: they are plugins, each with errors of its own."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        known = (*_download_errors(), ImportError, LimitExceeded, BackendFailure)
        if isinstance(error, Exception) and not isinstance(error, known):
            raise OSError(f"{type(error).__name__}: {error}") from error


def _download_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a failed download. For the Hub they include its client's own error."""
    from huggingface_hub.errors import HTTPError

    return (OSError, http.client.HTTPException, ValueError, HTTPError)


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _get(url: str, *, whole: bool = False) -> bytes | RemoteVideoFile:
    with _request(url) as response:
        size: int | None = response.length
        if size is None:
            return read_all_bytes(response)
        if (
            not whole
            and size > _MAX_WHOLE_DOWNLOAD_BYTES
            and response.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
        ):
            # Leaving here ends the connection, and with it the rest.
            return RemoteVideoFile(url, size=size, head=response.read(_BLOCK_BYTES))
        limits.check_download_size(size)
        content: bytes = response.read()  # in one call: only then a broken connection is an error
    return content


def _get_range(url: str, size: int, start: int, end: int) -> bytes:
    with _request(url, Range=f"bytes={start}-{end - 1}") as response:
        # A file that has changed meanwhile is no longer the one whose table was read.
        if response.status != 206 or response.headers.get("Content-Range") != f"bytes {start}-{end - 1}/{size}":
            raise BackendFailure("the server does not give the part that was asked for")
        content: bytes = response.read()
    return content


def _request(url: str, **headers: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "hf-videomae", **headers})
    return urllib.request.build_opener(_Redirects(url)).open(request, timeout=_TIMEOUT_SECONDS)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but not to an address that the URL itself could not have named.

    A URL of a dataset stays within what the user allowed. One that the user named may lead to any server, but not
    from a public one to this machine or its network.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if isinstance(self._url, AllowedURL):
            if not is_allowed_url(newurl, self._url.allowed):
                host = url_host(newurl)
                raise urllib.error.URLError(f"it redirects to {host}, which is not opened: add it to --allow_paths")
        elif _is_private(url_host(newurl)) and not _is_private(url_host(self._url)):
            raise urllib.error.URLError("it redirects to an address that is not on the public internet")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_private(host: str) -> bool:
    """Return whether a name stands for an address of this machine or of a private network."""
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    try:
        addresses = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return False  # a proxy may know it
    return not all(ipaddress.ip_address(address).is_global for address in addresses)


def _get_by_fsspec(url: str, *, whole: bool = False) -> bytes | RemoteVideoFile:
    import fsspec  # type: ignore[import-untyped]
    from fsspec.spec import AbstractBufferedFile  # type: ignore[import-untyped]

    with fsspec.open(url, "rb") as file:
        size: int = getattr(file, "size", None) or 0
        # Other file objects may read through all that lies before the place they seek.
        if not whole and size > _MAX_WHOLE_DOWNLOAD_BYTES and isinstance(file, AbstractBufferedFile):
            return RemoteVideoFile(url, size=size, head=_fsspec_range(url)(0, _BLOCK_BYTES))
        limits.check_download_size(size)
        content: bytes = file.read()
    if size and len(content) != size:
        raise IncompleteReadError(f"{len(content)} bytes came instead of {size}")
    return content


def _fsspec_range(url: str) -> _Fetch:
    import fsspec

    with _translate_download_errors(url), _FilesystemErrors():
        file = fsspec.open(url, "rb", block_size=_BLOCK_BYTES, cache_type="none").open()

    def fetch(start: int, end: int) -> bytes:
        file.seek(start)
        content: bytes = file.read(end - start)
        return content

    return fetch
