"""Order time stamps of frames, and turn them into frame rates and frame indices. All times are in seconds.

N is the number of frames of a video. Times count from the first frame, which is at 0.0.
"""

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .decode_errors import UnknownFrameRateError

Indices = TypeVar("Indices")

# Larger numbers of seconds are no times: FFmpeg's "no time stamp" reads as -3.7e17.
_MAX_SECONDS = 1e12
# Nanoseconds, so that decoders which calculate in other steps give the same number.
_DECIMALS = 9
# A stated frame rate is believed unless the time stamps differ by more than this share, and by more than one frame.
_RATE_TOLERANCE = 0.1
# The highest frame rate that a video of one frame is believed to have; 1000 is the clock of WebM.
_MAX_RATE_OF_ONE_FRAME = 960.0
# At such rates, a whole video shorter than the distance of two frames of a clip has wrong time stamps.
_SUSPICIOUS_RATE = 1000.0


def time_array(times: Iterable[float | None] = ()) -> "array[float]":
    """Return times as an array of doubles, NaN for missing ones."""
    return array("d", (math.nan if time is None or abs(time) > _MAX_SECONDS else time for time in times))


def presentation_times(raw: "array[float]", *, fps: float) -> Tensor:
    """Return the time of every frame in seconds after the first frame, never falling.

    Frames without a time stamp are put between their neighbors, or one usual step after the last known one. A clock
    that jumps back (joined files) continues by one usual step. Example: 0.0, 0.1, NaN, 0.3, 0.0, 0.1 become 0.0, 0.1,
    0.2, 0.3, 0.4, 0.5.

    Args:
        raw: time stamps in the order in which frames are shown, NaN for missing ones.
        fps: stated frame rate, used if the time stamps do not tell the usual step; 0 if unknown.

    Returns:
        (N,) float64, in whole nanoseconds.

    Raises:
        UnknownFrameRateError: neither the time stamps nor `fps` say when the frames are shown.
    """
    times = torch.frombuffer(raw, dtype=torch.float64).clone() if raw else torch.empty(0, dtype=torch.float64)
    if len(times) < 2:
        return torch.zeros(len(times), dtype=torch.float64)
    steps = times.diff()
    forward = steps[steps > 0]
    if len(forward):
        times = _interpolate_missing(times, typical_step := float(forward.median()))
        steps = times.diff()
        if bool((steps < 0).any()):
            times = torch.cat((times.new_zeros(1), torch.where(steps < 0, typical_step, steps).cumsum(0)))
        return (times - times[0]).round(decimals=_DECIMALS)
    if not 0 < fps < math.inf:
        raise UnknownFrameRateError("neither time stamps nor a frame rate say when its frames are shown")
    return (torch.arange(len(times), dtype=torch.float64) / fps).round(decimals=_DECIMALS)


def choose_monotonic_times(shown: "array[float]", decoded: "array[float]") -> "array[float]":
    """Return the presentation times, or the decoding times if these run backwards less often.

    AVI has no presentation times. FFmpeg makes them up, in a wrong order if packets hold two frames (packed B-frames).
    """
    return decoded if _count_non_monotonic(decoded) < _count_non_monotonic(shown) else shown


def _count_non_monotonic(raw: "array[float]") -> int:
    times = torch.frombuffer(raw, dtype=torch.float64) if raw else torch.empty(0)
    known = times[~times.isnan()]
    return len(times) - len(known) + int((known.diff() <= 0).sum())


def _interpolate_missing(times: Tensor, typical_step: float) -> Tensor:
    """Replace NaN between known times by a straight line, before and after them by the usual step."""
    known = (~times.isnan()).nonzero().flatten()
    if len(known) == len(times):
        return times
    places = torch.arange(len(times), dtype=torch.float64)
    before = torch.searchsorted(known, torch.arange(len(times)), right=True) - 1
    left, right = known[before.clamp(min=0)], known[(before + 1).clamp(max=len(known) - 1)]
    is_between = (before >= 0) & (before + 1 < len(known))
    slope = torch.where(is_between, (times[right] - times[left]) / (right - left).clamp(min=1), typical_step)
    return torch.where(times.isnan(), times[left] + (places - left) * slope, times)


def estimate_fps(*, stated: float, num_frames: int, duration: float) -> float:
    """Return the stated frame rate, or the measured one, `(num_frames - 1) / duration`, if they differ widely.

    Browsers write WebM files that read as 1000 frames per second, and GIF states the finest step of its clock.

    Args:
        stated: frame rate in the container; 0 if it does not say.
        num_frames: frames of the video.
        duration: seconds from the first to the last frame; NaN if it is not known.

    Returns:
        frames per second; 0.0 if it is not known.
    """
    stated = stated if 0 < stated < math.inf else 0.0
    if num_frames < 2:
        return stated if stated <= _MAX_RATE_OF_ONE_FRAME else 0.0
    if not 0 < duration < math.inf:
        return stated
    expected = (num_frames - 1) / stated if stated else math.inf
    is_wide = (
        abs(duration - expected) > max(_RATE_TOLERANCE * expected, expected / (num_frames - 1)) if stated else True
    )
    return (num_frames - 1) / duration if is_wide else stated


def last_frame_time(raw: "array[float]", *, fps: float) -> float:
    """Return the time of the last frame by `presentation_times`; NaN if it is not known."""
    try:
        return float(presentation_times(raw, fps=fps)[-1])
    except UnknownFrameRateError:
        return math.nan


# Indices by time


class TimedVideo(Protocol):
    """A video with a known display time for each frame."""

    @property
    def num_frames(self) -> int: ...

    @property
    def fps(self) -> float: ...

    @property
    def timestamps(self) -> Tensor: ...


def has_constant_rate(times: Tensor, *, fps: float) -> bool:
    """Return whether every frame is shown less than half a frame away from its place at this rate."""
    even = torch.arange(len(times), dtype=torch.float64) / fps
    return bool(((times - even).abs() <= 0.5 / fps).all())


def resolve_frame_indices(
    video: TimedVideo,
    index_fn: Callable[[int, float], Indices],
    *,
    frame_seconds: float | None = None,
    first: int | None = None,
) -> Indices:
    """Return `index_fn(num_frames, fps)`; for sampling in seconds at an uneven frame rate, the nearest frames.

    An uneven video is sampled as if it had a frame every `frame_seconds / k` seconds, with k chosen so that this is
    close to its own frame rate; each index becomes the frame that is shown nearest to its time. Worked example: frames
    at 0, 0.1, 0.5 and 0.9 s, `frame_seconds=0.25`. `index_fn` sees 4 frames at 4 per second, at 0, 0.25, 0.5 and 0.75
    s; they are read as frames 0, 1, 2 and 3.

    Args:
        video: an open video.
        index_fn: gives frame numbers, also in nested lists.
        frame_seconds: seconds between frames that `index_fn` keeps; None if it counts in frames.
        first: sample from the first so many frames only.

    Raises:
        UnknownFrameRateError: sampling counts in seconds, and the frame rate is not known, or the time stamps squeeze
            the whole video between two frames of a clip.
    """
    num_frames, fps = min(video.num_frames, first or video.num_frames), video.fps
    if frame_seconds is None or (not fps and num_frames > 1):
        return index_fn(num_frames, fps)
    if num_frames == 1:
        return index_fn(1, fps or 1 / frame_seconds)
    times = video.timestamps[:num_frames]
    if fps >= _SUSPICIOUS_RATE and float(times[-1]) < frame_seconds:
        raise UnknownFrameRateError(
            f"its {num_frames} frames last {float(times[-1]):.3g} s by their time stamps ({fps:.6g} per second), less "
            f"than frame_seconds={frame_seconds:g}: rewrite it at its real rate, or give a stride in frames"
        )
    if has_constant_rate(times, fps=fps):
        return index_fn(num_frames, fps)
    rate = max(1, round(frame_seconds * fps)) / frame_seconds
    total = int(float(times[-1]) * rate + 1e-6) + 1
    nested: Indices = _map_nested(index_fn(total, rate), lambda index: nearest_frame(times, index / rate))
    return nested


def frame_times(video: TimedVideo, frames: Tensor) -> Tensor:
    """Return when frames are shown, in seconds after the first frame: float64, of the shape of `frames`.

    At a constant rate this is `frames / fps`.
    """
    times, fps = video.timestamps, video.fps
    if fps and has_constant_rate(times, fps=fps):
        return frames.double() / fps
    return times[frames]


def window_seconds(video: TimedVideo, windows: Tensor) -> Tensor:
    """Return where each window (W, T) of frames begins and ends, (W, 2) float64 in seconds.

    A window ends when the frame after its last one is shown, or one usual step after the last frame of the video.
    """
    times, fps = video.timestamps, video.fps
    ends = torch.cat((times[1:], times[-1:] + (1 / fps if fps else 0.0)))
    if fps and has_constant_rate(times, fps=fps):
        return torch.stack((windows[:, 0], windows[:, -1] + 1), dim=1).double() / fps
    return torch.stack((times[windows[:, 0]], ends[windows[:, -1]]), dim=1)


def nearest_frame(times: Tensor, time: float) -> int:
    """Return the frame that is shown nearest to a time; the earlier of two."""
    after = min(int(torch.searchsorted(times, time)), len(times) - 1)
    before = max(after - 1, 0)
    return after if float(times[after]) - time < time - float(times[before]) else before


def _map_nested(nested: Any, change: Callable[[int], int]) -> Any:
    if isinstance(nested, Sequence):
        return [_map_nested(part, change) for part in nested]
    return change(int(nested))
