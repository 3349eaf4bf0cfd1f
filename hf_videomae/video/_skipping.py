"""H.264 through PyAV, leaving out every frame that no wanted one needs.

Decoding is what a clip costs, and most of it goes into frames that nobody asked for: those between the key frame and
the clip, and those that a stride steps over. In H.264 many of them are marked as used by no other frame. Decoders can
drop these unseen, and what remains is the same to the bit; only PyAV lets one say so packet by packet. Only the frames
asked for are turned to RGB.

Frames are numbered by the time stamps of the packets, which in MP4, MOV and Matroska name each frame. What does not
look so, or does not give each frame asked for under its own time stamp, raises `BackendFailure`: such a file is left
to the decoders that number frames as they come out.
"""

import bisect
import io
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import limits
from ._pyav import PyavVideo, as_clip, file_failures, to_rgb, why_missing
from ._source import ResolvedSource
from .errors import BackendFailure

if TYPE_CHECKING:
    import torch
    from av import Packet, VideoFrame

# With these PyAV's and torchcodec's builds of FFmpeg give the same RGB to the bit; 10 bits for one they do not.
PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p"})
# Below, opening is what costs. Above, the packets of the whole file are too much to read for one clip.
_MIN_FILE_BYTES = 64 * 2**10
_MAX_FILE_BYTES = 64 * 2**20


def open_quickly(source: ResolvedSource, *, num_threads: int) -> "SkippingVideo | PyavVideo | None":
    """The quickest way to a file's frames, or None where it gains nothing.

    Raises:
        BackendFailure: the file is not made for it.
        LimitExceeded: the file is too large for any decoder.
    """
    data = source.data
    size = len(data) if isinstance(data, bytes) else os.path.getsize(data)
    if why_missing() is not None or not _MIN_FILE_BYTES <= size <= _MAX_FILE_BYTES:
        return None
    if source.can_be_sought:
        return SkippingVideo(source, num_threads=num_threads)
    # Without an index every frame is decoded and counted, but here not every one is turned to RGB.
    video = PyavVideo(source, num_threads=num_threads)
    if video.format not in PLAIN_FORMATS:
        raise BackendFailure("it has another format")
    return video


class SkippingVideo:
    """One open video; `frames` takes indices below `num_frames`. Not to be shared with a forked process.

    Raises:
        BackendFailure: when opened, or at `frames`: this file is to be decoded in another way.
    """

    name = "pyav"

    def __init__(self, source: ResolvedSource, *, num_threads: int) -> None:
        import av

        with file_failures():
            data = source.data
            self._container = av.open(io.BytesIO(data) if isinstance(data, bytes) else data)
            stream = self._container.streams.best("video")
            if stream is None or stream.codec_context.name != "h264":
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
            self._packets = [packet for packet in self._container.demux(stream) if packet.size]
        self._times = _frame_times(self._packets, stated=stream.frames)
        self.num_frames = len(self._times)
        limits.check_count(self.num_frames)
        length_bytes = _length_bytes(self._decoder.extradata)
        fresh = (place for place, packet in enumerate(self._packets) if packet.is_keyframe)
        self._starts = [
            (self._packets[place].pts, place)
            for place in fresh
            if _forgets_what_was(self._packets[place], length_bytes=length_bytes)
        ]
        self._places = {packet.pts: place for place, packet in enumerate(self._packets)}
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
        wanted = {self._times[index] for index in indices}
        with file_failures():
            found = {frame.pts: frame for frame in self._decode(wanted) if frame.pts in wanted}
            if len(found) != len(wanted) or not all(map(self._is_plain, found.values())):
                raise BackendFailure("frames are missing, turned or of another format")
            rgb = {time: to_rgb(frame, self.coded_size) for time, frame in found.items()}
            return as_clip([rgb[self._times[index]] for index in indices])

    def close(self) -> None:
        self._packets = []
        self._container.close()

    def _first_size(self) -> tuple[int, int]:
        """Only a decoded frame says whether it is to be turned; then this way gives up."""
        height, width = self.frames([0]).shape[-2:]
        return height, width

    def _decode(self, wanted: set[int]) -> Iterator["VideoFrame"]:
        """From each fresh start to the last wanted frame before the next one, and no further."""
        runs: dict[int, int] = {}
        for time in sorted(wanted):
            _, start = self._starts[bisect.bisect_right(self._starts, (time, len(self._packets))) - 1]
            runs[start] = max(runs.get(start, start), self._places[time])
        for start, end in runs.items():
            for packet in self._packets[start : end + 1]:
                self._decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                yield from self._decoder.decode(packet)
            yield from self._decoder.decode(None)
            self._decoder.flush_buffers()

    def _is_plain(self, frame: "VideoFrame") -> bool:
        same = (frame.height, frame.width) == self.coded_size
        return same and frame.format.name in PLAIN_FORMATS and not frame.rotation and not frame.is_corrupt


def _frame_times(packets: list["Packet"], *, stated: int) -> list[int]:
    """The time stamps of the frames that are shown, in order; an edit list may hide some.

    Args:
        stated: how many packets the container says it has; 0 where it does not say.
    """
    if not packets or stated not in (0, len(packets)) or any(packet.is_corrupt for packet in packets):
        raise BackendFailure("it breaks off")
    times = [packet.pts for packet in packets]
    if None in times or len(set(times)) < len(times):
        raise BackendFailure("its packets have no time stamps of their own")
    return sorted(packet.pts for packet in packets if not packet.is_discard)


def _length_bytes(extradata: bytes | None) -> int:
    """How many bytes tell the length of each unit in a packet: the fifth byte of the head of MP4 and Matroska."""
    if not extradata or len(extradata) < 7 or extradata[0] != 1:
        raise BackendFailure("its packets are not laid out as in MP4")
    return (extradata[4] & 3) + 1


def _forgets_what_was(packet: "Packet", *, length_bytes: int) -> bool:
    """Whether it is an IDR frame. What containers call a key frame may be one that later frames look back across."""
    content, place = memoryview(packet), 0
    while place + length_bytes < len(content):
        kind = content[place + length_bytes] & 31
        if kind in (1, 5):
            return kind == 5
        place += length_bytes + int.from_bytes(content[place : place + length_bytes])
    return False
