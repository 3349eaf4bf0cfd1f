"""A network that fails for a while: what is worth trying again, when, and for how long.

What the clients do by themselves (huggingface_hub 2.4, datasets 5.2, tried on a server that fails on purpose):
huggingface_hub asks again five times within 23 seconds, and heeds Retry-After; then `datasets` asks on for minutes
after a refused connection, 429 and 504, but gives up at once after 500, 502 and 503. A tar file whose connection
breaks twice at one place it reads on as if it had ended there: a `tarfile.ReadError`, as of a damaged file. So here
`datasets` is told not to try again (`disable_datasets_retries`), and what failed is read again from where it was.
"""

import contextlib
import email.utils
import http.client
import json
import logging
import multiprocessing
import os
import random
import re
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from ..credentials import redact_credentials
from ..errors import DataError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

RETRY_SECONDS_VARIABLE = "HF_VIDEOMAE_HUB_PATIENCE"
OUTAGE_SECONDS = 900.0
"""Without a single byte for so long, a run gives up, unless HF_VIDEOMAE_HUB_PATIENCE says otherwise."""
SHARD_SECONDS = 60.0
"""After so long another shard is read first."""

_INITIAL_BACKOFF, _MAX_BACKOFF = 1.0, 30.0
_TOO_MANY_REQUESTS = 429
_TRANSIENT_STATUSES = {408, _TOO_MANY_REQUESTS, 500, 502, 503, 504, 520, 522, 524}
# `hf_xet` 1.8 makes a refusal, which it tried again itself, a ConnectionError; the status is in its words alone.
_XET_STATUS = re.compile(r"HTTP status client error \((\d{3})\b")
# All threads share one client, and where one of them cannot connect, huggingface_hub closes it under the others.
_CLIENT_CLOSED_MESSAGE = "client has been closed"

CLIENT_ERRORS = (HTTPError, OSError, ValueError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError)
"""What a failure arrives as: the HTTP client's own errors, and what readers of files (pyarrow, tarfile) and the
transfer of large files make of them, which depends on the format and on versions. What it means, its causes tell."""

# Where a thread waits that shall not outlive its purpose; by `cancel_waits_on`.
_thread_state = threading.local()


def read_env_seconds(variable: str, default: float) -> float:
    """Return the seconds that an environment variable holds, or the default where it is not set.

    Raises:
        DataError: for anything but a number of 0 or more.
    """
    text = os.environ.get(variable, "").strip()
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise DataError(f"{variable} is {text!r}; give seconds, 0 or more, or unset it")
    return seconds


def outage_retry_seconds() -> float:
    """Return for how long a network or a Hub that fails is waited for."""
    return read_env_seconds(RETRY_SECONDS_VARIABLE, OUTAGE_SECONDS)


def shard_retry_seconds(most: float | None = None) -> float:
    """Return for how long one shard, or one question to the Hub, is waited for: `SHARD_SECONDS`, or `most`."""
    return min(SHARD_SECONDS if most is None else most, outage_retry_seconds())


class SourceUnavailable(DataError):
    """The network kept failing while a data set was read: not the fault of any video."""


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, outermost first."""
    chained: BaseException | None = error
    while chained is not None:
        yield chained
        # urllib names the cause in an attribute of its own.
        reason = getattr(chained, "reason", None)
        chained = chained.__cause__ or (reason if isinstance(reason, BaseException) else None)


def is_transient(error: BaseException) -> bool:
    """Whether an error of a client is one that time mends: no connection, a broken one, 429, 5xx."""
    return any(_is_transient_cause(cause) for cause in cause_chain(error))


def _is_transient_cause(error: BaseException) -> bool:
    status = http_status(error)
    if status is not None:
        return status in _TRANSIENT_STATUSES
    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, RuntimeError):
        return _CLIENT_CLOSED_MESSAGE in str(error)
    # What the HTTP client raises without a response: refused, reset, ended early, timed out.
    return isinstance(error, (HTTPError, http.client.IncompleteRead, ConnectionError, TimeoutError, socket.gaierror))


def is_connection_dropped(error: BaseException) -> bool:
    """Whether a connection that was made broke before the answer: something is there, unlike where none is made."""
    # The HTTP client's own name for an end without an answer; which client it is depends on the version.
    return any(
        isinstance(cause, (ConnectionResetError, BrokenPipeError)) or type(cause).__name__ == "RemoteProtocolError"
        for cause in cause_chain(error)
    )


def _response(error: BaseException) -> Any:
    # urllib's error is the response itself.
    return error if hasattr(error, "code") and hasattr(error, "headers") else getattr(error, "response", None)


def http_status(error: BaseException) -> int | None:
    """Of the answer that an error is about, where there was one."""
    response = _response(error)
    status = getattr(response, "status_code", None) or getattr(response, "code", None)
    if isinstance(status, int):
        return status
    refused = _XET_STATUS.search(str(error)) if isinstance(error, ConnectionError) else None
    return int(refused[1]) if refused else None


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait, where it does: a number or a date."""
    for cause in cause_chain(error):
        headers = getattr(_response(cause), "headers", None) or {}
        value = headers.get("Retry-After")
        if value is None:
            continue
        if value.strip().isdigit():
            return float(value)
        with contextlib.suppress(ValueError):
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


class RetryPolicy:
    """Waits between tries, each time longer and never twice as long, until its time is over.

    Args:
        name: what is being read, for people.
        seconds: without progress until it gives up; None: `outage_retry_seconds()`. A server that asks for patience (429)
            gets that too: it asks it of everyone, so that another file would be no way out.
    """

    def __init__(self, name: str, *, seconds: float | None = None) -> None:
        self.name, self.seconds = name, outage_retry_seconds() if seconds is None else seconds
        # Not the global generator: that is the training's.
        self._random = random.Random()
        self.progress()

    def progress(self) -> None:
        """Something came: the time begins anew."""
        self._failing_since: float | None = None
        self._backoff = _INITIAL_BACKOFF

    def wait(self, error: BaseException) -> None:
        """Wait before the next try.

        Raises:
            SourceUnavailable: when the time is over.
        """
        now = time.monotonic()
        first = self._failing_since is None
        self._failing_since = now if self._failing_since is None else self._failing_since
        requested_wait = retry_after(error)
        wait = (
            self._backoff * self._random.uniform(0.5, 1.0)
            if requested_wait is None
            else requested_wait + self._random.uniform(0.0, 1.0)
        )
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)
        is_rate_limited = any(http_status(cause) == _TOO_MANY_REQUESTS for cause in cause_chain(error))
        seconds = max(self.seconds, outage_retry_seconds()) if is_rate_limited else self.seconds
        if now + wait - self._failing_since > seconds:
            raise SourceUnavailable(
                f"the network kept failing for {now - self._failing_since:.0f} s while {self.name} was read "
                f"({root_cause_message(error)}); when it is back, run again (a run goes on with --resume)"
            ) from error
        if first:
            logger.warning("%s: %s; trying again for %.0f s", self.name, root_cause_message(error), seconds)
        _sleep(wait)

    @contextlib.contextmanager
    def retrying(self, find_transient: Callable[[BaseException], BaseException | None]) -> Iterator[None]:
        """What time mends ends the block, and is waited for: whoever comes out at its end is to try again.

        Raises:
            SourceUnavailable: when the time is over.
        """
        try:
            yield
        except CLIENT_ERRORS as error:
            cause = find_transient(error)
            if cause is None:
                raise
            self.wait(cause)


def root_cause_message(error: BaseException) -> str:
    """One line: the innermost cause that says something."""
    messages = [line for cause in cause_chain(error) for line in str(cause).splitlines()[:1] if line]
    return redact_credentials(messages[-1] if messages else type(error).__name__)


def find_transient_error(error: BaseException) -> BaseException | None:
    """An error that time mends; a proxy's page, read as JSON, is one."""
    return error if is_transient(error) or isinstance(error, json.JSONDecodeError) else None


def retry_transient(
    attempt: Callable[[], _Result],
    retry_policy: RetryPolicy,
    *,
    find_transient: Callable[[BaseException], BaseException | None] = find_transient_error,
) -> _Result:
    """The result of an attempt, made again for as long as the network or the server fails.

    Args:
        attempt: made from its beginning each time.
        retry_policy: between attempts.
        find_transient: of an error, what is to be waited for; None: the error is raised.

    Raises:
        SourceUnavailable: when they kept failing.
    """
    while True:
        with retry_policy.retrying(find_transient):
            return attempt()


def retry_first_request(ask: Callable[[], _Result], retry_policy: RetryPolicy) -> _Result:
    """The answer to a first question. A server that is there and fails is waited for: many processes start at once.
    One that does not answer at all is not.

    Raises:
        SourceUnavailable: when it kept failing.
    """

    def find_server_error(error: BaseException) -> BaseException | None:
        has_response = any(isinstance(cause, HfHubHTTPError) for cause in cause_chain(error))
        return error if (is_transient(error) if has_response else is_connection_dropped(error)) else None

    return retry_transient(ask, retry_policy, find_transient=find_server_error)


def cancel_waits_on(event: threading.Event) -> None:
    """In the thread that calls this, waits end when the event is set: it may be called off in the middle of one."""
    _thread_state.event = event


def _sleep(seconds: float) -> None:
    event = getattr(_thread_state, "event", None) or threading.Event()
    parent = multiprocessing.parent_process()
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        # A worker whose training process was killed must not sit out the outage.
        if event.wait(min(1.0, remaining)) or (parent is not None and not parent.is_alive()):
            raise SourceUnavailable("the wait for the network was called off")


@contextlib.contextmanager
def disable_datasets_retries() -> Iterator[None]:
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
