"""A network that fails for a while: what is worth trying again, when, and for how long.

What the clients do by themselves (huggingface_hub 2.4, datasets 5.2, tried on a server that fails on purpose):
huggingface_hub asks again five times within 23 seconds, and heeds Retry-After; then `datasets` asks on for minutes
after a refused connection, 429 and 504, but gives up at once after 500, 502 and 503. A tar file whose connection
breaks twice at one place it reads on as if it had ended there: a `tarfile.ReadError`, as of a damaged file. So here
`datasets` is told not to try again (`one_try`), and what failed is read again from where it was.
"""

import contextlib
import email.utils
import http.client
import json
import logging
import multiprocessing
import random
import re
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from ..records import without_credentials
from .samples import DataError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

OUTAGE_SECONDS = 900.0
"""Without a single byte for so long, a run gives up."""
SHARD_SECONDS = 60.0
"""After so long another shard is read first."""

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
_TOO_MANY_REQUESTS = 429
_PASSING = {408, _TOO_MANY_REQUESTS, 500, 502, 503, 504, 520, 522, 524}
# `hf_xet` 1.8 makes a refusal, which it tried again itself, a ConnectionError; the status is in its words alone.
_REFUSAL = re.compile(r"HTTP status client error \((\d{3})\b")
# All threads share one client, and where one of them cannot connect, huggingface_hub closes it under the others.
_CLOSED = "client has been closed"

CLIENT_ERRORS = (HTTPError, OSError, ValueError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError)
"""What a failure arrives as: the HTTP client's own errors, and what readers of files (pyarrow, tarfile) and the
transfer of large files make of them, which depends on the format and on versions. What it means, its causes tell."""

# Where a thread waits that shall not outlive its purpose; by `stop_waiting_on`.
_of_thread = threading.local()


class SourceUnavailable(DataError):
    """The network kept failing while a data set was read: not the fault of any video."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        # urllib names the cause in an attribute of its own.
        reason = getattr(seen, "reason", None)
        seen = seen.__cause__ or (reason if isinstance(reason, BaseException) else None)


def is_passing(error: BaseException) -> bool:
    """Whether an error of a client is one that time mends: no connection, a broken one, 429, 5xx."""
    return any(_is_passing(cause) for cause in causes(error))


def _is_passing(error: BaseException) -> bool:
    status = status_of(error)
    if status is not None:
        return status in _PASSING
    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, RuntimeError):
        return _CLOSED in str(error)
    # What the HTTP client raises without a response: refused, reset, ended early, timed out.
    return isinstance(error, (HTTPError, http.client.IncompleteRead, ConnectionError, TimeoutError, socket.gaierror))


def is_cut_off(error: BaseException) -> bool:
    """Whether a connection that was made broke before the answer: something is there, unlike where none is made."""
    # The HTTP client's own name for an end without an answer; which client it is depends on the version.
    return any(
        isinstance(cause, (ConnectionResetError, BrokenPipeError)) or type(cause).__name__ == "RemoteProtocolError"
        for cause in causes(error)
    )


def _response(error: BaseException) -> Any:
    # urllib's error is the response itself.
    return error if hasattr(error, "code") and hasattr(error, "headers") else getattr(error, "response", None)


def status_of(error: BaseException) -> int | None:
    """Of the answer that an error is about, where there was one."""
    response = _response(error)
    status = getattr(response, "status_code", None) or getattr(response, "code", None)
    if isinstance(status, int):
        return status
    refused = _REFUSAL.search(str(error)) if isinstance(error, ConnectionError) else None
    return int(refused[1]) if refused else None


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait, where it does: a number or a date."""
    for cause in causes(error):
        headers = getattr(_response(cause), "headers", None) or {}
        value = headers.get("Retry-After")
        if value is None:
            continue
        if value.strip().isdigit():
            return float(value)
        with contextlib.suppress(ValueError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


class Patience:
    """Waits between tries, each time longer and never twice as long, until its time is over.

    Args:
        name: what is being read, for people.
        seconds: without progress until it gives up. A server that asks for patience (429) gets `OUTAGE_SECONDS`: it
            asks it of everyone, so that another file would be no way out.
    """

    def __init__(self, name: str, *, seconds: float = OUTAGE_SECONDS) -> None:
        self.name, self.seconds = name, seconds
        # Not the global generator: that is the training's.
        self._random = random.Random()
        self.progress()

    def progress(self) -> None:
        """Something came: the time begins anew."""
        self._since: float | None = None
        self._wait = _FIRST_WAIT

    def wait(self, error: BaseException) -> None:
        """Wait before the next try.

        Raises:
            SourceUnavailable: when the time is over.
        """
        now = time.monotonic()
        first = self._since is None
        self._since = now if self._since is None else self._since
        asked = retry_after(error)
        wait = self._wait * self._random.uniform(0.5, 1.0) if asked is None else asked + self._random.uniform(0.0, 1.0)
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        limited = any(status_of(cause) == _TOO_MANY_REQUESTS for cause in causes(error))
        seconds = max(self.seconds, OUTAGE_SECONDS) if limited else self.seconds
        if now + wait - self._since > seconds:
            raise SourceUnavailable(
                f"the network kept failing for {now - self._since:.0f} s while {self.name} was read "
                f"({reason_of(error)}); when it is back, run again (a run goes on with --resume)"
            ) from error
        if first:
            logger.warning("%s: %s; trying again for %.0f s", self.name, reason_of(error), seconds)
        _sleep(wait)

    @contextlib.contextmanager
    def over(self, passing: Callable[[BaseException], BaseException | None]) -> Iterator[None]:
        """What time mends ends the block, and is waited for: whoever comes out at its end is to try again.

        Raises:
            SourceUnavailable: when the time is over.
        """
        try:
            yield
        except CLIENT_ERRORS as error:
            cause = passing(error)
            if cause is None:
                raise
            self.wait(cause)


def reason_of(error: BaseException) -> str:
    """One line: the innermost cause that says something."""
    said = [line for cause in causes(error) for line in str(cause).splitlines()[:1] if line]
    return without_credentials(said[-1] if said else type(error).__name__)


def what_passes(error: BaseException) -> BaseException | None:
    """An error that time mends; a proxy's page, read as JSON, is one."""
    return error if is_passing(error) or isinstance(error, json.JSONDecodeError) else None


def until_it_passes(
    attempt: Callable[[], _Result],
    waiting: Patience,
    *,
    passing: Callable[[BaseException], BaseException | None] = what_passes,
) -> _Result:
    """The result of an attempt, made again for as long as the network or the server fails.

    Args:
        attempt: made from its beginning each time.
        waiting: between attempts.
        passing: of an error, what is to be waited for; None: the error is raised.

    Raises:
        SourceUnavailable: when they kept failing.
    """
    while True:
        with waiting.over(passing):
            return attempt()


def until_it_answers(ask: Callable[[], _Result], waiting: Patience) -> _Result:
    """The answer to a first question. A server that is there and fails is waited for: many processes start at once.
    One that does not answer at all is not.

    Raises:
        SourceUnavailable: when it kept failing.
    """

    def answered(error: BaseException) -> BaseException | None:
        is_there = any(isinstance(cause, HfHubHTTPError) for cause in causes(error))
        return error if (is_passing(error) if is_there else is_cut_off(error)) else None

    return until_it_passes(ask, waiting, passing=answered)


def stop_waiting_on(event: threading.Event) -> None:
    """In the thread that calls this, waits end when the event is set: it may be called off in the middle of one."""
    _of_thread.event = event


def _sleep(seconds: float) -> None:
    event = getattr(_of_thread, "event", None) or threading.Event()
    parent = multiprocessing.parent_process()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        # A worker whose training process was killed must not sit out the outage.
        if event.wait(min(1.0, left)) or (parent is not None and not parent.is_alive()):
            raise SourceUnavailable("the wait for the network was called off")


@contextlib.contextmanager
def one_try() -> Iterator[None]:
    """Within this, `datasets` raises what fails in place of trying again."""
    from datasets import config

    names = ("STREAMING_READ_MAX_RETRIES", "STREAMING_OPEN_MAX_RETRIES")
    waits = (
        *("STREAMING_READ_RETRY_INTERVAL", "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL"),
        *("STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL", "STREAMING_OPEN_RETRY_INTERVAL"),
    )
    before = {name: getattr(config, name) for name in (*names, *waits)}
    for name in before:
        setattr(config, name, 1 if name in names else 0)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
