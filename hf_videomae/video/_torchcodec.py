"""Decode videos through torchcodec: by index if the index proves right, else in decoding order.

torchcodec finds frame i by the i-th smallest time stamp among the packets. That is wrong whenever packets and frames
differ: packed B-frames in AVI (most packets have no time stamp), edit lists, hidden VP8 frames. It then returns
neighbors, repeats, or fails at the tail, in both of its seek modes ("approximate" also errs on files that "exact"
reads well). In MPEG streams it seeks to places from which frames come out damaged. So the file is opened in exact
mode, whose scan of the packets takes a few milliseconds for a short clip. The index is used only if it saves time, in
containers with an index, and if its first and last frame agree with the scan. Decoding the last frame takes up to a
whole group of pictures, so this check is skipped for a complete MP4 of H.264 whose table lists as many frames as the
scan. In all other files frames are numbered in decoding order, as every player does.
"""

import functools
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from . import _pyav, limits, timestamps
from ._frame_cache import FrameCache
from ._source import ResolvedSource
from ._still_images import check_not_cover_image
from ._torchcodec_errors import parse_load_errors, summarize_load_error
from .decode_errors import BackendFailure, VideoBackendError, VideoDecodeError
from .hdr import HighDynamicRange

if TYPE_CHECKING:
    from torchcodec._core._metadata import VideoStreamMetadata
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import DecoderTransform

# Pixel formats that come out black or inverted: the palette is lost on the way to RGB.
_MISREAD_FORMATS = frozenset({"pal8"})
_MISREAD = "it reads the pixel format {} wrongly; PyAV reads it (`pip install av`)"
# Codecs whose 8-bit 4:2:0 of full range has a pixel format of its own (yuvj420p).
_RANGE_IN_FORMAT = frozenset({"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "vp8", "theora"})
_PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p"})
# Up to here decoding every frame is faster than checking the index and seeking ...
_MAX_SEQUENTIAL_BYTES = 16 * 2**20
# ... and up to here it is faster than seeking even if the index needs no check.
_ALWAYS_SEQUENTIAL_BYTES = 2**20
_NOT_LOADED = "Could not load libtorchcodec"
_MAX_CAUSES = 10  # of one error
# "NameOfFunction, /build/path/File.cpp:80, the message"
_CPP_PREFIX = re.compile(r"^\w+, \S+:\d+, ")


@functools.cache
def unavailable_reason() -> str | None:
    """Return why torchcodec cannot be used on this machine, or None.

    From 0.16 on it is imported without FFmpeg, too, for its image decoders, and raises at the first use of a video: so
    one operation that needs FFmpeg is called. Kept, as Python retries a failed import every time.
    """
    try:
        from torchcodec._core import get_ffmpeg_library_versions, get_next_frame  # noqa: F401

        get_ffmpeg_library_versions()
    except (ImportError, OSError, RuntimeError) as error:
        return summarize_load_error(_root_message(error)) or type(error).__name__
    return None


def _root_message(error: BaseException) -> str:
    """Return the message of torchcodec's loader, or of the library loader, from anywhere in the chain of causes."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < _MAX_CAUSES:
        chain.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    reports = [message for message in chain if parse_load_errors(message)]
    if reports:
        return reports[0]
    # torch says which library it could not load; the loader itself, why.
    return chain[-1] if _NOT_LOADED in chain[0] or chain[0].startswith("Could not load this library") else chain[0]


def open_decoder(source: ResolvedSource, **options: Any) -> "VideoDecoder":
    """Open a file of a supported container; `options` are those of torchcodec's `VideoDecoder`."""
    from torchcodec.decoders import VideoDecoder

    source.validate_container()  # FFmpeg alone would open the files that a playlist names
    return VideoDecoder(_decoder_input(source), **options)


def _decoder_input(source: ResolvedSource) -> str | bytes | BinaryIO:
    """Return what torchcodec opens.

    It takes paths in UTF-8 alone, and FFmpeg reads some names as patterns of others; such files are opened for it.
    """
    data = source.data
    if source.has_ffmpeg_pattern:
        return source.open()
    if isinstance(data, str) and not data.isascii():
        try:
            data.encode("utf-8")
        except UnicodeEncodeError:
            return source.open()
    return data


class TorchcodecVideo:
    """An open video. `frames` takes indices below `num_frames`. Not to be shared with a forked process."""

    name = "torchcodec"

    def __init__(self, source: ResolvedSource, *, num_threads: int) -> None:
        self._source = source
        self._num_threads = num_threads
        self._seeking_decoder: VideoDecoder | None = None
        self._frame_cache: FrameCache[torch.Tensor] | None = None
        self._unread_decoder: VideoDecoder | None = None
        self._transforms: Sequence[DecoderTransform] | None = None  # not known yet
        with _translate_decoder_errors():
            decoder = self._unread_decoder = self._open()
            metadata = decoder.metadata
            self.size = self.coded_size = int(metadata.height or 0), int(metadata.width or 0)
            limits.check_frame_size(*self.size)
            limits.check_frame_count(len(decoder))
            self.fps = float(metadata.average_fps_from_header or metadata.average_fps or 0.0)
            check_not_cover_image(source.name, codec=metadata.codec or "", num_frames=len(decoder), fps=self.fps)
            self.hdr = HighDynamicRange.from_tags(metadata.color_transfer_characteristic, metadata.color_primaries)
            if metadata.pixel_format in _MISREAD_FORMATS:
                raise BackendFailure(_MISREAD.format(metadata.pixel_format))
            if self._is_index_reliable(decoder):
                self._seeking_decoder, self.num_frames = decoder, len(decoder)
            else:
                self._decode_sequentially()

    def frames(self, indices: Sequence[int]) -> torch.Tensor:
        """Return `(len(indices), 3, H, W)` uint8. `num_frames` may shrink meanwhile, if the index proves wrong."""
        with _translate_decoder_errors():
            if self._seeking_decoder is not None:
                by_index = _frames_by_index(self._seeking_decoder, indices)
                if by_index is not None:
                    return by_index
                self._decode_sequentially()
            assert self._frame_cache is not None
            picked = self._frame_cache.get_frames([min(index, self.num_frames - 1) for index in indices])
            # Stacked as (T, H, W, C) and viewed as (T, C, H, W): 4 times cheaper, and resizing is faster.
            return torch.stack(picked).permute(0, 3, 1, 2)

    def raw_times(self) -> "array[float]":
        """Return the time stamp of every frame in seconds, NaN for missing ones; decodes only as the last resort.

        torchcodec has these numbers in its index but does not expose them.
        """
        if self._frame_cache is not None:
            return self._frame_cache.times
        times = _pyav.read_packet_times(self._source) if _pyav.unavailable_reason() is None else None
        if times is None or len(times) != self.num_frames:
            with _translate_decoder_errors():
                times = timestamps.time_array(
                    time for _, time in limits.iterate_until_deadline(self._decode_in_order())
                )
        if len(times) != self.num_frames:
            raise BackendFailure("its index lists another number of frames than can be decoded")
        return times

    def duration(self) -> float:
        """Return the seconds from the first to the last frame; of an index without reading the file again."""
        if self._frame_cache is not None:
            return timestamps.last_frame_time(self._frame_cache.times, fps=self.fps)
        assert self._seeking_decoder is not None
        metadata = self._seeking_decoder.metadata
        begin, end = metadata.begin_stream_seconds, metadata.end_stream_seconds
        if begin is None or end is None:
            return math.nan
        return (end - begin) * (self.num_frames - 1) / self.num_frames

    def close(self) -> None:
        self._seeking_decoder = self._frame_cache = self._unread_decoder = None

    def _open(self) -> "VideoDecoder":
        if self._transforms is None:
            decoder = self._open_with([])
            self._transforms = _range_keeping_transforms(decoder.metadata)
            if not self._transforms:
                return decoder
        return self._open_with(self._transforms)

    def _open_with(self, transforms: "Sequence[DecoderTransform]") -> "VideoDecoder":
        return open_decoder(
            self._source,
            dimension_order="NHWC",
            num_ffmpeg_threads=self._num_threads,
            device="cpu",
            seek_mode="exact",
            **({"transforms": transforms} if transforms else {}),
        )

    def _is_index_reliable(self, decoder: "VideoDecoder") -> bool:
        """Return whether the index is worth using, and its first and last frame agree with the packet scan."""
        metadata = decoder.metadata
        size = len(decoder) * math.prod(self.size) * 3
        if size <= _ALWAYS_SEQUENTIAL_BYTES or metadata.codec == "vp8" or not self._source.is_seekable:
            return False
        is_table_trusted = self._is_table_complete(decoder)
        if size <= _MAX_SEQUENTIAL_BYTES and not is_table_trusted:
            return False
        self._unread_decoder = None
        half_frame = 0.5 / (metadata.average_fps or 1.0)
        try:
            first = decoder.get_frame_at(0)
            if abs(first.pts_seconds - (metadata.begin_stream_seconds or 0.0)) >= half_frame:
                return False
            if is_table_trusted:
                return True
            last = decoder.get_frame_at(len(decoder) - 1)
        except (RuntimeError, IndexError):
            return False
        return abs(last.pts_seconds + last.duration_seconds - (metadata.end_stream_seconds or 0.0)) < half_frame

    def _is_table_complete(self, decoder: "VideoDecoder") -> bool:
        """Return whether an MP4's own table agrees with the scan, so that no frame is hidden or cut off."""
        metadata = decoder.metadata
        same = metadata.num_frames_from_header == metadata.num_frames_from_content == len(decoder)
        return same and metadata.codec == "h264" and self._source.is_complete_mp4()

    def _decode_sequentially(self) -> None:
        self._seeking_decoder = None
        self._frame_cache = FrameCache(self._decode_in_order, nbytes=lambda frame: frame.nbytes)
        self.num_frames = self._frame_cache.num_frames
        if self.num_frames == 0:
            raise BackendFailure("no frame of it can be decoded")

    def _decode_in_order(self) -> Iterator[tuple[torch.Tensor, float | None]]:
        """Yield every frame `(H, W, C)` as it is decoded. Only this private operation neither seeks nor drops."""
        from torchcodec._core import get_next_frame

        decoder, self._unread_decoder = self._unread_decoder or self._open(), None
        while True:
            try:
                frame, time, _ = get_next_frame(decoder._decoder)
            except IndexError:  # no more frames; a broken packet is a RuntimeError
                return
            limits.check_frame_size(*frame.shape[:2])  # it may change within the video
            yield frame, float(time)


def _range_keeping_transforms(metadata: "VideoStreamMetadata") -> "Sequence[DecoderTransform]":
    """Return transforms that change no pixels, but make torchcodec respect their range when it would be lost.

    For widths that 32 divides torchcodec calls swscale itself and takes every frame for one of limited range, unless
    its pixel format says otherwise. With a crop to the whole frame it goes through FFmpeg's filters, as for all other
    widths. The pixels of videos of limited range are the same to the bit.
    """
    from torchcodec.transforms import CenterCrop

    is_plain = metadata.pixel_format in _PLAIN_FORMATS and metadata.codec in _RANGE_IN_FORMAT
    if is_plain or not metadata.width or not metadata.height or metadata.width % 32:
        return []
    return [CenterCrop((metadata.height, metadata.width))]


def _frames_by_index(decoder: "VideoDecoder", indices: Sequence[int]) -> torch.Tensor | None:
    """Return frames by seeking each once; None if that fails, or if two indices lead to the same frame."""
    distinct = sorted(set(indices))
    # A single call cannot be interrupted.
    step = 1 if limits.has_deadline() else len(distinct)
    starts = limits.iterate_until_deadline(range(0, len(distinct), step))
    try:
        batches = [decoder.get_frames_at(distinct[start : start + step]) for start in starts]
    except (RuntimeError, IndexError):
        return None
    shown = torch.cat([batch.pts_seconds for batch in batches])
    if len(distinct) > 1 and not bool((shown.diff() > 0).all()):
        return None
    frames = batches[0].data if len(batches) == 1 else torch.cat([batch.data for batch in batches])
    if distinct != list(indices):
        position_of = {index: position for position, index in enumerate(distinct)}
        frames = frames[[position_of[index] for index in indices]]
    return frames.permute(0, 3, 1, 2)


@contextmanager
def _translate_decoder_errors() -> Iterator[None]:
    try:
        yield
    except VideoDecodeError:  # a ValueError: reading a remote file failed
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        if _NOT_LOADED in str(error):
            raise VideoBackendError(
                f"torchcodec cannot be loaded: {summarize_load_error(_root_message(error))}"
            ) from error
        raise BackendFailure(_short_reason(str(error))) from error


def _short_reason(message: str) -> str:
    if "best video stream is unknown" in message:
        return "there is no video stream in it"
    if "stack expects each tensor to be equal size" in message:
        return "the frame size changes on the way"
    lines = _CPP_PREFIX.sub("", message).strip().splitlines()
    return lines[0].strip() if lines else "it cannot be decoded"
