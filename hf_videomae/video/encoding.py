"""Encode any video file as a small MP4 that is quick to stream and to decode.

The result is H.264 in yuv420p with even sides, rotated upright, of constant quality, in short closed groups of
pictures, without audio and metadata (phones store the location there), with the index in front. Every frame keeps its
time stamp. The program `ffmpeg` encodes, because a damaged file then cannot crash this process; PyAV is used if the
program is missing.
"""

import errno
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from . import _pyav, _torchcodec
from ._source import ResolvedSource, resolve_source
from .decode_errors import BackendFailure, VideoBackendError, VideoDecodeError
from .decoding import open_video
from .hdr import HighDynamicRange
from .segments import TIME_TOLERANCE, SegmentReader, VideoSegment

_TIME_BASE = 90_000  # Hz: exact for 24, 25, 30, 50, 60 frames/s, their NTSC variants, and milliseconds
_LUT_FILE = "hdr.cube"
_PRESET = "medium"
# The faster entropy coder, no weighted prediction: decodes faster for a tenth more bytes, at the same quality.
_FAST_DECODE_PARAMS = "cabac=0:weightp=0"
# An encoder counts as stuck after so many seconds, plus so many for each frame of the source.
_TIMEOUT_SECONDS, _TIMEOUT_SECONDS_PER_FRAME = 300.0, 1.0
# A file that makes the decoder complain and has less than this share of its stated frames counts as cut off.
_MIN_COMPLETE_SHARE = 0.9
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# Exit codes of ffmpeg when it, or its process group, was asked to stop; the file is not to blame.
_INTERRUPTED = (255, -signal.SIGINT, -signal.SIGTERM)
_TRUNCATED = re.compile(r"ended prematurely|partial file|truncat", re.IGNORECASE)
_ADDRESS = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ?")

_INSTALL_HINT = (
    "install FFmpeg with libx264 (`apt-get install ffmpeg`, `brew install ffmpeg` or `conda install ffmpeg`), or "
    "`pip install av`, whose wheels carry it"
)


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """Size, keyframes and quality of encoded videos.

    Args:
        short_side: in pixels; smaller videos are not enlarged.
        gop: frames from one keyframe to the next.
        crf: x264's constant rate factor; 18 is hardly visible, 28 is coarse.

    Raises:
        ValueError: for an invalid setting.
    """

    short_side: int = 256
    gop: int = 12
    crf: int = 23

    def __post_init__(self) -> None:
        if self.short_side < 16:
            raise ValueError(f"the short side must be 16 pixels or more, got {self.short_side}; 256 and 320 are usual")
        if self.gop < 1:
            raise ValueError(f"the distance of keyframes (gop) must be 1 frame or more, got {self.gop}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must lie in 0 (lossless) to 51, got {self.crf}; 23 is usual")

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result, both even."""
        scale = min(1.0, self.short_side / min(height, width))
        return _even(height * scale), _even(width * scale)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


@dataclass(frozen=True, kw_only=True)
class Trim:
    """The part of a video to keep.

    Args:
        start: in seconds after the first frame.
        end: likewise; None is the end of the video.

    Raises:
        ValueError: nothing lies between the two.
    """

    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if not (self.start >= 0 and (self.end is None or self.end > self.start)):
            raise ValueError(f"nothing lies between {self.start:g} and {self.end} s; give START:END with START < END")

    @property
    def edges(self) -> tuple[float, float | None]:
        """Return the times between which frames are kept, with the tolerance of `VideoSegment`."""
        return max(0.0, self.start - TIME_TOLERANCE), None if self.end is None else self.end - TIME_TOLERANCE

    @property
    def is_whole_video(self) -> bool:
        """Return whether nothing is cut."""
        return self.start == 0 and self.end is None


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """Facts about an encoded video.

    Attributes:
        num_frames: frames that decode.
        fps: nominal frame rate in 1/s.
        height, width: in pixels.
        num_bytes: size of the file.
        note: what the decoder complained about, for a source that was kept nevertheless.
        hdr: `"PQ"` or `"HLG"` for a source of high dynamic range; the result has standard range.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    num_bytes: int
    note: str = ""
    hdr: str = ""


def encode_video(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: EncodeSettings,
    trim: Trim | None = None,
    name: str | None = None,
) -> EncodedVideo:
    """Make a small MP4 of a file, on one core; the same file and settings give the same bytes.

    Args:
        source: path of the file.
        output: path of the result, written under a temporary name until it is complete.
        settings: size, keyframes and quality.
        trim: the part to keep; everything by default.
        name: the source's name in errors; its path by default.

    Raises:
        VideoDecodeError: the file cannot be decoded, breaks off, or holds nothing between the bounds of `trim`.
        VideoBackendError: this machine cannot decode or cannot encode.
        OSError: the result cannot be written.
    """
    name, trim = name or os.fspath(source), trim or Trim()
    path = os.path.abspath(source)
    try:
        with open_video(path, name=name) as reader:
            frames, (height, width) = reader.num_frames, settings.size_of(reader.height, reader.width)
            hdr = reader.hdr
            if not trim.is_whole_video:
                SegmentReader(reader, VideoSegment(path, trim.start, trim.end))  # refuses one without frames
    except VideoDecodeError as error:
        # What is recorded about a video must not hold its local path.
        raise VideoDecodeError(name, error.reason.replace(path, "the file")) from error
    job = _EncodeJob(resolve_source(path, name=name), height, width, frames, trim, settings, hdr)
    temporary = Path(f"{os.fspath(output)}.{os.getpid()}.unfinished")
    try:
        decoder_warning = _run_ffmpeg(job, temporary) if find_encoder() == "ffmpeg" else _run_pyav(job, temporary)
        encoded = _verify_result(job, temporary, decoder_warning=decoder_warning)
        os.replace(temporary, output)
    except BackendFailure as error:
        raise VideoDecodeError(name, str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return encoded


@dataclass(frozen=True)
class _EncodeJob:
    source: ResolvedSource
    height: int
    width: int
    frames: int  # of the source
    trim: Trim
    settings: EncodeSettings
    hdr: HighDynamicRange | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def path(self) -> str:
        assert isinstance(self.source.content, str)
        return self.source.content


def _verify_result(job: _EncodeJob, path: Path, *, decoder_warning: str) -> EncodedVideo:
    """Check the result with our own decoder, and describe it."""
    if not path.exists() or path.stat().st_size == 0:
        raise VideoDecodeError(job.name, decoder_warning or "no frame of it could be encoded")
    with open_video(path, name=job.name) as reader:
        num_frames, fps = reader.num_frames, reader.fps
        if (reader.height, reader.width) != (job.height, job.width):
            raise VideoDecodeError(job.name, f"encoding gave {reader.width}x{reader.height}, not the size asked for")
    if decoder_warning:
        stated = _stated_frames(job.source)
        if _TRUNCATED.search(decoder_warning) or (
            job.trim.is_whole_video and num_frames < _MIN_COMPLETE_SHARE * stated
        ):
            raise VideoDecodeError(job.name, f"it breaks off after {num_frames} frames: {decoder_warning}")
    if job.trim.is_whole_video and num_frames != job.frames:
        decoder_warning = (
            f"{job.frames} frames decode, {num_frames} could be encoded{decoder_warning and ': '}{decoder_warning}"
        )
    return EncodedVideo(
        num_frames=num_frames,
        fps=round(fps, 4),
        height=job.height,
        width=job.width,
        num_bytes=path.stat().st_size,
        note=decoder_warning,
        hdr="" if job.hdr is None else job.hdr.transfer,
    )


# The program ffmpeg.


def find_encoder() -> str:
    """Return the encoder in use, `"ffmpeg"` (the program) or `"pyav"`.

    Raises:
        VideoBackendError: there is none.
    """
    if _ffmpeg_program() is not None:
        return "ffmpeg"
    if _pyav.unavailable_reason() is None:
        import av

        if "libx264" in av.codecs_available:
            return "pyav"
    raise VideoBackendError(f"videos cannot be encoded here: {_INSTALL_HINT}")


@functools.cache
def _ffmpeg_program() -> tuple[str, str] | None:
    """Return the ffmpeg program, if it has libx264, and its option that keeps every frame's time stamp."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    command = [program, "-hide_banner"]
    try:
        encoders = subprocess.run([*command, "-encoders"], capture_output=True, stdin=subprocess.DEVNULL)
        options = subprocess.run([*command, "-h", "long"], capture_output=True, stdin=subprocess.DEVNULL)
    except OSError:  # a file of that name that does not run here
        return None
    if b" libx264 " not in encoders.stdout:
        return None
    return program, "-fps_mode" if b"-fps_mode" in options.stdout else "-vsync"


def _run_ffmpeg(job: _EncodeJob, output: Path) -> str:
    """Encode, and return what ffmpeg complained about, in one line."""
    program = _ffmpeg_program()
    assert program is not None
    timeout_seconds = _TIMEOUT_SECONDS + _TIMEOUT_SECONDS_PER_FRAME * job.frames
    try:
        with _lut_folder(job.hdr) as folder:
            done = subprocess.run(
                _command(job, output.absolute(), *program),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout_seconds,
                cwd=folder,
            )
    except subprocess.TimeoutExpired as error:
        raise VideoDecodeError(job.name, f"encoding it did not end within {timeout_seconds:.0f} s") from error
    stderr_text = (
        done.stderr.decode("utf-8", "replace")
        .replace(str(output.absolute()), "the result")
        .replace(job.path, "the file")
    )
    # An error of a full disk is not one of the video, which would then be left out.
    full = next((number for number in _DISK_ERRORS if os.strerror(number) in stderr_text), None)
    if full is None and done.returncode == -getattr(signal, "SIGXFSZ", 0):
        full = errno.EFBIG
    if full is not None:
        raise OSError(full, os.strerror(full), str(output))
    lines = [_ADDRESS.sub("", line).strip() for line in stderr_text.splitlines()]
    lines = [line for line in dict.fromkeys(lines) if line and not line.startswith("Last message repeated")]
    message = sorted(lines, key=lambda line: _TRUNCATED.search(line) is None)[0] if lines else ""
    if done.returncode in _INTERRUPTED:
        raise InterruptedError(errno.EINTR, "encoding was interrupted; run the same command to continue", job.name)
    if done.returncode:
        raise VideoDecodeError(job.name, message or f"ffmpeg ended with status {done.returncode}")
    return message[:200]


def _command(job: _EncodeJob, output: Path, program: str, timestamp_flag: str) -> list[str]:
    settings = job.settings
    kind = job.source.container
    keep_to_file = [part for name, value in kind.options.items() for part in (f"-{name}", value)]
    source = ["-f", kind.demuxer, *keep_to_file, "-threads", "1", "-i", f"file:{job.path}"]
    stream = ["-map", f"0:{_best_stream(job.source)}", "-map_metadata", "-1", "-map_chapters", "-1"]
    times = [timestamp_flag, "passthrough", "-enc_time_base", f"1:{_TIME_BASE}"]
    codec = ["-c:v", "libx264", "-preset", _PRESET, "-crf", str(settings.crf), "-bf", "2", "-threads", "1"]
    codec += ["-x264-params", _FAST_DECODE_PARAMS]
    gop = str(settings.gop)
    keys = ["-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-flags", "+cgop+bitexact"]
    box = ["-fflags", "+bitexact", "-video_track_timescale", str(_TIME_BASE), "-movflags", "+faststart", "-f", "mp4"]
    return [
        *(program, "-hide_banner", "-nostdin", "-y", "-v", "error", "-filter_threads", "1"),
        *(*source, *stream, *times, "-vf", _filters(job), *codec, *keys, *box, str(output)),
    ]


def _filters(job: _EncodeJob) -> str:
    """Return the filters. ffmpeg rotates frames by itself, before them."""
    trim = job.trim
    first, last = trim.edges
    cut = [] if trim.is_whole_video else [f"trim=start={first:.6f}" + ("" if last is None else f":end={last:.6f}")]
    zero = "setpts=PTS-STARTPTS"
    size = f"scale=w={job.width}:h={job.height}:flags=bicubic"
    range_ = [f"{size}:out_range=tv"] if job.hdr is None else [size, *_sdr_filters()]
    return ",".join([zero, *cut, *([zero] if cut else []), *range_, "setsar=1", "format=yuv420p"])


def _sdr_filters() -> list[str]:
    """Return the filters that map high dynamic range by the table in the working directory, and set the tags."""
    table = ["format=gbrp16le", f"lut3d=file={_LUT_FILE}:interp=tetrahedral"]
    tags = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    return [*table, "scale=out_color_matrix=bt709:out_range=tv", "format=yuv420p", tags]


@contextmanager
def _lut_folder(hdr: HighDynamicRange | None) -> Iterator[str | None]:
    """Yield a folder with the table that `_sdr_filters` reads; None for a video of standard range."""
    if hdr is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _LUT_FILE).write_text(hdr.to_cube_lut(), encoding="ascii")
        yield folder


def _best_stream(source: ResolvedSource) -> int:
    """Return the stream that FFmpeg calls best, which training reads too."""
    if _torchcodec.unavailable_reason() is None:
        # A file that torchcodec cannot open at all was opened by PyAV before.
        with suppress(RuntimeError, ValueError):
            return int(_torchcodec.open_decoder(source, seek_mode="approximate").stream_index)
    with _pyav.translate_ffmpeg_errors(), _pyav.open_input(source.data, source.container) as container:
        return int(_pyav.best_video_stream(container).index)


def _stated_frames(source: ResolvedSource) -> int:
    """Return how many frames the container says it has; 0 if it does not say."""
    if _torchcodec.unavailable_reason() is None:
        with suppress(RuntimeError, ValueError):
            return int(_torchcodec.open_decoder(source, seek_mode="approximate").metadata.num_frames_from_header or 0)
    return 0


# PyAV.


def _run_pyav(job: _EncodeJob, output: Path) -> str:
    import av

    settings = job.settings
    options = {"preset": _PRESET, "crf": str(settings.crf), "sc_threshold": "0", "flags": "+cgop+bitexact"}
    options |= {"keyint_min": str(settings.gop), "bf": "2", "x264-params": _FAST_DECODE_PARAMS}
    muxing = {"movflags": "+faststart", "fflags": "+bitexact", "video_track_timescale": str(_TIME_BASE)}
    try:
        with (
            _pyav.open_input(job.path, job.source.container) as container,
            av.open(str(output), "w", format="mp4", options=muxing) as made,
        ):
            source = _pyav.best_video_stream(container)
            source.codec_context.thread_count = 1
            target = made.add_stream("libx264", rate=source.guessed_rate or 25, options=options)
            target.width, target.height, target.pix_fmt = job.width, job.height, "yuv420p"
            if job.hdr is not None:
                _tag_sdr(target.codec_context)
            target.codec_context.gop_size, target.codec_context.thread_count = settings.gop, 1
            target.codec_context.time_base = target.time_base = Fraction(1, _TIME_BASE)
            for frame in _resized_frames(job, container.decode(source), rate=source.guessed_rate or 25):
                made.mux(target.encode(frame))
            made.mux(target.encode())
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise
        # PyAV's errors are subclasses of OSError or ValueError, by their number.
        raise VideoDecodeError(job.name, error.strerror or str(error)) from error
    except (BackendFailure, ValueError) as error:
        raise VideoDecodeError(job.name, str(error)) from error
    return ""


def _resized_frames(job: _EncodeJob, frames: Iterable[Any], *, rate: Fraction | int) -> Iterable[Any]:
    """Yield every frame to keep: small, upright, its time counted from the first."""
    first: float | None = None
    last, step, rotate = -1, max(1, round(_TIME_BASE / rate)), None
    for number, frame in enumerate(frames):
        time = frame.time if frame.time is not None else number / float(rate)
        first = time if first is None else first
        if time - first < job.trim.edges[0]:
            continue
        if job.trim.edges[1] is not None and time - first >= job.trim.edges[1]:
            return
        rotate = rotate or _Rotate(job, quarter_turns=round(frame.rotation / 90) % 4)
        ticks = max(0, round((time - first - job.trim.start) * _TIME_BASE))
        last = ticks if ticks > last else last + step
        resized = rotate(frame)
        resized.pts, resized.time_base, resized.pict_type = last, Fraction(1, _TIME_BASE), 0
        yield resized


def _tag_sdr(codec_context: Any) -> None:
    """State BT.709 and limited range, by the numbers of ISO/IEC 23091-2."""
    codec_context.color_primaries = codec_context.color_trc = codec_context.colorspace = codec_context.color_range = 1


def _tone_map_frame(frame: Any, hdr: HighDynamicRange) -> Any:
    """Map a frame of 16-bit RGB to one of 8 bits, yuv420p with BT.709's matrix."""
    import av
    import torch

    signal = torch.from_numpy(frame.to_ndarray().astype("float32") / 65535)
    rgb = (hdr.to_sdr(signal) * 255).round().to(torch.uint8).numpy()
    mapped = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    return mapped.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


class _Rotate:
    """Shrink a frame, then rotate it counter-clockwise by quarter turns."""

    _FILTERS = {1: ("transpose=cclock",), 2: ("hflip", "vflip"), 3: ("transpose=clock",)}

    def __init__(self, job: _EncodeJob, *, quarter_turns: int) -> None:
        import av

        self.hdr = job.hdr
        self.size = (job.height, job.width) if quarter_turns % 2 == 0 else (job.width, job.height)
        self.graph = None
        if quarter_turns:
            self.graph = av.filter.Graph()
            height, width = self.size
            links = [self.graph.add_buffer(width=width, height=height, format="yuv420p", time_base=Fraction(1, 1000))]
            for text in self._FILTERS[quarter_turns]:
                links.append(self.graph.add(*text.split("=")))
            self.graph.link_nodes(*links, self.graph.add("buffersink")).configure()

    def __call__(self, frame: Any) -> Any:
        height, width = self.size
        size = {"width": width, "height": height, "interpolation": "BICUBIC"}
        if self.hdr is None:
            resized = frame.reformat(**size, format="yuv420p", dst_color_range="MPEG")
        else:
            resized = _tone_map_frame(frame.reformat(**size, format="rgb48le"), self.hdr)
        if self.graph is None:
            return resized
        self.graph.push(resized)
        return self.graph.pull()
