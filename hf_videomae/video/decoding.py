"""Decode a video file, URL or bytes to the frames that a player shows.

torchcodec decodes first. If it gives up on a file, PyAV is tried, if installed; if both fail, the `VideoDecodeError`
holds both reasons. PyAV goes first for files that it decodes to the same numbers in less time: 8-bit H.264 in MP4, MOV
or Matroska (`_h264_skip`), and AVI, which has no index. Of a long H.264 file in MP4 or MOV, or a large one behind a
URL, it reads only the packets needed (`_mp4_index`); any other such file is scanned, or downloaded whole. If neither
decoder can be loaded on this machine, that is a `VideoBackendError`, whatever the file.

The number of frames is the number that can be decoded, never the one the container states. Rotation and edit lists are
applied, pixel aspect ratios are not. Of several video streams FFmpeg's best one is read.

A file larger than `limits` allow (pixels of a frame, frames of a video, bytes asked for at once) is a
`VideoDecodeError` before it takes the memory; so is one that takes longer than a server allows.

No decoder outlives its reader, none is kept between calls, and a forked process opens the file of its reader again.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import overload

import torch

from . import _pyav, _torchcodec
from ._source import VideoSource, resolve_source
from .decode_errors import VideoBackendError, VideoDecodeError
from .reader import VideoReader, count_fallbacks
from .segments import SegmentReader, VideoSegment

__all__ = [
    "VideoBackendError",
    "VideoDecodeError",
    "VideoReader",
    "VideoSource",
    "check_backends",
    "decode_clip",
    "count_fallbacks",
    "open_video",
]

logger = logging.getLogger(__name__)

BACKENDS = ("torchcodec", "pyav")

_INSTALL_HINT = (
    "Install FFmpeg's libraries (`apt-get install ffmpeg`, `brew install ffmpeg` or `conda install ffmpeg`) and a "
    "torchcodec that matches your torch, or `pip install av`, whose wheels carry their own FFmpeg. "
    "`hf-videomae doctor` says which."
)

# Warnings that this process has logged.
_warned: set[str] = set()


@overload
def open_video(
    source: VideoSource, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> VideoReader: ...


@overload
def open_video(
    source: VideoSegment, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> SegmentReader: ...


@overload
def open_video(
    source: VideoSource | VideoSegment, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> VideoReader | SegmentReader: ...


def open_video(
    source: VideoSource | VideoSegment, *, name: str | None = None, backend: str = "auto", num_threads: int = 1
) -> VideoReader | SegmentReader:
    """Open a video.

    Args:
        source: a path, an http(s) or fsspec URL (`hf://datasets/...`; read whole, or in parts if it is large), the
            bytes of a file, or a binary file object (read whole, from its position); or a `VideoSegment` of one.
        name: name in errors of a source that has none of its own, such as bytes.
        backend: `"auto"` (torchcodec, then PyAV; PyAV first if it is faster), `"torchcodec"` or `"pyav"`.
        num_threads: decoding threads; 1 is best with several loader workers, 0 lets FFmpeg choose.

    Raises:
        VideoDecodeError: the file is missing, empty, not a video, damaged, or larger than `limits` allow.
        VideoBackendError: no decoder can be used on this machine.
        ValueError: an argument is invalid.
    """
    if num_threads < 0:
        raise ValueError(f"num_threads must be 0 (FFmpeg chooses) or more, got {num_threads}")
    backends = _available_backends(backend)
    if not isinstance(source, VideoSegment):
        return VideoReader(resolve_source(source, name=name), backends=backends, num_threads=num_threads)
    reader = VideoReader(resolve_source(source.video, name=name), backends=backends, num_threads=num_threads)
    with ExitStack() as on_error:
        on_error.callback(reader.close)
        opened = SegmentReader(reader, source)
        on_error.pop_all()
    return opened


def decode_clip(
    source: VideoSource | VideoSegment,
    index_fn: Callable[[int, float], Sequence[int]],
    *,
    frame_seconds: float | None = None,
    name: str | None = None,
    backend: str = "auto",
    num_threads: int = 1,
) -> torch.Tensor:
    """Open a video, ask `index_fn(num_frames, fps)` for frame indices, and return those frames.

    If decoding shows that the file has fewer frames than its index says, `index_fn` is asked again. `frame_seconds` is
    for index functions that count in seconds: see `VideoReader.sample_indices`.

    Returns:
        `(len(index_fn(...)), 3, H, W)` uint8 RGB, as from `VideoReader.frames`. Raises as `open_video` does.
    """
    with open_video(source, name=name, backend=backend, num_threads=num_threads) as reader:
        while True:
            sampled_from = reader.num_frames
            frames = reader.frames(reader.sample_indices(index_fn, frame_seconds=frame_seconds))
            if reader.num_frames == sampled_from:
                return frames


def check_backends(backends: Sequence[str] = BACKENDS) -> dict[str, str | None]:
    """Return for each decoder why it cannot be used on this machine, or None if it can. Loads only these."""
    return {name: (_torchcodec if name == "torchcodec" else _pyav).unavailable_reason() for name in backends}


def _available_backends(backend: str) -> list[str]:
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend must be one of 'auto', 'torchcodec', 'pyav', got {backend!r}")
    asked = BACKENDS if backend == "auto" else (backend,)
    status = check_backends(asked)
    usable = [name for name in asked if status[name] is None]
    if not usable:
        reasons = "; ".join(f"{name}: {status[name]}" for name in asked)
        raise VideoBackendError(f"no video decoder can be loaded here ({reasons}). {_INSTALL_HINT}")
    if usable[0] != asked[0]:
        _warn_once(f"{asked[0]} cannot be loaded ({status[asked[0]]}); videos are decoded with {usable[0]}")
    return usable


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        logger.warning(message)
