"""Serve HTTP: one thread per connection, keep-alive, ranges, and connections that break on purpose."""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .faults import Fault, Request, RequestLog
from .messages import HubRequest, HubResponse, refuse
from .router import Router

_CHUNK = 64 * 1024
_CORRUPTED_BYTES = 16
# A proxy in front of the Hub responds with it, and with a page.
_BAD_GATEWAY = 502


class Server(ThreadingHTTPServer):
    """An HTTP server on 127.0.0.1 that remembers its connections, so that all of them can be reset."""

    daemon_threads = True
    allow_reuse_address = True
    # Many clients reconnect at once after an outage.
    request_queue_size = 128

    def __init__(self, *, port: int, router: Router, record: RequestLog) -> None:
        self.router, self.record = router, record
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        # Stalls wait on this, so that nothing outlives the server.
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Stop listening, and reset every connection."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            _reset_on_close(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print an error, unless a client left or was disconnected."""
        import sys

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: requests are in the log."""

    def _serve(self) -> None:
        with self.server.record.in_progress():
            self._answer()

    def _answer(self) -> None:
        fault = self.server.record.next_fault(f"{self.command} {self.path}")
        if fault is not None and fault.kind == "hang_up":
            self._hang_up(fault)
            return
        body = self._body()
        if fault is not None and fault.kind == "stall":
            self.server.closing.wait(fault.seconds)
        if fault is not None and fault.kind == "status":
            retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            response = refuse(fault.status, "", "out of order, on purpose", **retry)
            if fault.status == _BAD_GATEWAY:
                response = HubResponse(fault.status, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>")
        elif fault is not None and fault.kind == "page":
            if fault.done:
                self.server.router.answer(self._hub_request(body))
            response = HubResponse(200, {"Content-Type": "text/html"}, fault.text.encode())
        else:
            response = self.server.router.answer(self._hub_request(body))
        self._send(response, fault, received=len(body))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while (size := int(self.rfile.readline().split(b";")[0], 16)) > 0:
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _hang_up(self, fault: Fault) -> None:
        received = len(self.rfile.read(min(fault.after_bytes, int(self.headers.get("Content-Length") or 0))))
        self._record(0, 0, fault, received=received)
        self._break(reset=True)

    def _hub_request(self, body: bytes) -> HubRequest:
        path, _, query = self.path.partition("?")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        host = self.headers.get("Host", "")
        return HubRequest(self.command, path, query=query, body=body, token=token, host=host)

    def _send(self, response: HubResponse, fault: Fault | None, *, received: int) -> None:
        status, first, last = self._part(response)
        headers = dict(response.headers)
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{_size(response)}"
        if fault is not None and fault.kind == "short":
            last = min(last, first + fault.after_bytes)
        size = 0 if status == 416 else last - first
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()
        broken = fault if fault is not None and fault.kind in ("reset", "truncate") else None
        stop = last if broken is None else min(last, first + broken.after_bytes)
        sent = 0
        try:
            if self.command != "HEAD":
                sent = self._send_body(response, first, stop if size else first, fault)
        finally:
            self._record(status, sent, fault, received=received)
        if broken is not None:
            self._break(reset=broken.kind == "reset")

    def _part(self, response: HubResponse) -> tuple[int, int, int]:
        """Return (status, first byte, one past the last byte)."""
        size = _size(response)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None or response.status != 200 or response.file is None:
            return response.status, 0, size
        first, last = asked.groups()
        if not first:
            return 206, max(0, size - int(last)), size
        if int(first) >= size:
            return 416, 0, size
        return 206, int(first), min(size, int(last) + 1 if last else size)

    def _send_body(self, response: HubResponse, first: int, stop: int, fault: Fault | None) -> int:
        corrupted = None
        if fault is not None and fault.kind == "corrupt":
            corrupted = range(fault.after_bytes, fault.after_bytes + _CORRUPTED_BYTES)
        for start, part in _parts(response, first, stop):
            self.wfile.write(part if corrupted is None else _corrupt(part, start, corrupted))
        return stop - first

    def _break(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # The client must have read what was sent, because a reset discards what is still in its buffer.
            time.sleep(0.05)
            _reset_on_close(self.connection)
            self.connection.close()

    def _record(self, status: int, sent: int, fault: Fault | None, *, received: int) -> None:
        asked = self.headers.get("Range")
        token = "Authorization" in self.headers
        kind = None if fault is None else fault.kind
        self.server.record.add(Request(self.command, self.path, status, asked, sent, token, kind, received))


def _parts(response: HubResponse, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Yield positions in the whole body, and the bytes there."""
    if response.file is None:
        yield first, response.body[first:stop]
        return
    with response.file.open("rb") as file:
        file.seek(first)
        for start in range(first, stop, _CHUNK):
            yield start, file.read(min(_CHUNK, stop - start))


def _corrupt(part: bytes, start: int, places: range) -> bytes:
    """Change the bytes at these positions of the whole body."""
    return bytes(byte ^ 0x55 if start + number in places else byte for number, byte in enumerate(part))


def _size(response: HubResponse) -> int:
    return len(response.body) if response.file is None else response.file.stat().st_size


def _reset_on_close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
