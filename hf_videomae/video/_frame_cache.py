"""Cache frames by their place in decoding order, the one numbering that no container can get wrong."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from . import limits
from .timestamps import time_array

Frame = TypeVar("Frame")

# Beyond this nothing is kept, and reading frames takes a second pass: memory stays bounded.
MAX_CACHED_BYTES = 256 * 2**20
# Memory that a kept frame takes in addition to its pixels; without it, tiny frames would be kept without limit.
_OVERHEAD_BYTES = 1024


class FrameCache(Generic[Frame]):
    """Decode a video once from its start, count its frames, and keep them as long as they fit.

    Args:
        decode_all: starts decoding at the first frame at every call; yields each frame with its time stamp in
            seconds, None if it has none.
        nbytes: the memory that one kept frame holds.

    Attributes:
        num_frames: how many frames decode.
        times: their time stamps in seconds, NaN for missing ones.
    """

    def __init__(
        self, decode_all: Callable[[], Iterator[tuple[Frame, float | None]]], *, nbytes: Callable[[Frame], int]
    ) -> None:
        self._decode_all = decode_all
        self._cached_frames: list[Frame] | None = []
        self.num_frames = 0
        self.times = time_array()
        cached_bytes = 0
        for frame, time in limits.iterate_until_deadline(decode_all()):
            self.num_frames += 1
            limits.check_frame_count(self.num_frames)
            self.times.extend(time_array([time]))
            cached_bytes += nbytes(frame) + _OVERHEAD_BYTES
            if cached_bytes > MAX_CACHED_BYTES:
                self._cached_frames = None
            if self._cached_frames is not None:
                self._cached_frames.append(frame)

    def get_frames(self, indices: Sequence[int]) -> list[Frame]:
        """Return the frames at `indices` (each below `num_frames`, at least one), in that order, repeats allowed."""
        if self._cached_frames is not None:
            return [self._cached_frames[index] for index in indices]
        wanted, last = set(indices), max(indices)
        frames: dict[int, Frame] = {}
        for index, (frame, _) in enumerate(limits.iterate_until_deadline(self._decode_all())):
            if index in wanted:
                frames[index] = frame
            if index == last:
                break
        return [frames[index] for index in indices]
