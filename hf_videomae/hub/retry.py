"""Retry what fails while the network or the Hub is down: which errors, when, and for how long.

What the clients do by themselves (huggingface_hub 2.4, datasets 5.2, tried on a server that fails on purpose):
huggingface_hub retries five times within 23 seconds and honors Retry-After. `datasets` retries for minutes after a
refused connection, 429 and 504, but gives up at once after 500, 502 and 503. If the connection of a tar file breaks
twice in one place, it reads on as if the file ended there: a `tarfile.ReadError`, as for a damaged file. So here the
retries of `datasets` are switched off (`disable_datasets_retries`), and a failed read continues from where it was.
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
"""A run gives up after so long without a single byte, unless HF_VIDEOMAE_HUB_PATIENCE is set."""
SHARD_SECONDS = 60.0
"""After so long without a byte, another shard is read first."""

_INITIAL_BACKOFF, _MAX_BACKOFF = 1.0, 30.0
_TOO_MANY_REQUESTS = 429
_TRANSIENT_STATUSES = {408, _TOO_MANY_REQUESTS, 500, 502, 503, 504, 520, 522, 524}
# `hf_xet` 1.8 retries a refusal itself and then raises a ConnectionError with the status in its text only.
_XET_STATUS = re.compile(r"HTTP status client error \((\d{3})\b")
# All threads share one client: if one thread cannot connect, huggingface_hub closes it for the others too.
_CLIENT_CLOSED_MESSAGE = "client has been closed"

CLIENT_ERRORS = (HTTPError, OSError, ValueError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError)
"""The types that a failed request is raised as: the HTTP client's own, and what pyarrow, tarfile and the transfer of
large files wrap them in, which depends on formats and versions. The chain of causes tells what happened."""

NOT_THE_HUB = "what answers for the Hub is not the Hub"
"""How a response that a proxy or a login page gave is described."""

# Per thread: the event that cancels its waits, set by `cancel_waits_on`.
_thread_state = threading.local()


def read_env_seconds(variable: str, default: float) -> float:
    """Return the seconds in an environment variable, or the default if it is not set.

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
    """Return how long to retry while the network or the Hub is down."""
    return read_env_seconds(RETRY_SECONDS_VARIABLE, OUTAGE_SECONDS)


def shard_retry_seconds(most: float | None = None) -> float:
    """Return how long to retry one shard or request: `most` or `SHARD_SECONDS`, never longer than for an outage."""
    return min(SHARD_SECONDS if most is None else most, outage_retry_seconds())


class SourceUnavailable(DataError):
    """Raised when the network kept failing; no video is to blame."""


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, outermost first."""
    chained: BaseException | None = error
    while chained is not None:
        yield chained
        # urllib names the cause in an attribute of its own.
        reason = getattr(chained, "reason", None)
        chained = chained.__cause__ or (reason if isinstance(reason, BaseException) else None)


def is_transient(error: BaseException) -> bool:
    """Return whether retrying may help: no connection, a broken one, 429 or 5xx."""
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
    """Return whether a connection was made and then broke, so that a server is there."""
    # By name, because which HTTP client raises them depends on the version.
    names = ("RemoteProtocolError", "ReadError", "WriteError")
    return any(
        isinstance(cause, (ConnectionResetError, BrokenPipeError)) or type(cause).__name__ in names
        for cause in cause_chain(error)
    )


def _response(error: BaseException) -> Any:
    # urllib's error is the response itself.
    return error if hasattr(error, "code") and hasattr(error, "headers") else getattr(error, "response", None)


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an error is about; None without a response."""
    response = _response(error)
    status = getattr(response, "status_code", None) or getattr(response, "code", None)
    if isinstance(status, int):
        return status
    match = _XET_STATUS.search(str(error)) if isinstance(error, ConnectionError) else None
    return int(match[1]) if match else None


def retry_after(error: BaseException) -> float | None:
    """Return the seconds that a Retry-After header, a number or a date, asks to wait; None without one."""
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
    """Exponential backoff with jitter between attempts, bounded by a time without progress.

    The waits double from 0.5-1, 1-2, 2-4 seconds up to 15-30 seconds, unless the server asks for another wait.

    Args:
        name: what is being read, for messages.
        seconds: time without progress until it gives up; by default `outage_retry_seconds()`. A rate limit (429) gets
            at least that, because it applies to every file alike.
    """

    def __init__(self, name: str, *, seconds: float | None = None) -> None:
        self.name, self.seconds = name, outage_retry_seconds() if seconds is None else seconds
        # Not the global generator, whose state belongs to training.
        self._random = random.Random()
        self.reset()

    def reset(self) -> None:
        """Restart the clock and the backoff, after something arrived."""
        self._failing_since: float | None = None
        self._backoff = _INITIAL_BACKOFF

    def wait(self, error: BaseException) -> None:
        """Wait before the next attempt.

        Raises:
            SourceUnavailable: when the time is used up.
        """
        now = time.monotonic()
        is_first = self._failing_since is None
        self._failing_since = now if self._failing_since is None else self._failing_since
        requested = retry_after(error)
        jittered_backoff = self._backoff * self._random.uniform(0.5, 1.0)
        wait = jittered_backoff if requested is None else requested + self._random.uniform(0.0, 1.0)
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)
        is_rate_limited = any(http_status(cause) == _TOO_MANY_REQUESTS for cause in cause_chain(error))
        seconds = max(self.seconds, outage_retry_seconds()) if is_rate_limited else self.seconds
        if now + wait - self._failing_since > seconds:
            raise SourceUnavailable(
                f"the network kept failing for {now - self._failing_since:.0f} s while {self.name} was read "
                f"({root_cause_message(error)}); run again when it is back (a training run continues with --resume)"
            ) from error
        if is_first:
            logger.warning("%s: %s; trying again for %.0f s", self.name, root_cause_message(error), seconds)
        _sleep(wait)

    @contextlib.contextmanager
    def retrying(self, find_transient: Callable[[BaseException], BaseException | None]) -> Iterator[None]:
        """Wait out a transient error of the block; the caller then tries again.

        Raises:
            SourceUnavailable: when the time is used up.
        """
        try:
            yield
        except CLIENT_ERRORS as error:
            cause = find_transient(error)
            if cause is None:
                raise
            self.wait(cause)


def root_cause_message(error: BaseException) -> str:
    """Return one line: the innermost cause that has a message."""
    messages = [line for cause in cause_chain(error) for line in str(cause).splitlines()[:1] if line]
    return redact_credentials(messages[-1] if messages else type(error).__name__)


def find_transient_error(error: BaseException) -> BaseException | None:
    """Return the error if it is transient, or a proxy's page that was read as JSON; otherwise None."""
    return error if is_transient(error) or isinstance(error, json.JSONDecodeError) else None


def retry_transient(
    attempt: Callable[[], _Result],
    retry_policy: RetryPolicy,
    *,
    find_transient: Callable[[BaseException], BaseException | None] = find_transient_error,
) -> _Result:
    """Return the result of an attempt, repeated while the network or the server fails.

    Args:
        attempt: starts from its beginning each time.
        retry_policy: how long to wait between attempts.
        find_transient: returns the error to wait for; None: the error is raised.

    Raises:
        SourceUnavailable: when the time is used up.
    """
    while True:
        with retry_policy.retrying(find_transient):
            return attempt()


def retry_first_request(ask: Callable[[], _Result], retry_policy: RetryPolicy) -> _Result:
    """Return the answer to a first request; retry a server that fails, but not one that does not respond at all.

    Many processes start at once, so a busy server is expected.

    Raises:
        SourceUnavailable: when it kept failing.
    """

    def find_server_error(error: BaseException) -> BaseException | None:
        has_response = any(isinstance(cause, HfHubHTTPError) for cause in cause_chain(error))
        return error if (is_transient(error) if has_response else is_connection_dropped(error)) else None

    return retry_transient(ask, retry_policy, find_transient=find_server_error)


def cancel_waits_on(event: threading.Event) -> None:
    """End the current thread's waits as soon as the event is set."""
    _thread_state.event = event


def _sleep(seconds: float) -> None:
    event = getattr(_thread_state, "event", None) or threading.Event()
    parent = multiprocessing.parent_process()
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        # A worker must not wait on after its training process was killed.
        if event.wait(min(1.0, remaining)) or (parent is not None and not parent.is_alive()):
            raise SourceUnavailable("the wait for the network was canceled")


_DATASETS_SETTINGS = {
    "STREAMING_READ_MAX_RETRIES": 1,
    "STREAMING_OPEN_MAX_RETRIES": 1,
    "STREAMING_READ_RETRY_INTERVAL": 0,
    "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 0,
    "STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL": 0,
    "STREAMING_OPEN_RETRY_INTERVAL": 0,
}
_datasets_lock = threading.Lock()
# Reads overlap: in threads, and as generators of a mix. The last one that ends restores what the first one found.
_datasets_readers = 0
_datasets_before: dict[str, Any] = {}


@contextlib.contextmanager
def disable_datasets_retries() -> Iterator[None]:
    """Make `datasets` raise errors immediately instead of retrying."""
    from datasets import config

    global _datasets_readers
    with _datasets_lock:
        if not _datasets_readers:
            _datasets_before.update({name: getattr(config, name) for name in _DATASETS_SETTINGS})
        _datasets_readers += 1
        for name, value in _DATASETS_SETTINGS.items():
            setattr(config, name, value)
    try:
        yield
    finally:
        with _datasets_lock:
            _datasets_readers -= 1
            for name, value in _datasets_before.items() if not _datasets_readers else ():
                setattr(config, name, value)
