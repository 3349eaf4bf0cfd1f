"""Decode videos through PyAV, the second decoder, always in decoding order. Its wheels carry their own FFmpeg."""

import functools
import io
import math
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import torch

from . import limits, timestamps
from ._frame_cache import FrameCache
from ._source import ResolvedSource
from ._still_images import check_not_cover_image
from .containers import Container
from .decode_errors import BackendFailure, VideoDecodeError
from .hdr import HighDynamicRange

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext

Index = TypeVar("Index", bound=Hashable)

# FFmpeg 8 swaps the wrong bytes of these on the direct way to RGB.
_FORMATS_VIA_GBRP = frozenset({"rgb555be", "bgr555be", "rgb565be", "bgr565be"})


@functools.cache
def unavailable_reason() -> str | None:
    """Return why PyAV cannot be used on this machine, or None."""
    try:
        import av  # noqa: F401
    except (ImportError, OSError) as error:
        return " ".join(str(error).split())[:300] or type(error).__name__
    return None


class PyavVideo:
    """A video decoded once; only the frames asked for are converted to RGB."""

    name = "pyav"
    fps: float = 0.0
    _facts: dict[str, Any]  # of the stream, for `check_not_cover_image`
    hdr: HighDynamicRange | None = None

    def __init__(self, source: ResolvedSource, *, num_threads: int) -> None:
        self._source = source
        self._num_threads = num_threads
        with translate_ffmpeg_errors():
            self._frame_cache: FrameCache[VideoFrame] | None = FrameCache(self._decode_in_order, nbytes=_yuv_bytes)
            self.num_frames = self._frame_cache.num_frames
            if self.num_frames == 0:
                raise BackendFailure("no frame of it can be decoded")
            check_not_cover_image(
                source.name, codec=self._codec, num_frames=self.num_frames, fps=self.fps, is_cover=self._is_cover
            )
            self._times = timestamps.choose_monotonic_times(self._frame_cache.times, self._decode_times)
            first = self._frame_cache.get_frames([0])[0]
            self.coded_size, self.format = (first.height, first.width), first.format.name
            self._to_rgb = RgbConverter(self.coded_size)
            height, width, _ = self._to_rgb(first).shape
            self.size = height, width

    def frames(self, indices: Sequence[int]) -> torch.Tensor:
        """Return `(len(indices), 3, H, W)` uint8."""
        assert self._frame_cache is not None
        with translate_ffmpeg_errors():
            positions = group_positions(indices)
            picked = zip(positions.values(), self._frame_cache.get_frames(list(positions)), strict=True)
            return stack_frames(((targets, self._to_rgb(frame)) for targets, frame in picked), length=len(indices))

    def raw_times(self) -> "array[float]":
        """Return the time stamp of every frame in seconds, NaN for missing ones."""
        return self._times

    def duration(self) -> float:
        """Return the seconds from the first to the last frame."""
        return timestamps.last_frame_time(self.raw_times(), fps=self.fps)

    def close(self) -> None:
        self._frame_cache = None

    def _decode_in_order(self) -> Iterator[tuple["VideoFrame", float | None]]:
        from av.stream import Disposition

        with open_input(self._source.data, self._source.container) as container:
            stream = best_video_stream(container)
            self.hdr = detect_hdr(stream.codec_context)
            self._codec = stream.codec_context.name
            self._is_cover = bool(stream.disposition & Disposition.attached_pic)
            stream.codec_context.thread_count = self._num_threads
            stream.codec_context.thread_type = "SLICE" if self._num_threads == 1 else "AUTO"
            self.fps = float(stream.guessed_rate or stream.average_rate or 0.0)
            limits.check_frame_size(stream.codec_context.height, stream.codec_context.width)
            limits.check_frame_count(stream.frames)
            clock, self._decode_times = float(stream.time_base or 0), timestamps.time_array()
            for packet in limits.iterate_until_deadline(container.demux(stream)):
                for frame in packet.decode():
                    limits.check_frame_size(frame.height, frame.width)  # it may change on the way
                    self._decode_times.append(math.nan if frame.dts is None else frame.dts * clock)
                    yield frame, frame.time


def open_input(data: str | bytes | BinaryIO, kind: Container) -> "InputContainer":
    """Open a file with the demuxer of its kind and no other, so that nothing in it is taken for a list of files."""
    import av

    file = io.BytesIO(data) if isinstance(data, bytes) else data
    opened: InputContainer = av.open(file, format=kind.demuxer, container_options=kind.options)
    return opened


def best_video_stream(container: "InputContainer") -> Any:
    """Return the stream that FFmpeg calls best. Raises `BackendFailure` if the file has none, or FFmpeg no decoder."""
    stream = container.streams.best("video")
    if stream is None:
        raise BackendFailure("there is no video stream in it")
    if stream.codec_context is None:
        raise BackendFailure("FFmpeg has no decoder for its codec")
    return stream


def _yuv_bytes(frame: "VideoFrame") -> int:
    return sum(plane.buffer_size for plane in frame.planes)


class RgbConverter:
    """Convert frames of one video to RGB, at the `size` (height, width) of its first frame, on one thread.

    One context of swscale serves them all: to make one for each frame costs two to four times the conversion, and
    PyAV from 17 on would start threads for each.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.height, self.width = size
        self._reformatter = VideoReformatter()
        self._options = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}

    def __call__(self, frame: "VideoFrame") -> torch.Tensor:
        """Return `(H, W, 3)` uint8, rotated by the display matrix: a view that is valid until the next call."""
        quarter_turns = round(frame.rotation / 90)  # counter-clockwise
        if frame.format.name in _FORMATS_VIA_GBRP:
            frame = frame.reformat(format="gbrp")
        rgb = self._reformatter.reformat(
            frame, width=self.width, height=self.height, format="rgb24", interpolation="BICUBIC", **self._options
        )
        plane = rgb.planes[0]
        rows = torch.frombuffer(plane, dtype=torch.uint8).view(self.height, plane.line_size)
        rgb_frame = rows[:, : 3 * self.width].unflatten(1, (self.width, 3))
        return torch.rot90(rgb_frame, quarter_turns) if quarter_turns % 4 else rgb_frame


def stack_frames(rgb_frames: Iterable[tuple[Sequence[int], torch.Tensor]], *, length: int) -> torch.Tensor:
    """Stack frames `(H, W, 3)`, each with its positions in the clip, to `(T, 3, H, W)` uint8, channels last in memory.

    Each is copied while it is in the processor's cache, and its memory serves the next one.
    """
    clip: torch.Tensor | None = None
    for positions, rgb_frame in rgb_frames:
        if clip is None:
            clip = torch.empty(length, *rgb_frame.shape, dtype=torch.uint8)
        for position in positions:
            clip[position].copy_(rgb_frame)
    assert clip is not None
    return clip.permute(0, 3, 1, 2)


def group_positions(indices: Sequence[Index]) -> dict[Index, list[int]]:
    """Return the positions in the clip of each frame; a frame may be asked for more than once."""
    positions: dict[Index, list[int]] = {}
    for position, index in enumerate(indices):
        positions.setdefault(index, []).append(position)
    return positions


@contextmanager
def translate_ffmpeg_errors() -> Iterator[None]:
    """Raise FFmpeg's errors about a file as `BackendFailure`."""
    import av

    try:
        yield
    except VideoDecodeError:  # a ValueError: reading a remote file failed while FFmpeg read it
        raise
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise BackendFailure(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error


def detect_hdr(codec_context: "VideoCodecContext") -> HighDynamicRange | None:
    """Return the high dynamic range that a stream states, None for standard range."""
    return HighDynamicRange.from_tags(codec_context.color_trc, codec_context.color_primaries)


def read_packet_times(source: ResolvedSource) -> "array[float] | None":
    """Return the time stamps in seconds of the packets that are shown, in order, without decoding.

    None if a packet has none, or PyAV cannot read the file.
    """
    import av

    times = []
    try:
        with open_input(source.data, source.container) as container:
            stream = container.streams.best("video")
            for packet in limits.iterate_until_deadline(container.demux(stream)) if stream is not None else ():
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                times.append(packet.pts * float(packet.time_base))
    except (av.FFmpegError, ValueError):
        return None
    return timestamps.time_array(sorted(times))
