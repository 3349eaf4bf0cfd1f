"""Inject faults into requests, and log the requests."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "reset", "truncate", "stall", "hang_up", "page", "short", "corrupt"]
_LAST_REQUESTS_SECONDS = 2.0
STATUS_NOT_RETRIED_BY_CLIENT = 520
"""A server error that huggingface_hub raises at once, instead of retrying it for 23 seconds."""


@dataclass(frozen=True)
class Request:
    """One answered request; `path` with its query as it came, `range` the header, `sent` bytes of its body and
    `received` bytes of what was uploaded.
    """

    method: str
    path: str
    status: int
    range: str | None = None
    sent: int = 0
    token: bool = False
    fault: str | None = None
    received: int = 0

    @property
    def line(self) -> str:
        """Return the text that faults and assertions match."""
        return f"{self.method} {self.path}"


@dataclass
class Fault:
    """A fault of the next `times` requests whose `METHOD /path` matches a pattern; None: of all of them.

    `status` is answered, with Retry-After where it is given; `reset` (TCP) and `truncate` (a clean end) stop after
    `after_bytes` of the body; `hang_up` resets after so many bytes of an upload; `stall` waits so many `seconds`
    before the answer, which is right then. `page` is status 200 with `text` in place of the answer, as a proxy or a
    login page gives it, once the request was carried out or (not `done`) without. `short` sends `after_bytes` of the
    body and says that these are all; `corrupt` sends other bytes from `after_bytes` on, as many as wanted.
    """

    pattern: str
    kind: Kind
    status: int = 503
    times: int | None = 1
    retry_after: int | None = None
    after_bytes: int = 0
    seconds: float = 0.0
    text: str = ""
    done: bool = False

    def take(self, line: str) -> bool:
        """Return whether this request is hit, and count it."""
        if self.times == 0 or not re.search(self.pattern, line):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class RequestLog:
    """The pending faults and the requests so far, shared by the server's threads."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _num_in_progress: int = 0

    @contextlib.contextmanager
    def in_progress(self) -> Iterator[None]:
        """Mark a request as in progress: a client may have its response before the log has the request."""
        with self._lock:
            self._num_in_progress += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_in_progress -= 1
                self._lock.notify_all()

    def add_fault(self, fault: Fault) -> None:
        with self._lock:
            self.faults.append(fault)

    def heal(self) -> None:
        """Remove all faults."""
        with self._lock:
            self.faults.clear()

    def next_fault(self, line: str) -> Fault | None:
        with self._lock:
            return next((fault for fault in self.faults if fault.take(line)), None)

    def add(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def matching(self, pattern: str) -> list[Request]:
        """Return the requests whose `METHOD /path` matches a pattern, in order; wait a while for the last ones."""
        with self._lock:
            self._lock.wait_for(lambda: not self._num_in_progress, timeout=_LAST_REQUESTS_SECONDS)
            return [request for request in self.requests if re.search(pattern, request.line)]

    def forget(self) -> None:
        """Clear the log."""
        with self._lock:
            self._lock.wait_for(lambda: not self._num_in_progress, timeout=_LAST_REQUESTS_SECONDS)
            self.requests.clear()
