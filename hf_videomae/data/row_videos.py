"""A video that a row names by its address: waited for while the network fails, and no longer than it is worth.

Where the Hub that holds the data set does not answer, nothing can go on: after `network.outage_seconds()` the run
ends. Another host may be dead for good while everything else is well: its videos are bad videos, after
`network.shard_seconds()` where other hosts answer, and at once where that host was found dead a while ago.
"""

import os
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from ..video.errors import MissingStoreReader, ShortRead, VideoDecodeError
from .network import Patience, SourceUnavailable, causes, is_passing, shard_seconds, status_of
from .refusals import REREADS, is_refused, refusal
from .samples import Sample

_Result = TypeVar("_Result")
_Host = tuple[str, int]

_PORTS = {"http": 80, "https": 443, "ftp": 21}
_REREAD_SECONDS = 20.0
_DEAD_SECONDS = 600.0
_CONNECT_SECONDS = 5.0
_HOSTS_ASKED = 3
_HUB_FILE = re.compile(r"hf://(?:datasets/)?([^/]+/[^/@]+)(?:@[^/]+)?/(.+)")

# Of this process: hosts that gave a video, and when others were found dead.
_answered: dict[_Host, float] = {}
_dead: dict[_Host, float] = {}


def use_video(sample: Sample, use: Callable[[Sample], _Result], *, name: str | None = None) -> _Result:
    """Return what `use` makes of a sample, which is used again while the network fails.

    Args:
        sample: whose video may be an address.
        use: fetches and decodes it.
        name: what people call the sample.

    Raises:
        VideoDecodeError: for a video that cannot be had or decoded.
        SourceRefused: when the Hub refuses the whole data set.
        SourceUnavailable: when the Hub kept failing, or the wait was called off.
    """
    address = sample.video
    if not isinstance(address, str) or "://" not in address:
        return use(sample)
    host = _host_of(address)
    name = name or sample.id
    waiting = Patience(name) if host is None else _HostPatience(name, host)
    rereading, rereads = Patience(name, seconds=_REREAD_SECONDS), 0
    while True:
        try:
            found = use(sample)
        except MissingStoreReader as error:
            raise VideoDecodeError(address, str(error)) from error
        except VideoDecodeError as error:
            if any(isinstance(cause, ShortRead) for cause in causes(error)) and rereads < REREADS:
                rereads += 1
                rereading.wait(error)
            elif is_passing(error):
                waiting.wait(error)
            else:
                _check_refused(address, error)
                raise
        else:
            _note_answer(host)
            return found


class _HostPatience(Patience):
    """Of a host beside the Hub: raises the error itself when the time is over."""

    def __init__(self, name: str, host: _Host) -> None:
        super().__init__(name, seconds=shard_seconds())
        self._host, self._outage = host, Patience(name)

    def wait(self, error: BaseException) -> None:
        """Wait before the next try; raise `error` where the host is dead."""
        if any(status_of(cause) is not None for cause in causes(error)):
            return self._outlast(self._outage, error)  # somebody is there
        if time.monotonic() - _dead.get(self._host, -_DEAD_SECONDS) < _DEAD_SECONDS:
            raise error
        try:
            super().wait(error)
        except SourceUnavailable as over:
            if over.__cause__ is None:
                raise  # called off
            if _network_is_up(self._host):
                _dead[self._host] = time.monotonic()
                raise error from error.__cause__
            self._outlast(self._outage, error)

    def _outlast(self, waiting: Patience, error: BaseException) -> None:
        try:
            waiting.wait(error)
        except SourceUnavailable as over:
            if over.__cause__ is None:
                raise
            _dead[self._host] = time.monotonic()
            raise error from error.__cause__


def _check_refused(address: str, error: VideoDecodeError) -> None:
    """Raise `SourceRefused` where the Hub refuses not this file alone, but the data set."""
    found = _HUB_FILE.fullmatch(address)
    if found is not None and is_refused(error):
        raise refusal(error, found[1], found[2]) from error


def _host_of(address: str) -> _Host | None:
    """The host or store of a video; None for the Hub."""
    scheme, _, rest = address.partition("://")
    if scheme == "hf":
        return None
    name = rest.partition("/")[0]
    try:
        parts = urlsplit(address)
        found = parts.hostname or name, parts.port or _PORTS.get(scheme.lower(), 0)
    except ValueError:
        return name, 0
    return None if found == _hub() else found


def _hub() -> _Host:
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _note_answer(host: _Host | None) -> None:
    found = _hub() if host is None else host
    _answered.pop(found, None)
    _answered[found] = time.monotonic()
    _dead.pop(found, None)


def _network_is_up(but: _Host) -> bool:
    """Whether another host answers that gave a video before; the Hub, where none did."""
    if {"http", "https", "all"} & urllib.request.getproxies().keys():
        return True  # a proxy answers for the hosts that it cannot reach
    known = [host for host in reversed(_answered) if host != but][:_HOSTS_ASKED] or [_hub()]
    return any(map(_connects, known)) or os.environ.get("HF_HUB_OFFLINE") == "1"


def _connects(host: _Host) -> bool:
    try:
        with socket.create_connection(host, timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False
