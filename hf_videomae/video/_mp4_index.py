"""Decode H.264 in MP4 and MOV by the file's own index: of a long or remote file only the packets of a clip are read.

The index lists each packet's offset, size and decoding time, so the file need not be scanned or read whole. FFmpeg
reads all of the index but the composition offsets (`_mp4`). With these, frames are numbered by time stamp, as in
`_h264_skip`, whatever the frame rate. Left to the decoders that read the whole file are: files whose index FFmpeg had
to change (an edit list that cuts), fragmented files, open groups of pictures, and every other codec and container.
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
    """A video of which only the index is read when it is opened."""

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
        # The offsets belong to the packets only if FFmpeg has kept the table of the file.
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
        """Return the packet numbers of the keyframes. Keep the offset, size and time of each packet."""
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
                raise BackendFailure("it has frames that look back across a keyframe")
            packet.pts = self._packet_pts[packet_number]
            yield packet


def _is_increasing(numbers: Sequence[int]) -> bool:
    return all(map(operator.lt, numbers, islice(numbers, 1, None)))
