"""Tell still images from videos by the bytes of the file, before any decoder sees it.

FFmpeg reads nearly every image format as a video of one frame. Animated images are videos: GIF and PNG with several
frames, AVIF and HEIC with a track, JPEG images one after the other (MJPEG).
"""

from typing import BinaryIO

from ._mp4 import iterate_boxes
from ._source import ResolvedSource
from .containers import is_animated_png, is_jpeg_sequence
from .decode_errors import VideoDecodeError

# Enough for every signature below.
_HEAD_BYTES = 64
_COVER_REASON = "it is sound with a cover picture: there is no video in it"
# FFmpeg returns a cover image as a stream of one frame that lasts one tick of its clock, 1/90000 s or 1/1000 s.
_COVER_MIN_FPS = 1000
# Bytes of a JPEG or GIF that are searched for a second image.
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
    """Raise VideoDecodeError for a still image, also one of several pages."""
    with source.open() as file:
        kind = find_still_format(file)
        file.seek(0)
        if kind == "WebP" and _is_animated_webp(file.read(_HEAD_BYTES)):
            raise VideoDecodeError(source.name, "it is an animated WebP, which FFmpeg does not decode; save it as GIF")
    if kind:
        raise VideoDecodeError(source.name, f"it is a {kind} picture, a still picture, not a video")


def check_not_cover_image(name: str, *, codec: str, num_frames: int, fps: float, is_cover: bool = False) -> None:
    """Raise VideoDecodeError if the only image of a file is the cover of its sound.

    Args:
        name: the file's name in errors.
        codec: FFmpeg's name of the stream's codec.
        num_frames: the number of frames decoded.
        fps: stated by the stream.
        is_cover: whether FFmpeg marks the stream as an attached picture.
    """
    if is_cover or (num_frames == 1 and codec in _IMAGE_CODECS and fps >= _COVER_MIN_FPS):
        raise VideoDecodeError(name, _COVER_REASON)


def find_still_format(file: BinaryIO) -> str | None:
    """Return the format of a still image, None for everything else.

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
        return None if is_animated_png(file) else "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return None if _is_animated_gif(file.read(_MAX_READ_BYTES)) else "GIF"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG" if is_jpeg_sequence(file.read(_MAX_READ_BYTES)) is False else None
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


def _is_animated_gif(data: bytes) -> bool:
    """Return whether a GIF has two images; one that is cut off before is left to the decoders."""
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
