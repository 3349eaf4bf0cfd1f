"""Still pictures, told from videos by the bytes of the file before any decoder sees it.

FFmpeg reads nearly every picture format as a video of one frame. Motion in a format of pictures is a video: GIF
and PNG with several frames, AVIF and HEIC with a track, JPEG pictures one after the other (MJPEG).
"""

from collections.abc import Iterator
from typing import BinaryIO

from ._mp4 import iterate_boxes
from ._source import ResolvedSource
from .decode_errors import VideoDecodeError

# Enough for every signature below.
_HEAD_BYTES = 64
_COVER_REASON = "it is sound with a cover picture: there is no video in it"
# FFmpeg shows a cover picture as a stream of one frame that lasts one tick of its clock, 1/90000 s or 1/1000 s.
_COVER_MIN_FPS = 1000
# Of a JPEG or GIF so much is looked through for a second picture.
_MAX_READ_BYTES = 64 * 2**20

_SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "PSD",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "HDR",
    b"SDPX": "DPX",
    b"XPDS": "DPX",
    b"\0\0\1\0": "ICO",
    b"\0\0\2\0": "ICO",
    b"\x01\xda\x00": "SGI",
    b"\x01\xda\x01": "SGI",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"SIMPLE  =": "FITS",
    b"/* XPM */": "XPM",
}
# Covers are in one of these.
_IMAGE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp", "ljpeg", "jpegls", "jpeg2000"})
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"miaf", b"avif", b"crx ")


def check_not_still_image(source: ResolvedSource) -> None:
    """Raise VideoDecodeError for a still picture, also one of several pages."""
    with source.open() as file:
        kind = find_still_format(file)
        file.seek(0)
        if kind == "WebP" and _is_animated_webp(file.read(_HEAD_BYTES)):
            raise VideoDecodeError(source.name, "it is an animated WebP, which FFmpeg does not decode; save it as GIF")
    if kind:
        raise VideoDecodeError(source.name, f"it is a {kind} picture, a still picture, not a video")


def check_not_cover_image(name: str, *, codec: str, num_frames: int, fps: float, is_cover: bool = False) -> None:
    """Raise VideoDecodeError where the only pictures of a file are the cover of its sound.

    Args:
        name: what errors call the file.
        codec: of the stream, in FFmpeg's words.
        num_frames: that were found.
        fps: stated by the stream.
        is_cover: whether FFmpeg marks the stream as an attached picture.
    """
    if is_cover or (num_frames == 1 and codec in _IMAGE_CODECS and fps >= _COVER_MIN_FPS):
        raise VideoDecodeError(name, _COVER_REASON)


def find_still_format(file: BinaryIO) -> str | None:
    """Return the format of a still picture, None for everything else.

    Args:
        file: read from its start.
    """
    head = file.read(_HEAD_BYTES)
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in (b"\n", b" ", b"\r", b"\t"):
        return "PNM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return None if _has_track(file) else "HEIC or AVIF"
    file.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return None if _is_animated_png(file) else "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return None if _is_animated_gif(file.read(_MAX_READ_BYTES)) else "GIF"
    if head.startswith(b"\xff\xd8\xff"):
        return None if _is_jpeg_sequence(file.read(_MAX_READ_BYTES)) else "JPEG"
    return None


_BMP_HEADERS = [size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)]


def _is_animated_webp(head: bytes) -> bool:
    return head[12:16] == b"VP8X" and bool(head[20] & 2)


def _has_track(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    return any(box.kind == b"moov" for box in iterate_boxes(file, 0, size)) and not _is_raw_photo(file)


def _is_raw_photo(file: BinaryIO) -> bool:
    """Return whether the file is one of Canon's CR3, whose tracks are previews."""
    file.seek(8)
    return file.read(4) == b"crx "


def _is_animated_png(file: BinaryIO) -> bool:
    """Return whether a PNG says that it has two frames or more, which it does before its first picture."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"acTL":
            return int.from_bytes(file.read(4)) > 1
        if kind in (b"IDAT", b"IEND"):
            return False
        file.seek(length + 4, 1)
    return False


def _is_animated_gif(data: bytes) -> bool:
    """Return whether a GIF has two pictures; one that breaks off before is left to the decoders."""
    offset = 13 + _color_table_bytes(data[10:11])
    num_images = 0
    while offset < len(data) and data[offset] in b"\x21\x2c":
        if data[offset] == 0x2C:
            num_images += 1
            offset += 11 + _color_table_bytes(data[offset + 9 : offset + 10])
        else:
            offset += 2
        offset = _after_sub_blocks(data, offset)
        if num_images == 2:
            return True
    return num_images == 0 or offset >= len(data)


def _color_table_bytes(flags: bytes) -> int:
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _after_sub_blocks(data: bytes, offset: int) -> int:
    while offset < len(data) and data[offset]:
        offset += data[offset] + 1
    return offset + 1


def _is_jpeg_sequence(data: bytes) -> bool:
    """Return whether a JPEG is followed by another one, as in MJPEG.

    A file with an index of pictures (MPF: stereo pairs, gain maps of phones) is one photo all the same.
    """
    for kind, offset, length in _jpeg_segments(data):
        if kind == 0xE2 and data[offset : offset + 4] == b"MPF\0":
            return False
        if kind == 0xDA:
            end = data.find(b"\xff\xd9", offset + length)
            following = data[end + 2 :].lstrip(b"\0\xff")[:2] if end >= 0 else b""
            return following.startswith(b"\xd8")
    return True  # no picture in it: nothing that could be shown as a still one


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, place and length of each segment, up to the first scan."""
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
