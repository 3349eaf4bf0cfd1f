"""Decode H.264 through PyAV without the frames that no wanted frame needs.

Most of the time of decoding a clip goes into frames that nobody asked for: those between the keyframe and the clip,
and those that a stride skips. H.264 marks many of them as used by no other frame. A decoder can drop these, and the
remaining frames stay the same to the bit; only PyAV offers this, packet by packet. Only the frames asked for are
converted to RGB. Example: with frames I P b P b P and frame 3 wanted, the first b is never decoded.

The packets of a short file are read and kept. A long or remote file is read through its own index (`_mp4_index`).
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from . import limits
from ._h264 import BIT_EXACT_FORMATS, H264Video
from ._mp4_index import Mp4IndexVideo
from ._pyav import PyavVideo, unavailable_reason
from ._source import ResolvedSource
from .decode_errors import BackendFailure

if TYPE_CHECKING:
    from av import Packet
    from av.video.stream import VideoStream

# Below, opening takes longer than decoding. Above, the packets of the whole file are too much to read for one clip.
_MIN_FILE_BYTES = 64 * 2**10
_MAX_FILE_BYTES = 64 * 2**20


def open_fast_path(source: ResolvedSource, *, num_threads: int) -> "H264Video | PyavVideo | None":
    """Open a file in the fastest way, or return None if that gains nothing.

    Raises:
        BackendFailure: this path does not support the file.
        LimitExceeded: the file is too large for any decoder.
        VideoDecodeError: a remote file cannot be downloaded.
    """
    if unavailable_reason() is not None or source.size < _MIN_FILE_BYTES:
        return None
    if source.is_remote:
        try:
            return Mp4IndexVideo(source, num_threads=num_threads)
        except BackendFailure:
            source.download()
    if source.size > _MAX_FILE_BYTES:
        return Mp4IndexVideo(source, num_threads=num_threads)
    if source.is_seekable:
        return NonRefSkippingVideo(source, num_threads=num_threads)
    # Without an index every frame is decoded and counted, but here only the wanted ones are converted to RGB.
    video = PyavVideo(source, num_threads=num_threads)
    if video.format not in BIT_EXACT_FORMATS:
        raise BackendFailure("it has another format")
    return video


class NonRefSkippingVideo(H264Video):
    """A video whose packets are all read when it is opened."""

    _packets: list["Packet"]

    def __init__(self, source: ResolvedSource, *, num_threads: int) -> None:
        super().__init__(source.data, kind=source.container, num_threads=num_threads)
        self._packet_numbers = {packet.pts: packet_number for packet_number, packet in enumerate(self._packets)}

    def close(self) -> None:
        self._packets = []
        super().close()

    def _index_frames(self, stream: "VideoStream") -> tuple[Sequence[int], list[tuple[int, int]]]:
        self._packets = [
            packet for packet in limits.iterate_until_deadline(self._container.demux(stream)) if packet.size
        ]
        times = _frame_pts(self._packets, stated=stream.frames)
        keyframes = (packet_number for packet_number, packet in enumerate(self._packets) if packet.is_keyframe)
        starts = [
            (self._packets[packet_number].pts, packet_number)
            for packet_number in keyframes
            if self._is_idr(self._packets[packet_number])
        ]
        return times, starts

    def _packet_index(self, time: int) -> int:
        return self._packet_numbers[time]

    def _packets_between(self, start: int, end: int) -> Iterable["Packet"]:
        return self._packets[start : end + 1]


def _frame_pts(packets: list["Packet"], *, stated: int) -> list[int]:
    """Return the time stamps of the frames shown, in order; an edit list may hide some.

    Args:
        stated: how many packets the container says it has; 0 if it does not say.
    """
    if not packets or stated not in (0, len(packets)) or any(packet.is_corrupt for packet in packets):
        raise BackendFailure("it breaks off")
    times = [packet.pts for packet in packets]
    if None in times or len(set(times)) < len(times):
        raise BackendFailure("its packets have no time stamps of their own")
    return sorted(packet.pts for packet in packets if not packet.is_discard)
