"""Read frames of one open video, and move on to the next decoder when one gives up on the file."""

import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from . import _h264_skip, _pyav, _torchcodec, limits, timestamps
from ._source import ResolvedSource
from ._still_images import check_not_still_image
from .decode_errors import BackendFailure, LimitExceeded, UnknownFrameRateError, VideoDecodeError
from .hdr import HighDynamicRange, hdr_counter

logger = logging.getLogger(__name__)

Indices = TypeVar("Indices")

# Files of this process that the first decoder gave up on, by the decoder that read them.
_fallbacks: Counter[str] = Counter()


def count_fallbacks() -> int:
    """Return how many files of this process the first decoder gave up on and the second one read."""
    return sum(_fallbacks.values())


class _BackendVideo(Protocol):
    name: str
    num_frames: int
    fps: float
    coded_size: tuple[int, int]  # (height, width) before any rotation
    hdr: HighDynamicRange | None

    @property
    def size(self) -> tuple[int, int]: ...

    def frames(self, indices: Sequence[int]) -> torch.Tensor: ...

    def raw_times(self) -> "array[float]": ...

    def duration(self) -> float: ...

    def close(self) -> None: ...


class NamedVideo(timestamps.TimedVideo, Protocol):
    """An open video with a name for errors."""

    @property
    def name(self) -> str: ...


class IndexSampling:
    """Add `sample_indices` to readers of videos and of segments."""

    def sample_indices(
        self: NamedVideo,
        index_fn: Callable[[int, float], Indices],
        *,
        frame_seconds: float | None = None,
        first: int | None = None,
    ) -> Indices:
        """Return `index_fn(num_frames, fps)`: the numbers of the frames to read.

        Args:
            index_fn: gives frame numbers, also in nested lists.
            frame_seconds: seconds between two sampled frames, if `index_fn` counts in seconds. For a video of uneven
                frame rate the time stamps then decide (`timestamps.resolve_frame_indices`).
            first: sample from the first so many frames only.

        Raises:
            VideoDecodeError: `index_fn` counts in seconds, and the frame rate is not known.
        """
        try:
            return timestamps.resolve_frame_indices(self, index_fn, frame_seconds=frame_seconds, first=first)
        except UnknownFrameRateError as error:
            raise VideoDecodeError(self.name, str(error)) from error


def check_indices(indices: Sequence[int]) -> list[int]:
    """Return frame indices as whole numbers. Raises `ValueError` for negative ones."""
    wanted = [int(index) for index in indices]
    if any(index < 0 for index in wanted):
        raise ValueError(f"frame indices count from 0 and are never negative, got {wanted}")
    return wanted


class VideoReader(IndexSampling):
    """An open video, from `open_video`; a context manager. Frames are numbered as a player shows them.

    Attributes:
        num_clamped: how many of the frames asked for lay past the end; the last frame was returned for them.
    """

    def __init__(self, source: ResolvedSource, *, backends: Sequence[str], num_threads: int) -> None:
        self._source = source
        self._num_threads = num_threads
        self._backend_video_or_none: _BackendVideo | None = None
        self._rate: tuple[int, float] | None = None  # for so many frames
        self._times: torch.Tensor | None = None
        self._fast_path: _BackendVideo | None = None
        self.num_clamped = 0
        check_not_still_image(source)
        source.validate_container()
        self._open_backend(backends)

    @property
    def name(self) -> str:
        """Return the name of this video in errors."""
        return self._source.name

    @property
    def num_frames(self) -> int:
        """Return how many frames decode; at least 1."""
        return self._open.num_frames

    @property
    def fps(self) -> float:
        """Return the frame rate in 1/s: FFmpeg's guess (nominal if it varies), or the rate by the time stamps.

        The rate by the time stamps is `(num_frames - 1) / (last - first)`. It is used if the guess is missing or
        differs widely from it. 0.0 if no rate is known.
        """
        number = self.num_frames
        if self._rate is None or self._rate[0] != number:
            duration = self._open.duration() if number > 1 else 0.0
            self._rate = number, timestamps.estimate_fps(stated=self._open.fps, num_frames=number, duration=duration)
        return self._rate[1]

    @property
    def timestamps(self) -> torch.Tensor:
        """Return when each frame is shown, in seconds after the first frame: `(num_frames,)` float64, never falling.

        The first is always 0.0, whatever its time stamp in the file (MPEG streams begin at 1.4 s, a trimmed MP4
        anywhere): annotations in seconds and `Trim` count the same way. Frames hidden by an edit list are left out.
        Read on first use, from the packets if possible, and cached.

        Raises:
            VideoDecodeError: neither time stamps nor a frame rate say when the frames are shown, or the file is
                damaged.
        """
        while True:
            if self._times is not None and len(self._times) == self.num_frames:
                return self._times
            try:
                self._times = timestamps.presentation_times(self._open.raw_times(), fps=self._open.fps)
            except BackendFailure as failure:
                self._fall_back(failure)
            except (LimitExceeded, UnknownFrameRateError) as error:
                raise VideoDecodeError(self.name, str(error)) from error

    @property
    def height(self) -> int:
        """Return the height in pixels, as displayed (after rotation)."""
        return self._size()[0]

    @property
    def width(self) -> int:
        """Return the width in pixels, as displayed (after rotation)."""
        return self._size()[1]

    @property
    def hdr(self) -> HighDynamicRange | None:
        """Return how the file states high dynamic range (PQ, HLG), None for standard range.

        `frames` reads its pixels as standard range; `hdr.hdr_counter` counts the videos read so.
        """
        return self._open.hdr

    @property
    def backend(self) -> str:
        """Return the decoder in use, `"torchcodec"` or `"pyav"`."""
        return self._open.name

    def frames(self, indices: Sequence[int]) -> torch.Tensor:
        """Return the frames at `indices`, in the order asked, repeats allowed.

        An index past the end gives the last frame and is counted in `num_clamped`.

        Returns:
            `(len(indices), 3, H, W)` uint8 RGB. In memory they are `(T, H, W, C)`, as decoders write and resizing
            reads them: use `reshape` or `contiguous()`, not `view`.

        Raises:
            VideoDecodeError: every decoder finds the file cut off or damaged at one of these frames; or the frames
                together are larger than `limits.MAX_CLIP_BYTES`.
            ValueError: an index is negative, or the reader is closed.
        """
        wanted = check_indices(indices)
        if self._open and os.getpid() != self._pid:
            self._open_backend(self._backends)
        if not wanted:
            return torch.empty(0, 3, self.height, self.width, dtype=torch.uint8)
        while True:
            try:
                limits.check_clip_bytes(len(wanted), *self._open.coded_size)
                frames = self._open.frames([min(index, self.num_frames - 1) for index in wanted])
            except BackendFailure as failure:
                self._fall_back(failure)
            except LimitExceeded as error:
                raise VideoDecodeError(self.name, str(error)) from error
            else:
                if self._open.hdr is not None:
                    hdr_counter.add({self.name: self._open.hdr.transfer})
                self.num_clamped += sum(index >= self.num_frames for index in wanted)
                return frames

    def close(self) -> None:
        """Free the decoder and what it kept; from here on `frames` raises."""
        self._open.close()
        self._backend_video_or_none = None

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._backend_video_or_none is not None:
            self.close()

    @property
    def _open(self) -> _BackendVideo:
        if self._backend_video_or_none is None and not self._backends:
            raise self._decode_error()
        if self._backend_video_or_none is None:
            raise ValueError(f"the reader of {self.name} is closed")
        return self._backend_video_or_none

    def _open_backend(self, backends: Sequence[str]) -> None:
        self._pid = os.getpid()
        self._rate = self._times = None
        self._backends = list(backends)
        self._failures: list[str] = []
        self._fast_path = self._open_fast_path() if "pyav" in backends else None
        self._backend_video_or_none = self._fast_path or self._open_with_next_backend()

    def _open_fast_path(self) -> _BackendVideo | None:
        """Open the fast path for files that it supports; None for all others, which is no failure of a decoder."""
        try:
            return _h264_skip.open_fast_path(self._source, num_threads=self._num_threads)
        except BackendFailure:
            return None
        except LimitExceeded as error:
            raise VideoDecodeError(self.name, str(error)) from error

    def _open_with_next_backend(self) -> _BackendVideo:
        """Open with the first of `_backends` that can; those that gave up are removed from the list."""
        while self._backends:
            try:
                video = _open_with(self._backends[0], self._source, num_threads=self._num_threads)
            except BackendFailure as failure:
                self._failures.append(f"{self._backends.pop(0)}: {failure}")
            except LimitExceeded as error:
                raise VideoDecodeError(self.name, str(error)) from error
            else:
                if self._failures:
                    _record_fallback(self.name, failures=self._failures, backend=video.name)
                return video
        raise self._decode_error()

    def _decode_error(self) -> VideoDecodeError:
        """Return the error for a file on which every decoder gave up."""
        if self._source.has_external_media():
            reason = "its video lies in another file (a QuickTime reference movie), which is never opened"
            return VideoDecodeError(self.name, f"{reason}: export it as a self-contained movie")
        return VideoDecodeError(self.name, "; ".join(self._failures))

    def _size(self) -> tuple[int, int]:
        try:
            return self._open.size
        except BackendFailure as failure:
            self._fall_back(failure)
            return self._size()
        except LimitExceeded as error:
            raise VideoDecodeError(self.name, str(error)) from error

    def _fall_back(self, failure: BackendFailure) -> None:
        self._rate = self._times = None
        if self._fast_path is not None:
            self._fast_path.close()
            self._fast_path = None
        else:
            self._failures.append(f"{self._backends.pop(0)}: {failure}")
        self._backend_video_or_none = None
        self._backend_video_or_none = self._open_with_next_backend()


def _open_with(backend: str, source: ResolvedSource, *, num_threads: int) -> _BackendVideo:
    video = _torchcodec.TorchcodecVideo if backend == "torchcodec" else _pyav.PyavVideo
    return video(source, num_threads=num_threads)


def _record_fallback(name: str, *, failures: Sequence[str], backend: str) -> None:
    message = "%s: %s; read with %s"
    if not _fallbacks:
        message += ". Further such files are counted in count_fallbacks(), not warned about."
    level = logging.DEBUG if _fallbacks else logging.WARNING
    _fallbacks[backend] += 1
    logger.log(level, message, name, "; ".join(failures), backend)
