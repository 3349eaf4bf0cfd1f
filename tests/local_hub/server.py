"""The HTTP of it: one thread per connection, keep-alive, ranges, and connections that break on purpose."""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .answers import Answers
from .faults import Fault, Record, Request
from .messages import Answer, Question, refuse

_CHUNK = 64 * 1024
_SPOILED_BYTES = 16
# Comes from a proxy before the Hub, as a page.
_BAD_GATEWAY = 502


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 and remembers its connections, so that all of them can be cut."""

    daemon_threads = True
    allow_reuse_address = True
    # A burst of clients that come back at once after an outage.
    request_queue_size = 128

    def __init__(self, *, port: int, answers: Answers, record: Record) -> None:
        self.answers, self.record = answers, record
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        # What stalls waits on this, so that nothing outlives the server.
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
        """A client that leaves, or was thrown out, is no error of the server; anything else is printed as ever."""
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
        """The record is the log."""

    def _serve(self) -> None:
        with self.server.record.answering():
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
            answer = refuse(fault.status, "", "out of order, on purpose", **retry)
            if fault.status == _BAD_GATEWAY:
                answer = Answer(fault.status, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>")
        elif fault is not None and fault.kind == "page":
            if fault.done:
                self.server.answers.answer(self._question(body))
            answer = Answer(200, {"Content-Type": "text/html"}, fault.text.encode())
        else:
            answer = self.server.answers.answer(self._question(body))
        self._send(answer, fault, received=len(body))

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

    def _question(self, body: bytes) -> Question:
        path, _, query = self.path.partition("?")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        host = self.headers.get("Host", "")
        return Question(self.command, path, query=query, body=body, token=token, host=host)

    def _send(self, answer: Answer, fault: Fault | None, *, received: int) -> None:
        status, first, last = self._part(answer)
        headers = dict(answer.headers)
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{_size(answer)}"
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
                sent = self._send_body(answer, first, stop if size else first, fault)
        finally:
            self._record(status, sent, fault, received=received)
        if broken is not None:
            self._break(reset=broken.kind == "reset")

    def _part(self, answer: Answer) -> tuple[int, int, int]:
        """(status, first byte, one past the last byte)."""
        size = _size(answer)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None or answer.status != 200 or answer.file is None:
            return answer.status, 0, size
        first, last = asked.groups()
        if not first:
            return 206, max(0, size - int(last)), size
        if int(first) >= size:
            return 416, 0, size
        return 206, int(first), min(size, int(last) + 1 if last else size)

    def _send_body(self, answer: Answer, first: int, stop: int, fault: Fault | None) -> int:
        spoiled = None
        if fault is not None and fault.kind == "corrupt":
            spoiled = range(fault.after_bytes, fault.after_bytes + _SPOILED_BYTES)
        for start, part in _parts(answer, first, stop):
            self.wfile.write(part if spoiled is None else _spoil(part, start, spoiled))
        return stop - first

    def _break(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # The client shall have read what was sent: a reset throws away what still waits for it.
            time.sleep(0.05)
            _reset_on_close(self.connection)
            self.connection.close()

    def _record(self, status: int, sent: int, fault: Fault | None, *, received: int) -> None:
        asked = self.headers.get("Range")
        token = "Authorization" in self.headers
        kind = None if fault is None else fault.kind
        self.server.record.add(Request(self.command, self.path, status, asked, sent, token, kind, received))


def _parts(answer: Answer, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Places in the whole body, and the bytes there."""
    if answer.file is None:
        yield first, answer.body[first:stop]
        return
    with answer.file.open("rb") as file:
        file.seek(first)
        for start in range(first, stop, _CHUNK):
            yield start, file.read(min(_CHUNK, stop - start))


def _spoil(part: bytes, start: int, places: range) -> bytes:
    """Other bytes at these places of the whole body."""
    return bytes(byte ^ 0x55 if start + number in places else byte for number, byte in enumerate(part))


def _size(answer: Answer) -> int:
    return len(answer.body) if answer.file is None else _length(answer.file)


def _length(file: Path) -> int:
    return file.stat().st_size


def _reset_on_close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
