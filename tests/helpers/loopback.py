"""Run a server on loopback that misbehaves."""

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Loopback(ThreadingHTTPServer):
    """`/video` gives `content`; `headers` are those of the last request, `asked` the paths in order."""

    def __init__(self, content: bytes) -> None:
        self.content, self.headers, self.asked = content, {}, []
        self.stopped = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that leave once they have read enough."""


class _Handler(BaseHTTPRequestHandler):
    server: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers = dict(self.headers)
        name, _, rest = self.path.removeprefix("/").partition("?")[0].partition("/")
        getattr(self, f"_{name}")(rest)

    def _answer(self, content: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def _video(self, rest: str) -> None:
        self._answer(self.server.content)

    def _empty(self, rest: str) -> None:
        self._answer(b"")

    def _missing(self, rest: str) -> None:
        self.send_error(404)

    def _packed(self, rest: str) -> None:
        self._answer(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")

    def _boasts(self, rest: str) -> None:
        self._answer(b"", length=10**12)

    def _breaks(self, rest: str) -> None:
        self._answer(self.server.content[:100], length=len(self.server.content))
        self.close_connection = True

    def _endless(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.server.stopped.is_set():
            self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    def _drips(self, rest: str) -> None:
        """Send the headers or the file one byte at a time."""
        if rest == "body":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
        while not self.server.stopped.is_set():
            self.wfile.write(b"x")
            time.sleep(0.02)

    def _silent(self, rest: str) -> None:
        self.server.stopped.wait(30)

    def _to(self, rest: str) -> None:
        """Redirect to the address that follows, with `~` for `//`."""
        self.send_response(302)
        self.send_header("Location", rest.replace("~", "//"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _loop(self, rest: str) -> None:
        self._to(f"/loop/{int(rest or 0) + 1}")


def certificate(folder: Path, *, name: str) -> Path:
    """Make a self-signed certificate for one name; the key is in the same file."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the program openssl is not installed")
    path = folder / "certificate.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    files = ["-addext", f"subjectAltName=DNS:{name}", "-keyout", folder / "key.pem", "-out", path]
    subprocess.run([*command, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "key.pem").read_text())
    return path


@contextmanager
def serving(content: bytes, *, certificate: Path | None = None) -> Iterator[Loopback]:
    with Loopback(content) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()


@contextmanager
def no_web_server() -> Iterator[str]:
    """Yield the address of a server that does not speak HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP secret greeting\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()
