"""Download a file from a URL of a request: only from public addresses, within limits of size and time.

It sends no token or cookie and uses no proxy (`http.client` has none), unpacks nothing and writes nothing to disk.
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

from .addresses import Address, ParsedURL, parse_url, resolve_public_addresses
from .endpoint_settings import EndpointSettings
from .request_errors import BadRequest, RequestTimeout

_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 256 * 2**10


def fetch_url(url: str, *, settings: EndpointSettings, request_deadline: float = math.inf) -> bytes:
    """Return the file behind an http(s) URL.

    Args:
        url: as in the request.
        settings: the limits.
        request_deadline: when the request must be answered, by `time.monotonic()`.

    Raises:
        BadRequest: when it cannot be downloaded within the limits, or its address is not public.
        RequestTimeout: when the time of the request is over.
    """
    deadline = min(time.monotonic() + settings.download_seconds, request_deadline)
    try:
        return _follow_redirects(url, deadline=deadline, settings=settings)
    except TimeoutError as error:
        if time.monotonic() >= request_deadline:
            raise RequestTimeout(settings.request_seconds) from error
        raise BadRequest(
            f"the URL's server took too long: {settings.read_seconds:g} s without a byte, or "
            f"{settings.download_seconds:g} s in all, end a download"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise BadRequest("the URL's server has no certificate for its name that is trusted here") from error
    except ssl.SSLError as error:
        raise BadRequest("the URL's server speaks no https that is understood here") from error
    except (OSError, http.client.HTTPException) as error:
        raise BadRequest(f"the URL cannot be downloaded: {_describe_network_error(error)}") from error


def _describe_network_error(error: Exception) -> str:
    """Return the reason of an error, without anything that the server sent."""
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return "the connection broke off"
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return "the server there is not a web server"


def _follow_redirects(url: str, *, deadline: float, settings: EndpointSettings) -> bytes:
    target = parse_url(url)
    for _ in range(settings.max_redirects + 1):
        response = _send_request(target, deadline=deadline, settings=settings)
        if isinstance(response, bytes):
            return response
        target = response
    raise BadRequest(f"the URL redirects more than {settings.max_redirects} times; give the last one")


def _send_request(target: ParsedURL, *, deadline: float, settings: EndpointSettings) -> bytes | ParsedURL:
    """Return the file, or the URL that the server redirects to."""
    addresses = resolve_public_addresses(target, allow=settings.allow)
    connection = _PinnedConnection(target, addresses, deadline=deadline, read_timeout=settings.read_seconds)
    try:
        headers = {"User-Agent": "hf-videomae", "Accept-Encoding": "identity", "Connection": "close"}
        connection.request("GET", target.path, headers=headers)
        with connection.getresponse() as response:
            if response.status in _REDIRECT_STATUSES and response.headers.get("Location"):
                return _parse_redirect(target, response.headers["Location"])
            if response.status != 200:
                raise BadRequest(f"the URL's server answers HTTP {response.status}")
            return _read_body(response, max_bytes=settings.max_bytes)
    finally:
        connection.close()


def _parse_redirect(target: ParsedURL, location: str) -> ParsedURL:
    try:
        return parse_url(urljoin(target.url, location))
    except BadRequest as error:
        raise BadRequest(f"the URL redirects, and there {error.reason}") from error
    except ValueError as error:
        raise BadRequest("the URL redirects to one that is malformed") from error


def _read_body(response: http.client.HTTPResponse, *, max_bytes: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadRequest("the URL's server sends the file packed (Content-Encoding), which was not asked for")
    content_length, content = response.length, io.BytesIO()
    if content_length is not None and content_length > max_bytes:
        raise BadRequest(f"the URL's file has {content_length} bytes; at most {max_bytes} are allowed")
    while chunk := response.read(_CHUNK_BYTES):
        if content.tell() + len(chunk) > max_bytes:
            raise BadRequest(f"the URL's file has more than {max_bytes} bytes, the most that is allowed")
        content.write(chunk)
    if content_length is not None and content.tell() < content_length:
        raise BadRequest(f"the URL's server stopped after {content.tell()} of {content_length} bytes")
    return content.getvalue()


class _PinnedConnection(http.client.HTTPConnection):
    """A connection to one of the checked addresses; the host name is only for the request and the certificate."""

    def __init__(self, target: ParsedURL, addresses: list[Address], *, deadline: float, read_timeout: float) -> None:
        super().__init__(target.host, target.port)
        # With this, the Host header leaves out the scheme's default port.
        self.default_port = {"http": 80, "https": 443}[target.scheme]
        self._target, self._addresses = target, addresses
        self._deadline, self._read_timeout = deadline, read_timeout

    def connect(self) -> None:
        raw_socket = self._connect_to_any()
        if self._target.scheme == "https":
            with contextlib.ExitStack() as failed:
                failed.callback(raw_socket.close)
                raw_socket.settimeout(_remaining_seconds(self._deadline, self._read_timeout))
                raw_socket = ssl.create_default_context().wrap_socket(raw_socket, server_hostname=self._target.host)
                failed.pop_all()
        self.sock: Any = _TimedSocket(raw_socket, deadline=self._deadline, read_timeout=self._read_timeout)

    def _connect_to_any(self) -> socket.socket:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                timeout = _remaining_seconds(self._deadline, self._read_timeout)
                return socket.create_connection((str(address), self._target.port), timeout=timeout)
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure


class _TimedSocket:
    """A socket for `http.client` in which each wait is limited by the read timeout and by the deadline."""

    def __init__(self, raw_socket: socket.socket, *, deadline: float, read_timeout: float) -> None:
        self._socket, self._deadline, self._read_timeout = raw_socket, deadline, read_timeout

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_remaining_seconds(self._deadline, self._read_timeout))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._socket, deadline=self._deadline, read_timeout=self._read_timeout))

    def close(self) -> None:
        self._socket.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, raw_socket: socket.socket, *, deadline: float, read_timeout: float) -> None:
        self._socket, self._deadline, self._read_timeout = raw_socket, deadline, read_timeout
        # Keeps the socket open for the response after `http.client` has closed the connection.
        self._file = raw_socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._socket.settimeout(_remaining_seconds(self._deadline, self._read_timeout))
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()
        super().close()


def _remaining_seconds(deadline: float, read_timeout: float) -> float:
    """Return how long the next wait may take; raise TimeoutError after the deadline."""
    left = min(deadline - time.monotonic(), read_timeout)
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left
