"""Retry a video that a row names by URL while the network fails: long for the Hub, briefly for another host.

Without an answer from the Hub that holds the dataset, the run cannot continue: it ends after
`retry.outage_retry_seconds()`. Another host may be down for good while everything else works. Its videos are bad
videos, after `retry.shard_retry_seconds()` if other hosts answer, and at once if that host was found dead recently.
"""

import os
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from ..hub.retry import (
    RetryPolicy,
    SourceUnavailable,
    cause_chain,
    http_status,
    is_transient,
    shard_retry_seconds,
)
from ..hub.source_errors import MAX_REREADS, is_access_denied, source_refused_error
from ..video.decode_errors import IncompleteReadError, MissingFilesystemError, VideoDecodeError
from .source import Sample

_Result = TypeVar("_Result")
_Host = tuple[str, int]

_PORTS = {"http": 80, "https": 443, "ftp": 21}
_REREAD_SECONDS = 20.0
_DEAD_HOST_SECONDS = 600.0
_CONNECT_SECONDS = 5.0
_NUM_PROBED_HOSTS = 3
_HUB_FILE = re.compile(r"hf://(?:datasets/)?([^/]+/[^/@]+)(?:@[^/]+)?/(.+)")

# In this process: hosts that delivered a video, and when others were found dead.
_reachable_hosts: dict[_Host, float] = {}
_dead_hosts: dict[_Host, float] = {}


def retry_video(sample: Sample, use: Callable[[Sample], _Result], *, name: str | None = None) -> _Result:
    """Return `use(sample)`, called again while the network fails.

    Args:
        sample: its video may be a URL.
        use: downloads and decodes the video.
        name: what messages call the sample.

    Raises:
        VideoDecodeError: for a video that cannot be downloaded or decoded.
        SourceRefused: when the Hub refuses the whole dataset.
        SourceUnavailable: when the Hub kept failing, or the wait was canceled.
    """
    url = sample.video
    if not isinstance(url, str) or "://" not in url:
        return use(sample)
    host = _parse_host(url)
    name = name or sample.id
    retry_policy = RetryPolicy(name) if host is None else HostRetryPolicy(name, host)
    reread_policy, rereads = RetryPolicy(name, seconds=_REREAD_SECONDS), 0
    while True:
        try:
            result = use(sample)
        except MissingFilesystemError as error:
            raise VideoDecodeError(url, str(error)) from error
        except VideoDecodeError as error:
            if any(isinstance(cause, IncompleteReadError) for cause in cause_chain(error)) and rereads < MAX_REREADS:
                rereads += 1
                reread_policy.wait(error)
            elif is_transient(error):
                retry_policy.wait(error)
            else:
                _check_refused(url, error)
                raise
        else:
            _record_answer(host)
            return result


class HostRetryPolicy(RetryPolicy):
    """The retry policy of a host other than the Hub: it raises the error itself when the time is over."""

    def __init__(self, name: str, host: _Host) -> None:
        super().__init__(name, seconds=shard_retry_seconds())
        self._host, self._outage_policy = host, RetryPolicy(name)

    def wait(self, error: BaseException) -> None:
        """Wait before the next try; raise `error` if the host is dead."""
        if any(http_status(cause) is not None for cause in cause_chain(error)):
            return self._wait_out_outage(self._outage_policy, error)  # the host answers
        if time.monotonic() - _dead_hosts.get(self._host, -_DEAD_HOST_SECONDS) < _DEAD_HOST_SECONDS:
            raise error
        try:
            super().wait(error)
        except SourceUnavailable as over:
            if over.__cause__ is None:
                raise  # canceled
            if _is_network_up(self._host):
                _dead_hosts[self._host] = time.monotonic()
                raise error from error.__cause__
            self._wait_out_outage(self._outage_policy, error)

    def _wait_out_outage(self, retry_policy: RetryPolicy, error: BaseException) -> None:
        try:
            retry_policy.wait(error)
        except SourceUnavailable as over:
            if over.__cause__ is None:
                raise
            _dead_hosts[self._host] = time.monotonic()
            raise error from error.__cause__


def _check_refused(url: str, error: VideoDecodeError) -> None:
    """Raise `SourceRefused` if the Hub refuses the whole dataset, not only this file."""
    match = _HUB_FILE.fullmatch(url)
    if match is not None and is_access_denied(error):
        raise source_refused_error(error, match[1], match[2]) from error


def _parse_host(url: str) -> _Host | None:
    """Return the host or store of a video; None for the Hub."""
    scheme, _, rest = url.partition("://")
    if scheme == "hf":
        return None
    name = rest.partition("/")[0]
    try:
        parts = urlsplit(url)
        host = parts.hostname or name, parts.port or _PORTS.get(scheme.lower(), 0)
    except ValueError:
        return name, 0
    return None if host == _hub_host() else host


def _hub_host() -> _Host:
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _record_answer(host: _Host | None) -> None:
    host = host or _hub_host()
    _reachable_hosts.pop(host, None)  # the last one to answer comes last
    _reachable_hosts[host] = time.monotonic()
    _dead_hosts.pop(host, None)


def _is_network_up(exclude: _Host) -> bool:
    """Return whether another host answers that delivered a video before, or the Hub if none did."""
    if {"http", "https", "all"} & urllib.request.getproxies().keys():
        return True  # a proxy answers for the hosts that it cannot reach
    known = [host for host in reversed(_reachable_hosts) if host != exclude][:_NUM_PROBED_HOSTS] or [_hub_host()]
    return any(map(_can_connect, known)) or os.environ.get("HF_HUB_OFFLINE") == "1"


def _can_connect(host: _Host) -> bool:
    try:
        with socket.create_connection(host, timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False
