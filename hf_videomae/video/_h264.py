"""One open video of H.264 through PyAV, of which only the frames asked for are turned to RGB.

Frames are numbered by the time stamps of the packets, which in MP4, MOV and Matroska name each frame. What does not
look so, or does not give each frame asked for under its own time stamp, raises `BackendFailure`: such a file is left
to the decoders that number frames as they come out.
"""

import bisect
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, BinaryIO

from . import limits, timing
from ._pyav import RgbConverter, as_clip, best_video_stream, file_failures, hdr_of, open_input, places_of
from .containers import Container
from .errors import BackendFailure

if TYPE_CHECKING:
    import torch
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

# With these PyAV's and torchcodec's builds of FFmpeg give the same RGB to the bit; 10 bits for one they do not.
PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p"})


class H264Video(ABC):
    """`frames` takes indices below `num_frames`. Not to be shared with a forked process.

    Args:
        data: a path, the whole file, or a file object.
        kind: of the file.

    Raises:
        BackendFailure: when opened, or at `frames`: this file is to be decoded in another way.
    """

    name = "pyav"

    def __init__(self, data: str | bytes | BinaryIO, *, kind: Container, num_threads: int) -> None:
        with file_failures():
            self._container = open_input(data, kind)
            stream = best_video_stream(self._container)
            if stream.codec_context.name != "h264":
                raise BackendFailure("it is not H.264")
            self._decoder = stream.codec_context
            if self._decoder.pix_fmt not in PLAIN_FORMATS:
                raise BackendFailure("it has another format")
            self._decoder.thread_count = num_threads
            self._decoder.thread_type = "SLICE" if num_threads == 1 else "AUTO"
            self.coded_size = self._decoder.height, self._decoder.width
            limits.check_size(*self.coded_size)
            limits.check_count(stream.frames)
            self.fps = float(stream.guessed_rate or stream.average_rate or 0.0)
            self.hdr = hdr_of(self._decoder)
            self._length_bytes = _length_bytes(self._decoder.extradata)
            self._clock = float(stream.time_base or 0)
            self._times, self._starts = self._number(stream)
        self.num_frames = len(self._times)
        limits.check_count(self.num_frames)
        if not self._starts or self._starts != sorted(self._starts) or self._starts[0][0] > self._times[0]:
            raise BackendFailure("it begins with frames that cannot be decoded")

    @property
    def height(self) -> int:
        """In pixels."""
        return self._first_size()[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self._first_size()[1]

    def frames(self, indices: Sequence[int]) -> "torch.Tensor":
        """`(len(indices), 3, H, W)` uint8."""
        wanted = places_of([self._times[index] for index in indices])
        with file_failures():
            return as_clip(self._pictures(wanted), length=len(indices))

    def raw_times(self) -> "array[float]":
        """Return the time stamp of every frame in seconds."""
        return timing.time_array(time * self._clock for time in self._times)

    def duration(self) -> float:
        """Return the seconds from the first to the last frame."""
        return (self._times[-1] - self._times[0]) * self._clock

    def close(self) -> None:
        self._container.close()

    # Which packets there are, and how they are had, is what the ways of reading differ in.

    @abstractmethod
    def _number(self, stream: "VideoStream") -> tuple[Sequence[int], list[tuple[int, int]]]:
        """The time stamps of the frames that are shown; and of those that decoding can start from, with places."""

    @abstractmethod
    def _place(self, time: int) -> int:
        """Of the packet of the frame with a time stamp, in the order of decoding."""

    @abstractmethod
    def _run(self, start: int, end: int) -> Iterable["Packet"]:
        """The packets from one place to another, both included."""

    def _first_size(self) -> tuple[int, int]:
        """Only a decoded frame says whether it is to be turned; then this way gives up."""
        height, width = self.frames([0]).shape[-2:]
        return height, width

    def _pictures(self, wanted: dict[int, list[int]]) -> Iterator[tuple[list[int], "torch.Tensor"]]:
        """Each wanted frame, named by its time stamp, with its places in the clip."""
        found, to_rgb = set(), RgbConverter(self.coded_size)
        for frame in self._decode(wanted.keys()):
            if frame.pts is None or frame.pts not in wanted:
                continue
            if not self._is_plain(frame):
                raise BackendFailure("a frame of it is turned or of another format")
            found.add(frame.pts)
            yield wanted[frame.pts], to_rgb(frame)
        if len(found) != len(wanted):
            raise BackendFailure("frames of it are missing")

    def _decode(self, wanted: Set[int]) -> Iterator["VideoFrame"]:
        """From each fresh start to the last wanted frame before the next one, and no further."""
        runs: dict[int, int] = {}
        for time in sorted(wanted):
            _, start = self._starts[bisect.bisect(self._starts, time, key=lambda found: found[0]) - 1]
            runs[start] = max(runs.get(start, start), self._place(time))
        for start, end in runs.items():
            try:
                for packet in limits.timed(self._run(start, end)):
                    self._decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                    yield from self._decoder.decode(packet)
                yield from self._decoder.decode(None)
            finally:  # where a connection breaks off, the next try is to begin afresh
                self._decoder.flush_buffers()

    def _is_plain(self, frame: "VideoFrame") -> bool:
        same = (frame.height, frame.width) == self.coded_size
        return same and frame.format.name in PLAIN_FORMATS and not frame.rotation and not frame.is_corrupt

    def _forgets_what_was(self, packet: "Packet") -> bool:
        """Whether it is an IDR frame. A container's key frame may be one that later frames look back across."""
        content, place = memoryview(packet), 0
        while place + self._length_bytes < len(content):
            kind = content[place + self._length_bytes] & 31
            if kind in (1, 5):
                return kind == 5
            place += self._length_bytes + int.from_bytes(content[place : place + self._length_bytes])
        return False


def _length_bytes(extradata: bytes | None) -> int:
    """How many bytes tell the length of each unit in a packet: the fifth byte of the head of MP4 and Matroska."""
    if not extradata or len(extradata) < 7 or extradata[0] != 1:
        raise BackendFailure("its packets are not laid out as in MP4")
    return (extradata[4] & 3) + 1
