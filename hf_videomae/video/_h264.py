"""Decode H.264 through PyAV, converting only the frames asked for to RGB.

Frames are numbered by the time stamps of the packets, which in MP4, MOV and Matroska name each frame. A file that
differs, or does not return each frame asked for under its own time stamp, raises `BackendFailure` and is left to the
decoders that count frames as they are decoded.
"""

import bisect
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, BinaryIO

from . import limits, timestamps
from ._pyav import (
    RgbConverter,
    best_video_stream,
    detect_hdr,
    group_positions,
    open_input,
    stack_frames,
    translate_ffmpeg_errors,
)
from .containers import Container
from .decode_errors import BackendFailure

if TYPE_CHECKING:
    import torch
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

# With these PyAV's and torchcodec's builds of FFmpeg give the same RGB to the bit; 10 bits for one they do not.
BIT_EXACT_FORMATS = frozenset({"yuv420p", "yuvj420p"})


class H264Video(ABC):
    """An open H.264 video. `frames` takes indices below `num_frames`. Not to be shared with a forked process.

    Args:
        data: a path, the whole file, or a file object.
        kind: the container of the file.

    Raises:
        BackendFailure: when opened, or at `frames`: this file needs another decoder.
    """

    name = "pyav"

    def __init__(self, data: str | bytes | BinaryIO, *, kind: Container, num_threads: int) -> None:
        with translate_ffmpeg_errors():
            self._container = open_input(data, kind)
            stream = best_video_stream(self._container)
            if stream.codec_context.name != "h264":
                raise BackendFailure("it is not H.264")
            self._decoder = stream.codec_context
            if self._decoder.pix_fmt not in BIT_EXACT_FORMATS:
                raise BackendFailure("it has another format")
            self._decoder.thread_count = num_threads
            self._decoder.thread_type = "SLICE" if num_threads == 1 else "AUTO"
            self.coded_size = self._decoder.height, self._decoder.width
            limits.check_frame_size(*self.coded_size)
            limits.check_frame_count(stream.frames)
            self.fps = float(stream.guessed_rate or stream.average_rate or 0.0)
            self.hdr = detect_hdr(self._decoder)
            self._nal_length_bytes = _nal_length_bytes(self._decoder.extradata)
            self._time_base = float(stream.time_base or 0)
            self._times, self._keyframes = self._index_frames(stream)
        self.num_frames = len(self._times)
        limits.check_frame_count(self.num_frames)
        if not self._keyframes or self._keyframes != sorted(self._keyframes) or self._keyframes[0][0] > self._times[0]:
            raise BackendFailure("it begins with frames that cannot be decoded")

    @property
    def size(self) -> tuple[int, int]:
        """Return the height and width; only a decoded frame tells whether it is rotated, which `frames` refuses."""
        height, width = self.frames([0]).shape[-2:]
        return height, width

    def frames(self, indices: Sequence[int]) -> "torch.Tensor":
        """Return `(len(indices), 3, H, W)` uint8."""
        wanted = group_positions([self._times[index] for index in indices])
        with translate_ffmpeg_errors():
            return stack_frames(self._rgb_frames(wanted), length=len(indices))

    def raw_times(self) -> "array[float]":
        """Return the time stamp of every frame in seconds."""
        return timestamps.time_array(time * self._time_base for time in self._times)

    def duration(self) -> float:
        """Return the seconds from the first to the last frame."""
        return (self._times[-1] - self._times[0]) * self._time_base

    def close(self) -> None:
        self._container.close()

    # Subclasses differ in how they find and read packets.

    @abstractmethod
    def _index_frames(self, stream: "VideoStream") -> tuple[Sequence[int], list[tuple[int, int]]]:
        """Return the time stamps of the frames shown, and (time stamp, packet number) of the keyframes."""

    @abstractmethod
    def _packet_index(self, time: int) -> int:
        """Return the number of a frame's packet in decoding order, given the frame's time stamp."""

    @abstractmethod
    def _packets_between(self, start: int, end: int) -> Iterable["Packet"]:
        """Return the packets from one number to another, both included."""

    def _rgb_frames(self, wanted: dict[int, list[int]]) -> Iterator[tuple[list[int], "torch.Tensor"]]:
        """Yield each wanted frame with its positions in the clip; `wanted` names frames by time stamp."""
        decoded, to_rgb = set(), RgbConverter(self.coded_size)
        for frame in self._decode(wanted.keys()):
            if frame.pts is None or frame.pts not in wanted:
                continue
            if not self._has_expected_format(frame):
                raise BackendFailure("a frame of it is rotated or of another format")
            decoded.add(frame.pts)
            yield wanted[frame.pts], to_rgb(frame)
        if len(decoded) != len(wanted):
            raise BackendFailure("frames of it are missing")

    def _decode(self, wanted: Set[int]) -> Iterator["VideoFrame"]:
        """Decode from each keyframe to the last wanted frame before the next one, and no further."""
        runs: dict[int, int] = {}
        for time in sorted(wanted):
            _, start = self._keyframes[bisect.bisect(self._keyframes, time, key=lambda keyframe: keyframe[0]) - 1]
            runs[start] = max(runs.get(start, start), self._packet_index(time))
        for start, end in runs.items():
            try:
                for packet in limits.iterate_until_deadline(self._packets_between(start, end)):
                    self._decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                    yield from self._decoder.decode(packet)
                yield from self._decoder.decode(None)
            finally:  # after a broken connection, the next try starts clean
                self._decoder.flush_buffers()

    def _has_expected_format(self, frame: "VideoFrame") -> bool:
        same = (frame.height, frame.width) == self.coded_size
        return same and frame.format.name in BIT_EXACT_FORMATS and not frame.rotation and not frame.is_corrupt

    def _is_idr(self, packet: "Packet") -> bool:
        """Return whether a packet is an IDR frame. Frames after other keyframes may refer to frames before them."""
        content, offset = memoryview(packet), 0
        while offset + self._nal_length_bytes < len(content):
            kind = content[offset + self._nal_length_bytes] & 31
            if kind in (1, 5):
                return kind == 5
            offset += self._nal_length_bytes + int.from_bytes(content[offset : offset + self._nal_length_bytes])
        return False


def _nal_length_bytes(extradata: bytes | None) -> int:
    """Return how many bytes hold a unit's length in a packet: from the fifth byte of MP4's and Matroska's header."""
    if not extradata or len(extradata) < 7 or extradata[0] != 1:
        raise BackendFailure("its packets are not laid out as in MP4")
    return (extradata[4] & 3) + 1
