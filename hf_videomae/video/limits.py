"""Limit what one video may take: a file of kilobytes that unpacks to gigabytes must not end a run, or a machine.

A file that exceeds a limit is a `VideoDecodeError` that names the limit. It is raised from the file's headers, before
its frames take memory, and no other decoder is asked. The limits are far beyond any camera. Set them before decoding,
in every process that decodes:

    from hf_videomae.video import limits
    limits.MAX_PIXELS = 1920 * 1080

Attributes:
    MAX_PIXELS: pixels of one frame, height times width. 2**27 lets 16K (15360 x 8640) pass; 8K is a quarter of it.
    MAX_SIDE: height or width of one frame. No codec of cameras goes beyond 16384 (H.264) or 32768 in practice; a
        damaged header that claims a million lines would make FFmpeg take gigabytes.
    MAX_FRAMES: frames of one video. Ten million are 23 hours at 120 frames per second.
    MAX_CLIP_BYTES: bytes of the frames asked for at once, as RGB. 16 GiB are 172 frames of 8K, or 2760 of full HD.
    MAX_FETCHED_BYTES: bytes of a file that is read into memory, from a URL or a file object. Files on disk, and large
        files behind URLs that can be read in parts, are never read whole.

`override_limits` sets tighter ones, and a deadline, for a block of code in one thread, as a server does for videos of
strangers.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from .decode_errors import LimitExceeded

MAX_PIXELS = 2**27
MAX_SIDE = 2**15
MAX_FRAMES = 10_000_000
MAX_CLIP_BYTES = 16 * 2**30
MAX_FETCHED_BYTES = 16 * 2**30

_Item = TypeVar("_Item")

_context_limits: ContextVar[dict[str, int] | None] = ContextVar("tighter_limits", default=None)
_deadline: ContextVar[float] = ContextVar("decode_until", default=math.inf)


@contextmanager
def override_limits(*, pixels: int, frames: int, clip_bytes: int, deadline: float = math.inf) -> Iterator[None]:
    """Set tighter limits for decoding inside the block, in this thread alone; those of the module hold as well.

    Args:
        pixels, frames, clip_bytes: as `MAX_PIXELS`, `MAX_FRAMES`, `MAX_CLIP_BYTES`.
        deadline: when decoding must end, by `time.monotonic()`; checked between frames.
    """
    tighter = _context_limits.set({"MAX_PIXELS": pixels, "MAX_FRAMES": frames, "MAX_CLIP_BYTES": clip_bytes})
    deadline_token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(deadline_token)
        _context_limits.reset(tighter)


def check_frame_size(height: int, width: int) -> None:
    """Raise `LimitExceeded` if a frame of this size, in pixels, is too large."""
    _check(max(height, width), f"its frames are {width} x {height} pixels", "MAX_SIDE", MAX_SIDE)
    _check(height * width, f"its frames are {width} x {height} = {height * width} pixels", "MAX_PIXELS", MAX_PIXELS)


def check_frame_count(num_frames: int) -> None:
    """Raise `LimitExceeded` if a video of this length is too long."""
    _check(num_frames, f"it has {num_frames} frames or more", "MAX_FRAMES", MAX_FRAMES)


def check_clip_bytes(num_frames: int, height: int, width: int) -> None:
    """Raise `LimitExceeded` if this many RGB frames at once are too many."""
    nbytes = num_frames * height * width * 3
    description = f"{num_frames} frames of {width} x {height} pixels at once are {nbytes} bytes"
    _check(nbytes, description, "MAX_CLIP_BYTES", MAX_CLIP_BYTES)


def check_download_size(nbytes: int) -> None:
    """Raise `LimitExceeded` if a file of this size is too large to be held in memory."""
    description = f"it is {nbytes} bytes or more to be read into memory"
    _check(nbytes, description, "MAX_FETCHED_BYTES", MAX_FETCHED_BYTES)


def has_deadline() -> bool:
    """Return whether decoding in this thread has a deadline."""
    return _deadline.get() < math.inf


def check_deadline() -> None:
    """Raise `LimitExceeded` if the time for decoding in this thread is over."""
    if has_deadline() and time.monotonic() >= _deadline.get():
        raise LimitExceeded("decoding it takes longer than is allowed (a limit of this server)")


def iterate_until_deadline(items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield packets or frames until the deadline; raise `LimitExceeded` once it is over."""
    for item in items:
        check_deadline()
        yield item


def _check(value: int, description: str, name: str, limit: int) -> None:
    tighter = (_context_limits.get() or {}).get(name, limit)
    if value > min(limit, tighter):
        where = f"hf_videomae.video.limits.{name}" if limit <= tighter else "a limit of this server"
        raise LimitExceeded(f"{description}, and at most {min(limit, tighter)} are allowed ({where})")
