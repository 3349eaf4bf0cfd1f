"""A video file, a URL or bytes, to the frames that a player shows.

torchcodec decodes first. A file on which it gives up is tried with PyAV, if that is installed; both having failed is
one `VideoDecodeError` with both reasons. Where PyAV is installed it goes first with the files that it decodes to the
same numbers in less time: 8-bit H.264 in MP4, MOV or Matroska (`_h264_skip`), and AVI, which has no index. Of H.264 in
MP4 and MOV that is long, or large and behind a URL, it reads only what is asked for (`_by_table`); any other such file
is scanned, or downloaded whole. A machine on which neither can be loaded is a `VideoBackendError`, whatever the file.
The number of frames is the number that can be decoded, never the one the container states; rotation and edit lists are
applied, pixel aspect ratios are not; of several video streams FFmpeg's best one is read.

A file that claims, or turns out, to be larger than `limits` allow (pixels of a frame, frames of a video, bytes asked
for at once) is a `VideoDecodeError` before it takes the memory; so is one that takes longer than a server allows.

No decoder outlives its reader, none is kept between calls, and a reader carried into a forked process opens its file
anew there.
"""

import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, TypeVar, overload

import torch

from . import _h264_skip, _pyav, _torchcodec, limits, timestamps
from ._source import ResolvedSource, VideoSource, resolve_source
from ._still_images import check_not_still_image
from .decode_errors import BackendFailure, LimitExceeded, UnknownFrameRateError, VideoBackendError, VideoDecodeError
from .hdr import HighDynamicRange, hdr_counter
from .segments import SegmentReader, VideoSegment

__all__ = [
    "VideoBackendError",
    "VideoDecodeError",
    "VideoReader",
    "VideoSource",
    "check_backends",
    "decode_clip",
    "count_fallbacks",
    "open_video",
]

logger = logging.getLogger(__name__)

Indices = TypeVar("Indices")

BACKENDS = ("torchcodec", "pyav")

_INSTALL_HINT = (
    "Install FFmpeg's libraries (`apt-get install ffmpeg`, `brew install ffmpeg` or `conda install ffmpeg`) and a "
    "torchcodec that matches your torch, or `pip install av`, whose wheels carry their own FFmpeg. "
    "`hf-videomae doctor` says which."
)

# What has been said and counted in this process.
_fallbacks: Counter[str] = Counter()
_warned: set[str] = set()


class _BackendVideo(Protocol):
    name: str
    num_frames: int
    fps: float
    coded_size: tuple[int, int]  # (height, width) before any turn
    hdr: HighDynamicRange | None

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def frames(self, indices: Sequence[int]) -> torch.Tensor: ...

    def raw_times(self) -> "array[float]": ...

    def duration(self) -> float: ...

    def close(self) -> None: ...


class VideoReader:
    """One open video, by `open_video`; use it as a context manager. Frames are numbered as a player shows them.

    Attributes:
        num_clamped: how many of the frames asked for lay past the end, and were answered with the last frame.
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
        """What errors call this video."""
        return self._source.name

    @property
    def num_frames(self) -> int:
        """How many frames decode; at least 1."""
        return self._open.num_frames

    @property
    def fps(self) -> float:
        """Return the frame rate in 1/s: as FFmpeg guesses it (nominal where it varies), or by the time stamps.

        The rate by the time stamps is `(num_frames - 1) / (last - first)`. It is taken where the guess is missing or
        differs widely from it. 0.0 where nothing tells a rate.
        """
        number = self.num_frames
        if self._rate is None or self._rate[0] != number:
            duration = self._open.duration() if number > 1 else 0.0
            self._rate = number, timestamps.estimate_fps(stated=self._open.fps, num_frames=number, duration=duration)
        return self._rate[1]

    @property
    def timestamps(self) -> torch.Tensor:
        """Return when each frame is shown, in seconds after the first frame: `(num_frames,)` float64, never falling.

        The first is always 0.0, whatever time stamp the file gives it (MPEG streams begin at 1.4 s, a trimmed MP4
        anywhere): annotations in seconds and `Trim` count the same way. Frames that an edit list hides are not in it.
        Found when first asked for, from the packets where they tell it, and kept.

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
        """In pixels, as displayed (after rotation)."""
        return self._size()[0]

    @property
    def width(self) -> int:
        """In pixels, as displayed (after rotation)."""
        return self._size()[1]

    @property
    def hdr(self) -> HighDynamicRange | None:
        """Return how the file states high dynamic range (PQ, HLG), None for standard range.

        `frames` gives its pixels as if they were of standard range; `hdr.hdr_counter` counts the videos that were read so.
        """
        return self._open.hdr

    @property
    def backend(self) -> str:
        """The decoder in use, `"torchcodec"` or `"pyav"`."""
        return self._open.name

    def plan(
        self, plan: Callable[[int, float], Indices], *, frame_seconds: float | None = None, first: int | None = None
    ) -> Indices:
        """Return `plan(num_frames, fps)`: what is to be read of this video.

        Args:
            plan: gives frame numbers, also in nested lists.
            frame_seconds: distance of frames, where the plan counts in seconds. A video of uneven frame rate is then
                planned by its time stamps (`timestamps.resolve_frame_indices`); one of constant rate as it is without.
            first: plan for the first so many frames only.

        Raises:
            VideoDecodeError: the plan counts in seconds, and nothing tells the frame rate.
        """
        try:
            return timestamps.resolve_frame_indices(self, plan, frame_seconds=frame_seconds, first=first)
        except UnknownFrameRateError as error:
            raise VideoDecodeError(self.name, str(error)) from error

    def frames(self, indices: Sequence[int]) -> torch.Tensor:
        """The frames at `indices`, in the order asked, repeats allowed.

        An index past the end gives the last frame and is counted in `num_clamped`.

        Returns:
            `(len(indices), 3, H, W)` uint8 RGB. The values lie in memory as `(T, H, W, C)`, which is how decoders
            write and resizing reads them: use `reshape` or `contiguous()`, not `view`.

        Raises:
            VideoDecodeError: the file breaks off or is damaged at one of these frames, for every decoder there is;
                or the frames together are larger than `limits.MAX_CLIP_BYTES`.
            ValueError: an index is negative, or the reader is closed.
        """
        wanted = [int(index) for index in indices]
        if any(index < 0 for index in wanted):
            raise ValueError(f"frame indices count from 0 and are never negative, got {wanted}")
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
        """Frees the decoder and what it kept; `frames` is an error from here on."""
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
        """The quickest way, for the files it is made for. That it is not the one is no failure of a decoder."""
        try:
            return _h264_skip.open_fast_path(self._source, num_threads=self._num_threads)
        except BackendFailure:
            return None
        except LimitExceeded as error:
            raise VideoDecodeError(self.name, str(error)) from error

    def _open_with_next_backend(self) -> _BackendVideo:
        """`_backends[0]` is the one in use; those that gave up have left the list."""
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
            return self._open.height, self._open.width
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


@overload
def open_video(
    source: VideoSource, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> VideoReader: ...


@overload
def open_video(
    source: VideoSegment, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> SegmentReader: ...


@overload
def open_video(
    source: VideoSource | VideoSegment, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> VideoReader | SegmentReader: ...


def open_video(
    source: VideoSource | VideoSegment, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> VideoReader | SegmentReader:
    """Opens a video.

    Args:
        source: a path, an http(s) or fsspec URL (`hf://datasets/...`; read whole, or in parts where it is large), the
            bytes of a file, or a binary file object (read whole, from where it stands); or a `VideoSegment` of one.
        name: what errors call a source that has no name of its own, such as bytes.
        backend: `"auto"` (torchcodec, then PyAV; PyAV first where it is quicker), `"torchcodec"` or `"pyav"`.
        num_threads: decoding threads; 1 is best with several loader workers, 0 lets FFmpeg choose.

    Raises:
        VideoDecodeError: the file is missing, empty, not a video, damaged, or larger than `limits` allow.
        VideoBackendError: no decoder can be used on this machine.
        ValueError: an argument makes no sense.
    """
    if num_threads < 0:
        raise ValueError(f"num_threads must be 0 (FFmpeg chooses) or more, got {num_threads}")
    backends = _available_backends(backend)
    if not isinstance(source, VideoSegment):
        return VideoReader(resolve_source(source, name=name), backends=backends, num_threads=num_threads)
    reader = VideoReader(resolve_source(source.video, name=name), backends=backends, num_threads=num_threads)
    with ExitStack() as on_error:
        on_error.callback(reader.close)
        opened = SegmentReader(reader, source)
        on_error.pop_all()
    return opened


def decode_clip(
    source: VideoSource | VideoSegment,
    plan: Callable[[int, float], Sequence[int]],
    *,
    frame_seconds: float | None = None,
    name: str | None = None,
    backend: str = "auto",
    num_threads: int = 1,
) -> torch.Tensor:
    """Opens a video, asks `plan(num_frames, fps)` for frame indices, and returns those frames.

    Where decoding them shows that the file has fewer frames than its index says, it asks again. `frame_seconds` is for
    plans that count in seconds: see `VideoReader.plan`.

    Returns:
        `(len(plan(...)), 3, H, W)` uint8 RGB, as from `VideoReader.frames`. Raises as `open_video` does.
    """
    with open_video(source, name=name, backend=backend, num_threads=num_threads) as reader:
        while True:
            planned_for = reader.num_frames
            frames = reader.frames(reader.plan(plan, frame_seconds=frame_seconds))
            if reader.num_frames == planned_for:
                return frames


def check_backends(backends: Sequence[str] = BACKENDS) -> dict[str, str | None]:
    """For each decoder why it cannot be used on this machine, or None where it can. Loads no other than these."""
    return {name: (_torchcodec if name == "torchcodec" else _pyav).unavailable_reason() for name in backends}


def count_fallbacks() -> int:
    """How many files of this process the first decoder gave up on and the second one read."""
    return sum(_fallbacks.values())


def _available_backends(backend: str) -> list[str]:
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend must be one of 'auto', 'torchcodec', 'pyav', got {backend!r}")
    asked = BACKENDS if backend == "auto" else (backend,)
    status = check_backends(asked)
    usable = [name for name in asked if status[name] is None]
    if not usable:
        reasons = "; ".join(f"{name}: {status[name]}" for name in asked)
        raise VideoBackendError(f"no video decoder can be loaded here ({reasons}). {_INSTALL_HINT}")
    if usable[0] != asked[0]:
        _warn_once(f"{asked[0]} cannot be loaded ({status[asked[0]]}); videos are decoded with {usable[0]}")
    return usable


def _open_with(backend: str, source: ResolvedSource, *, num_threads: int) -> _BackendVideo:
    video = _torchcodec.TorchcodecVideo if backend == "torchcodec" else _pyav.PyavVideo
    return video(source, num_threads=num_threads)


def _record_fallback(name: str, *, failures: Sequence[str], backend: str) -> None:
    _fallbacks[backend] += 1
    logger.debug("%s: %s; read with %s", name, "; ".join(failures), backend)
    if "fallback" not in _warned:
        _warned.add("fallback")
        logger.warning(
            "%s: %s; read with %s. Further such files are counted in fallback_count(), not warned about.",
            name, "; ".join(failures), backend,
        )  # fmt: skip


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        logger.warning(message)
