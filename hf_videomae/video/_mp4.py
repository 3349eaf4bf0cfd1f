"""Read the boxes of MP4 and MOV: where each lies, and the table of composition offsets."""

import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import BinaryIO

from .decode_errors import BackendFailure

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
"""With one of these every such file begins."""

_MAX_BOXES = 64


@dataclass(frozen=True)
class Mp4Box:
    """The place of one box, in bytes from the start of the file; its payload begins at `content`."""

    kind: bytes
    start: int
    content: int
    end: int


def iterate_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Mp4Box]:
    """Yield the boxes between two positions, in order, up to the first that is invalid."""
    for _ in range(_MAX_BOXES):
        if end - start < 8:
            return
        file.seek(start)
        head = file.read(16)
        size, head_bytes = int.from_bytes(head[:4]), 8
        if size == 1:
            size, head_bytes = int.from_bytes(head[8:16]), 16
        if size < head_bytes:
            return
        yield Mp4Box(head[4:8], start, start + head_bytes, start + size)
        start += size


def read_composition_offsets(file: BinaryIO, *, track: int, num_packets: int) -> Iterator[int]:
    """Yield how much later each packet of a track is shown than decoded, in units of its clock.

    Args:
        track: its id.
        num_packets: the number of its packets.

    Raises:
        BackendFailure: the file has no such table, or one of another length.
    """
    end = file.seek(0, os.SEEK_END)
    for found in find_boxes(file, Mp4Box(b"", 0, 0, end), b"moov"):
        for candidate in find_boxes(file, found, b"trak"):
            if _track_id(file, candidate) == track:
                return _offsets(file, candidate, num_packets=num_packets)
    raise BackendFailure("its table of tracks is not as in MP4")


def find_boxes(file: BinaryIO, box: Mp4Box, *path: bytes) -> Iterator[Mp4Box]:
    """Yield the boxes at the end of a path of kinds below a box."""
    for found in iterate_boxes(file, box.content, box.end):
        if found.kind == path[0]:
            yield from find_boxes(file, found, *path[1:]) if len(path) > 1 else (found,)


def _track_id(file: BinaryIO, track: Mp4Box) -> int:
    for header in find_boxes(file, track, b"tkhd"):
        file.seek(header.content)
        head = file.read(24)
        # Version 1 has times of 8 bytes before it.
        return int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16])
    raise BackendFailure("its table of tracks is not as in MP4")


def _offsets(file: BinaryIO, track: Mp4Box, *, num_packets: int) -> Iterator[int]:
    stbl = (b"mdia", b"minf", b"stbl")
    for descriptions in find_boxes(file, track, *stbl, b"stsd"):
        file.seek(descriptions.content + 4)
        if int.from_bytes(file.read(4)) != 1:
            raise BackendFailure("its pictures are coded in several ways")
    for table in find_boxes(file, track, *stbl, b"ctts"):
        file.seek(table.content + 4)
        runs = int.from_bytes(file.read(4))
        if table.end - table.content != 8 + 8 * runs:
            raise BackendFailure("its table of time stamps is damaged")
        # Signed, as FFmpeg reads both versions of the table.
        words = array("i", file.read(8 * runs))
        if sys.byteorder == "little":
            words.byteswap()
        counts, offsets = words[::2], words[1::2]
        if len(words) != 2 * runs or min(counts, default=0) < 0 or sum(counts) != num_packets:
            raise BackendFailure("its table of time stamps is of another length")
        return chain.from_iterable(map(repeat, offsets, counts))
    return repeat(0, num_packets)
