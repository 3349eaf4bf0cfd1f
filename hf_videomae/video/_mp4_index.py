"""H.264 in MP4 and MOV by the file's own table: of a long or remote file only the packets that a clip needs are read.

The table names each packet's place, size and time before any of them is read, so neither a scan of the file nor the
whole of it is needed. FFmpeg reads all of it but the offsets between decoding and showing (`_mp4`); with them frames
are numbered as `_skipping` does, by their time stamps, whatever the frame rate does on the way. A file whose table
FFmpeg had to change (an edit list that cuts), one in fragments, groups of pictures that look back, and every other
codec and container, are left to the decoders that read all of the file.
"""

import bisect
import operator
from array import array
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING

from ._h264 import H264Video
from ._mp4 import read_composition_offsets
from ._source import ResolvedSource
from .containers import MP4
from .decode_errors import BackendFailure

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream


class Mp4IndexVideo(H264Video):
    """A file of which nothing but its table is read when it is opened."""

    def __init__(self, source: ResolvedSource, *, num_threads: int) -> None:
        self._file_size = source.size
        with ExitStack() as on_error:
            self._file = on_error.enter_context(source.open())
            if source.container is not MP4:
                raise BackendFailure("it is not MP4")
            super().__init__(self._file, kind=source.container, num_threads=num_threads)
            on_error.pop_all()

    def close(self) -> None:
        super().close()
        self._file.close()

    def _index_frames(self, stream: "VideoStream") -> tuple[Sequence[int], list[tuple[int, int]]]:
        keyframes = self._read_index(stream)
        # The offsets are those of the packets only where FFmpeg has left the table as it is in the file.
        if (
            not self._packet_sizes
            or stream.frames != len(self._packet_sizes)
            or not _is_increasing(self._packet_offsets)
        ):
            raise BackendFailure("its table does not list its packets one by one")
        if self._packet_offsets[-1] + self._packet_sizes[-1] > self._file_size or min(self._packet_sizes) <= 0:
            raise BackendFailure("it breaks off")
        offsets = read_composition_offsets(self._file, track=stream.id, num_packets=stream.frames)
        for packet_number, offset in enumerate(offsets):
            self._packet_pts[packet_number] += offset
        self._presentation_order = array("q", sorted(range(len(self._packet_pts)), key=self._packet_pts.__getitem__))
        times = array("q", map(self._packet_pts.__getitem__, self._presentation_order))
        if not _is_increasing(times):
            raise BackendFailure("its packets have no time stamps of their own")
        return times, [(self._packet_pts[packet_number], packet_number) for packet_number in keyframes]

    def _read_index(self, stream: "VideoStream") -> list[int]:
        """The places of the key frames. Keeps where each packet lies, and when it is decoded."""
        self._packet_offsets, self._packet_sizes, self._packet_pts = array("q"), array("q"), array("q")
        keyframes = []
        # Early releases of PyAV do not show the table.
        for packet_number, entry in enumerate(getattr(stream, "index_entries", ())):
            if entry.is_discard:
                raise BackendFailure("an edit list hides some of its frames")
            self._packet_offsets.append(entry.pos)
            self._packet_sizes.append(entry.size)
            self._packet_pts.append(entry.timestamp)
            if entry.is_keyframe:
                keyframes.append(packet_number)
        return keyframes

    def _packet_index(self, time: int) -> int:
        return self._presentation_order[bisect.bisect_left(self._times, time)]

    def _decode(self, wanted: Set[int]) -> Iterator["VideoFrame"]:
        last: int | None = None
        for frame in super()._decode(wanted):
            if frame.pts is None or (last is not None and frame.pts <= last):
                raise BackendFailure("its frames come in another order than its table says")
            last = frame.pts
            yield frame

    def _packets_between(self, start: int, end: int) -> Iterator["Packet"]:
        import av

        for packet_number in range(start, end + 1):
            self._file.seek(self._packet_offsets[packet_number])
            packet = av.Packet(self._file.read(self._packet_sizes[packet_number]))
            if packet_number == start and not self._is_idr(packet):
                raise BackendFailure("it has frames that look back across a key frame")
            packet.pts = self._packet_pts[packet_number]
            yield packet


def _is_increasing(numbers: Sequence[int]) -> bool:
    return all(map(operator.lt, numbers, islice(numbers, 1, None)))
