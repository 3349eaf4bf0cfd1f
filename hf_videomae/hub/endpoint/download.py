"""A file from a URL that a stranger gave: from public addresses only, up to a size, within a time.

No token, cookie or proxy is used (`http.client` knows none), nothing packed is unpacked, nothing is written to disk.
"""

import contextlib
import http.client
import io
import math
import socket
import ssl
import time
from typing import Any
from urllib.parse import urljoin

from .addresses import Address, Target, find_addresses, parse_url
from .errors import BadRequest, OutOfTime
from .settings import EndpointSettings

_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 256 * 2**10


def download(url: str, *, settings: EndpointSettings, until: float = math.inf) -> bytes:
    """The file behind an http(s) URL.

    Args:
        url: as it came.
        settings: limits.
        until: when the request has to be answered, by `time.monotonic()`.

    Raises:
        BadRequest: when it cannot be had within the limits, or lies where a server must not go.
        OutOfTime: when the time of the request is over.
    """
    deadline = min(time.monotonic() + settings.download_seconds, until)
    try:
        return _follow(url, deadline=deadline, settings=settings)
    except TimeoutError as error:
        if time.monotonic() >= until:
            raise OutOfTime(settings.request_seconds) from error
        raise BadRequest(
            f"the URL's server took too long: {settings.read_seconds:g} s without a byte, or "
            f"{settings.download_seconds:g} s in all, end a download"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise BadRequest("the URL's server has no certificate for its name that is trusted here") from error
    except ssl.SSLError as error:
        raise BadRequest("the URL's server speaks no https that is understood here") from error
    except (OSError, http.client.HTTPException) as error:
        raise BadRequest(f"the URL cannot be downloaded: {_told(error)}") from error


def _told(error: Exception) -> str:
    """What went wrong, in words that hold nothing a server sent."""
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return "the connection broke off"
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return "what answers there is no web server"


def _follow(url: str, *, deadline: float, settings: EndpointSettings) -> bytes:
    target = parse_url(url)
    for _ in range(settings.max_redirects + 1):
        found = _ask(target, deadline=deadline, settings=settings)
        if isinstance(found, bytes):
            return found
        target = found
    raise BadRequest(f"the URL redirects more than {settings.max_redirects} times; give the last one")


def _ask(target: Target, *, deadline: float, settings: EndpointSettings) -> bytes | Target:
    """The file, or where it is said to be."""
    addresses = find_addresses(target, allow=settings.allow)
    connection = _Connection(target, addresses, deadline=deadline, silence=settings.read_seconds)
    try:
        headers = {"User-Agent": "hf-videomae", "Accept-Encoding": "identity", "Connection": "close"}
        connection.request("GET", target.path, headers=headers)
        with connection.getresponse() as response:
            if response.status in _REDIRECTS and response.headers.get("Location"):
                return _redirected(target, response.headers["Location"])
            if response.status != 200:
                raise BadRequest(f"the URL's server answers HTTP {response.status}")
            return _read(response, max_bytes=settings.max_bytes)
    finally:
        connection.close()


def _redirected(target: Target, location: str) -> Target:
    try:
        return parse_url(urljoin(target.url, location))
    except BadRequest as error:
        raise BadRequest(f"it redirects, and there {error.reason}") from error
    except ValueError as error:
        raise BadRequest("it redirects to a URL that is malformed") from error


def _read(response: http.client.HTTPResponse, *, max_bytes: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadRequest("the URL's server sends the file packed (Content-Encoding), which was not asked for")
    stated, content = response.length, io.BytesIO()
    if stated is not None and stated > max_bytes:
        raise BadRequest(f"the URL's file has {stated} bytes; at most {max_bytes} are allowed")
    while chunk := response.read(_CHUNK_BYTES):
        if content.tell() + len(chunk) > max_bytes:
            raise BadRequest(f"the URL's file has more than {max_bytes} bytes, which is what is allowed")
        content.write(chunk)
    if stated is not None and content.tell() < stated:
        raise BadRequest(f"the URL's server stopped after {content.tell()} of {stated} bytes")
    return content.getvalue()


class _Connection(http.client.HTTPConnection):
    """One request to an address that was checked; the name is for the server and its certificate alone."""

    def __init__(self, target: Target, addresses: list[Address], *, deadline: float, silence: float) -> None:
        super().__init__(target.host, target.port)
        # Only so the Host header leaves out the port where it is the scheme's own.
        self.default_port = {"http": 80, "https": 443}[target.scheme]
        self._target, self._addresses = target, addresses
        self._deadline, self._silence = deadline, silence

    def connect(self) -> None:
        connected = self._connect_to_any()
        if self._target.scheme == "https":
            with contextlib.ExitStack() as failed:
                failed.callback(connected.close)
                connected.settimeout(_left(self._deadline, self._silence))
                connected = ssl.create_default_context().wrap_socket(connected, server_hostname=self._target.host)
                failed.pop_all()
        self.sock: Any = _TimedSocket(connected, deadline=self._deadline, silence=self._silence)

    def _connect_to_any(self) -> socket.socket:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                timeout = _left(self._deadline, self._silence)
                return socket.create_connection((str(address), self._target.port), timeout=timeout)
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure


class _TimedSocket:
    """What `http.client` needs of a socket; every wait ends with the silence allowed, and all with the deadline."""

    def __init__(self, connected: socket.socket, *, deadline: float, silence: float) -> None:
        self._socket, self._deadline, self._silence = connected, deadline, silence

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._deadline, self._silence))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._socket, deadline=self._deadline, silence=self._silence))

    def close(self) -> None:
        self._socket.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, *, deadline: float, silence: float) -> None:
        self._socket, self._deadline, self._silence = connected, deadline, silence
        # Keeps the socket open for the answer when `http.client` has closed the connection.
        self._file = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._socket.settimeout(_left(self._deadline, self._silence))
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()
        super().close()


def _left(deadline: float, silence: float) -> float:
    """Seconds to wait at most, from now."""
    left = min(deadline - time.monotonic(), silence)
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left
