"""Recognize video containers by their first bytes. Any other file is refused before FFmpeg sees it.

FFmpeg takes over 300 formats. Among them are texts that name other files and addresses (HLS, DASH, ffconcat, SDP, IMF,
VobSub), which it opens and fetches, stills, subtitles and games' sound. Only what holds a video by itself is decoded:
the container is recognized by its signature, never by the name of the file, and PyAV and the program ffmpeg get the
demuxer to use. torchcodec does not accept one. There FFmpeg chooses by the content, so a file of a known signature in
which FFmpeg would find one of those texts as well is refused, too.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from . import limits
from ._mp4 import Mp4Box, find_boxes, iterate_boxes
from .decode_errors import LimitExceeded, VideoDecodeError

HEAD_BYTES = 2048

_PROBE_BYTES = 2**20  # FFmpeg looks no further when it chooses a demuxer
_MJPEG_BYTES = 16 * 2**20  # the first image of a Motion JPEG ends within these


@dataclass(frozen=True)
class Container:
    """A kind of video file.

    Attributes:
        name: name in messages.
        demuxer: FFmpeg's name of the reader.
    """

    name: str
    demuxer: str

    @property
    def options(self) -> dict[str, str]:
        """Return FFmpeg's options that keep it to this demuxer and to the file itself."""
        options = {"format_whitelist": self.demuxer, "protocol_whitelist": "file"}
        return {**options, "enable_drefs": "0", "use_absolute_path": "0"} if self is MP4 else options


MP4 = Container("MP4 or MOV", "mov")
MATROSKA = Container("Matroska or WebM", "matroska")
_AVI = Container("AVI", "avi")
_MPEG_PS = Container("MPEG program stream", "mpeg")
_MPEG_TS = Container("MPEG transport stream", "mpegts")
_MPEG_VIDEO = Container("MPEG-1 or MPEG-2 video", "mpegvideo")
_MPEG4_VIDEO = Container("MPEG-4 video", "m4v")
_H264 = Container("H.264", "h264")
_HEVC = Container("HEVC", "hevc")
_MJPEG = Container("Motion JPEG", "mjpeg")
_APNG = Container("animated PNG", "apng")

_MP4_BOXES = (
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"moof", b"uuid", b"udta",
    b"junk",
)  # fmt: skip

_SIGNATURES: tuple[tuple[bytes, Container], ...] = (
    (b"\x1a\x45\xdf\xa3", MATROSKA),
    (b"\0\0\1\xba", _MPEG_PS),
    (b"\0\0\1\xbb", _MPEG_PS),
    (b"\0\0\1\xe0", _MPEG_PS),
    (b"IMKH", _MPEG_PS),
    (b"\0\0\1\xb3", _MPEG_VIDEO),
    (b"\0\0\1\xb0", _MPEG4_VIDEO),
    (b"FLV\1", Container("FLV", "flv")),
    (b"OggS\0", Container("Ogg", "ogg")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container("ASF or WMV", "asf")),
    (b"GIF87a", Container("GIF", "gif")),
    (b"GIF89a", Container("GIF", "gif")),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", Container("MXF", "mxf")),
    (b"DHAV", Container("DAV", "dhav")),
    (b"DAHUA", Container("DAV", "dhav")),
    (b"YUV4MPEG2 ", Container("YUV4MPEG2", "yuv4mpegpipe")),
    (b"DKIF\0\0", Container("IVF", "ivf")),
    (b"nut/multimedia container\0", Container("NUT", "nut")),
    (b".RMF\0\0\0", Container("RealMedia", "rm")),
    (b"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d", Container("WTV", "wtv")),
    (b"\x1f\x07\x00", Container("DV", "dv")),
    (b"\x12\0\x0a", Container("AV1", "obu")),
)
_RIFF = {b"AVI ": _AVI, b"AVI\x19": _AVI, b"CDXA": _MPEG_PS}
_TS_PACKETS = (188, 192, 204)
_TS_IN_A_ROW = 5

# Texts that name other files or addresses: at the start of a file, or anywhere in its first bytes.
_PLAYLIST_STARTS = (
    (b"#EXTM3U", "HLS"), (b"ffconcat", "ffconcat"), (b"# VobSub", "VobSub"), (b"[playlist]", "PLS"), (b"v=0", "SDP"),
    (b"RTSPtext", "RTSP"), (b"[Reference]", "ASF"),
)  # fmt: skip
_PLAYLIST_MARKERS = (
    (b"<mpd", "DASH"), (b"c=in ip", "SDP"), (b"<compositionplaylist", "IMF"), (b"<smoothstreamingmedia", "Smooth"),
    (b"<smil", "SMIL"), (b"<asx", "ASX"), (b"#extm3u", "HLS"), (b"ffconcat", "ffconcat"),
)  # fmt: skip
# Files that are given most often in place of a video.
_OTHER_SIGNATURES = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file: run `git lfs pull` in its folder"),
    (b"\xff\xd8\xff", "it is a JPEG picture, not a video"),
    (b"\x89PNG", "it is a PNG picture, not a video"),
    (b"II*\0", "it is a TIFF picture, not a video; make a video of its pages first"),
    (b"MM\0*", "it is a TIFF picture, not a video; make a video of its pages first"),
    (b"BM", "it is a BMP picture, not a video"),
    (b"ID3", "there is no video stream in it: it is an MP3 sound file"),
    (b"fLaC", "there is no video stream in it: it is a FLAC sound file"),
    (b"PK\x03\x04", "it is a zip archive, not a video: unpack it"),
    (b"\x1f\x8b", "it is a gzip archive, not a video: unpack it"),
    (b"PAR1", "it is a Parquet file, not a video"),
    (b"\x89HDF", "it is an HDF5 file, not a video"),
    (b"\x93NUMPY", "it is a NumPy array, not a video"),
    (b"<!doctype html", "it is an HTML page, not a video: what was downloaded is a page about it, or an error"),
    (b"<html", "it is an HTML page, not a video: what was downloaded is a page about it, or an error"),
)
_OTHER_RIFFS = {b"WAVE": "there is no video stream in it: it is a WAV sound file", b"WEBP": "it is a WebP picture"}

SUPPORTED = "MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, Ogg, ASF, GIF, MXF, H.264 and HEVC"


def find_container(file: BinaryIO, *, name: str) -> Container:
    """Return the container of an open file, which is read from its start.

    Args:
        file: the whole file.
        name: its name in errors.

    Raises:
        VideoDecodeError: it is no video, or FFmpeg may take it for a text that names other files.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    playlist = _find_playlist(head if b"\0" in head else head + file.read(_PROBE_BYTES - len(head)))
    if playlist is not None:
        raise VideoDecodeError(
            name,
            f"it is, or holds, a playlist or session description ({playlist}), which names other files or addresses; "
            f"only files that hold the video themselves are decoded",
        )
    container = _match_signature(head) or _match_image_sequence(file, head)
    if container is None:
        raise VideoDecodeError(name, _describe_unknown(head))
    if container is _AVI:
        _check_avi_size(head, name=name)
    return container


def _check_avi_size(head: bytes, *, name: str) -> None:
    """Refuse an AVI whose header claims an impossible frame: some codecs take memory for it when FFmpeg opens them."""
    offset = head.find(b"strf", head.find(b"vids"))
    if 0 <= offset <= len(head) - 20:
        width, height = struct.unpack_from("<ii", head, offset + 12)
        try:
            limits.check_frame_size(abs(height), abs(width))
        except LimitExceeded as error:
            raise VideoDecodeError(name, str(error)) from error


def has_external_media(file: BinaryIO) -> bool:
    """Return whether the video of an MP4 or MOV lies in another file (a QuickTime reference movie)."""
    whole = Mp4Box(b"", 0, 0, file.seek(0, os.SEEK_END))
    for media in find_boxes(file, whole, b"moov", b"trak", b"mdia"):
        handlers = list(find_boxes(file, media, b"hdlr"))
        references = list(find_boxes(file, media, b"minf", b"dinf", b"dref"))
        if not handlers or not references:
            continue
        file.seek(handlers[0].content + 8)
        if file.read(4) != b"vide":
            continue
        for entry in iterate_boxes(file, references[0].content + 8, references[0].end):
            file.seek(entry.content)
            is_own = file.read(4)[3:] == b"\1"
            if not is_own and entry.end - entry.content > 5:
                return True
    return False


def _match_signature(head: bytes) -> Container | None:
    if head[4:8] in _MP4_BOXES:
        return MP4
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    for start, container in _SIGNATURES:
        if head.startswith(start):
            return container
    return _elementary_stream(head) or (_MPEG_TS if _is_transport_stream(head) else None)


def _elementary_stream(head: bytes) -> Container | None:
    """Recognize H.264 or HEVC in Annex B: a start code, then a header unit. Both may begin with a few extra zeros."""
    rest = head.lstrip(b"\0")
    if not 2 <= len(head) - len(rest) <= 8 or rest[:1] != b"\1" or len(rest) < 3:
        return None
    unit, next_byte = rest[1], rest[2]
    if unit >> 7:  # the forbidden bit
        return None
    if unit & 0x1F in (6, 7, 9) and (unit >> 5 or unit & 0x1F != 7):  # SEI, parameters, delimiter
        return _H264
    if unit >> 1 in (32, 35, 39) and next_byte & 7:  # parameters, delimiter, SEI
        return _HEVC
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Return whether five sync bytes follow each other one packet apart; the first packet may be cut."""
    for step in _TS_PACKETS:
        for first in range(step):
            syncs = head[first::step][:_TS_IN_A_ROW]
            if len(syncs) == _TS_IN_A_ROW and set(syncs) == {0x47}:
                return True
    return False


def _match_image_sequence(file: BinaryIO, head: bytes) -> Container | None:
    """Recognize JPEG images one after the other, or an animated PNG; a single image is no video."""
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff") and is_jpeg_sequence(file.read(_MJPEG_BYTES)):
        return _MJPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _APNG if is_animated_png(file) else None
    return None


def is_animated_png(file: BinaryIO) -> bool:
    """Return whether a PNG says that it has two frames or more; it does so before its first image."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"acTL":
            return int.from_bytes(file.read(4)) > 1
        if kind in (b"IDAT", b"IEND"):
            return False
        file.seek(length + 4, 1)
    return False


def is_jpeg_sequence(data: bytes) -> bool | None:
    """Return whether a JPEG is followed by another one, as in MJPEG; None if not even the first has pixels.

    A file with an index of images (MPF: stereo pairs, gain maps of phones) is one photo nevertheless.
    """
    header_end, has_pixels = 2, False
    for kind, offset, length in _jpeg_segments(data):
        if kind == 0xE2 and data[offset : offset + 4] == b"MPF\0":
            return False
        header_end, has_pixels = offset + length, kind == 0xDA
    end = data.find(b"\xff\xd9", header_end)
    is_followed = end >= 0 and data[end + 2 :].lstrip(b"\0\xff").startswith(b"\xd8")
    return is_followed if is_followed or has_pixels else None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, offset and length of each segment, up to the first scan."""
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        kind, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4])
        if kind == 0xFF:  # padding
            offset += 1
            continue
        yield kind, offset + 4, length - 2
        if kind == 0xDA:
            return
        offset += 2 + length


def _find_playlist(start: bytes) -> str | None:
    """Return the kind of a text that names other files. FFmpeg reads texts up to the first zero byte."""
    text = start[: start.index(b"\0")] if b"\0" in start else start
    bare = text.removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginning, kind in _PLAYLIST_STARTS:
        if bare[: len(beginning)].lower() == beginning.lower():
            return kind
    lower = text.lower()
    return next((kind for part, kind in _PLAYLIST_MARKERS if part in lower), None)


def _describe_unknown(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] in _OTHER_RIFFS:
        return _OTHER_RIFFS[head[8:12]]
    lower = head.lstrip().lower()
    for start, reason in _OTHER_SIGNATURES:
        if head.startswith(start) or lower.startswith(start):
            return reason
    if not head.strip(b"\0"):
        return "it is not a video file: it begins with zeros alone, as an unfinished download does"
    return f"it is not a video file: it begins with the bytes {head[:8].hex(' ')}; {SUPPORTED} are read"
