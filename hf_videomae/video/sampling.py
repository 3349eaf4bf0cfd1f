"""Choose which frames of a video make a clip: the index tables of the paper's code, as pure functions.

Two families (paper, section 4 and appendix; the exact tables are those of the published code):

- dense: `num_frames` frames over a window of `num_frames * stride`. Pre-training steps exactly `stride` frames;
  fine-tuning spreads the frames evenly over the window *including its end*, so that 16 frames at stride 4 lie at 0, 4,
  8, 12, 17, 21, ... 59, 63; testing takes every `stride`-th frame and cuts views out of that list.
- uniform (TSN): one frame from each of `num_frames` equal segments of the whole video. Used to fine-tune and test on
  Something-Something V2 (whose pre-training is dense, stride 2).

Frame rates play no part in the tables; if a sampler counts in seconds (`frame_seconds`, for sets of mixed rates), each
video's rate gives the stride in whole frames. `total` is the number of frames that can be decoded; every index
returned lies in [0, total). Randomness comes from a `torch.Generator` (None: torch's global one).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

import torch

from .decode_errors import UnknownFrameRateError

ClipMode = Literal["dense", "uniform"]


@dataclass(frozen=True, kw_only=True)
class ClipSampler:
    """Sample the frame indices of clips from a video.

    Args:
        num_frames: frames per clip.
        stride: distance of neighboring frames of a dense clip; unused in `"uniform"`.
        mode: `"dense"` or `"uniform"`.
        views: temporal views in a test (5 on Kinetics, 2 on Something-Something V2).
        frame_seconds: distance of neighboring frames of a dense clip in seconds; it replaces `stride`.
    """

    num_frames: int = 16
    stride: int = 4
    mode: ClipMode = "dense"
    views: int = 1
    frame_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_frames", "stride", "views"):
            _check_positive(name, getattr(self, name))
        if self.mode not in get_args(ClipMode):
            raise ValueError(f"mode must be 'dense' or 'uniform', got {self.mode!r}")
        check_frame_seconds(self.frame_seconds)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the sampler that `to_dict` wrote. Unknown keys are refused."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"a clip plan has no {', '.join(unknown)}; its fields are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, int | float | str | None]:
        """Return plain values, for JSON."""
        return asdict(self)

    def with_overrides(
        self, *, mode: ClipMode | None = None, stride: int | None = None, frame_seconds: float | None = None
    ) -> Self:
        """Return the sampler with the given values instead of its own; a stride in frames replaces one in seconds.

        Raises:
            ValueError: for two distances of frames at once, or one with `mode="uniform"`, which has none.
        """
        requested = {"stride": stride, "frame_seconds": frame_seconds}
        given = [f"{name}={value}" for name, value in requested.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same thing, the distance of frames; give one of them")
        if given and (mode or self.mode) == "uniform":
            own = " of the model" if mode is None else ""
            raise ValueError(
                f"{given[0]} and uniform sampling{own}, which takes frames of the whole video; leave it out, or "
                "sample dense clips (--sampling dense)"
            )
        seconds = frame_seconds if stride is not None or frame_seconds is not None else self.frame_seconds
        return replace(self, mode=mode or self.mode, stride=stride or self.stride, frame_seconds=seconds)

    def stride_at_fps(self, fps: float) -> int:
        """Return the distance of a dense clip's frames, in frames of a video of this rate.

        Args:
            fps: frames per second; 0 if it is not known.

        Raises:
            UnknownFrameRateError: the sampler counts in seconds and the rate is not known.
        """
        return stride_at_fps(fps, stride=self.stride, frame_seconds=self.frame_seconds)

    @property
    def stride_seconds(self) -> float | None:
        """Return the distance of frames in seconds; None if it counts in frames."""
        return self.frame_seconds if self.mode == "dense" else None

    def train_indices(self, total: int, fps: float = 0.0, *, generator: torch.Generator | None = None) -> list[int]:
        """Draw one random clip for fine-tuning; `fps` is needed if the sampler counts in seconds."""
        if self.mode == "uniform":
            return uniform_train_indices(total, num_frames=self.num_frames, generator=generator)
        stride = self.stride_at_fps(fps)
        return dense_train_indices(total, num_frames=self.num_frames, stride=stride, generator=generator)

    def test_indices(self, total: int, fps: float = 0.0) -> list[list[int]]:
        """Return `views` clips; a single dense view is centered. `fps` is needed if the sampler counts in seconds."""
        if self.mode == "uniform":
            return uniform_test_indices(total, num_frames=self.num_frames, views=self.views)
        stride = self.stride_at_fps(fps)
        if self.views == 1:
            return [center_clip_indices(total, num_frames=self.num_frames, stride=stride)]
        return dense_test_indices(total, num_frames=self.num_frames, stride=stride, views=self.views)


def stride_at_fps(fps: float, *, stride: int, frame_seconds: float | None) -> int:
    """Return `stride`, or if `frame_seconds` is given the nearest whole number of frames to it, at least 1.

    Raises:
        UnknownFrameRateError: seconds are given and `fps` is not above 0.
    """
    if frame_seconds is None:
        return stride
    if not 0 < fps < math.inf:
        raise UnknownFrameRateError(
            f"its frame rate is not known, and frame_seconds={frame_seconds:g} needs it; give a stride in frames"
        )
    return max(1, round(frame_seconds * fps))


def check_frame_seconds(value: float | None) -> None:
    """Raise ValueError if a value cannot be the seconds between two frames."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"frame_seconds is {value!r}; give the seconds between two frames of a clip")


def pretrain_indices(
    total: int,
    *,
    num_frames: int = 16,
    stride: int = 4,
    start: int | None = None,
    generator: torch.Generator | None = None,
) -> list[int]:
    """Draw one dense clip for pre-training: exactly `stride` apart, from a uniformly random start.

    A start has room when the whole window `num_frames * stride` fits. A video shorter than the window is read from
    frame 0 and its last reachable frame is repeated. The published code counts frames from 1 and takes a step only
    if `position + stride < total`, so the very last frames of a short video are never reached: 40 frames give 0, 4,
    ... 36, 36; 61 give ... 56, 56 although frame 60 exists. Kept as published.

    Args:
        start: the first frame, instead of a random one.

    Raises:
        ValueError: a number is not positive, or `start` is outside the video.
    """
    _check_all(total=total, num_frames=num_frames, stride=stride)
    if start is None:
        start = _random_below(max(total - num_frames * stride + 1, 1), generator)
    elif not 0 <= start < total:
        raise ValueError(f"start must be in [0, {total}), got {start}")
    indices = [start]
    while len(indices) < num_frames:
        can_step = (indices[-1] + 1) + stride < total
        indices.append(indices[-1] + stride if can_step else indices[-1])
    return indices


def dense_train_indices(
    total: int, *, num_frames: int = 16, stride: int = 4, generator: torch.Generator | None = None
) -> list[int]:
    """Draw one random dense clip for fine-tuning: evenly spread over a window of `num_frames * stride` frames.

    The end of the window is drawn from [window, total), as in the published code, so the last possible window is
    [total - 1 - window, total - 1).
    """
    _check_all(total=total, num_frames=num_frames, stride=stride)
    window = num_frames * stride
    if total <= window:
        return _short_dense_indices(total, num_frames=num_frames, stride=stride)
    return _linspace_indices(_random_below(total - window, generator), window, num_frames)


def center_clip_indices(total: int, *, num_frames: int = 16, stride: int = 4) -> list[int]:
    """Return the dense clip in the middle of the video: `dense_train_indices` without randomness.

    The validation of VideoMAE V2. V1 validates on random windows, which makes its best epoch a matter of luck.
    """
    _check_all(total=total, num_frames=num_frames, stride=stride)
    window = num_frames * stride
    if total <= window:
        return _short_dense_indices(total, num_frames=num_frames, stride=stride)
    return _linspace_indices((window + total) // 2 - window, window, num_frames)


def dense_test_indices(total: int, *, num_frames: int = 16, stride: int = 4, views: int = 5) -> list[list[int]]:
    """Return `views` dense clips, from the first to the last of every `stride`-th frame; they may overlap.

    A short video's list is padded with its last entry. The published code divides by zero at one view; here that is
    the middle of the list.
    """
    _check_all(total=total, num_frames=num_frames, stride=stride, views=views)
    strided = list(range(0, total, stride))
    strided += strided[-1:] * (num_frames - len(strided))
    slack = len(strided) - num_frames
    starts = [slack // 2] if views == 1 else [int(view * (slack / (views - 1))) for view in range(views)]
    return [strided[start : start + num_frames] for start in starts]


def uniform_train_indices(
    total: int, *, num_frames: int = 16, front_pad: bool = False, generator: torch.Generator | None = None
) -> list[int]:
    """Draw one random frame from each of `num_frames` equal segments (TSN); frames left over at the end are not used.

    Args:
        front_pad: for a video of fewer than `num_frames` frames: False, as V1, gives its first frame only; True, as
            V2, gives its first frame repeated and then each frame once.
    """
    _check_all(total=total, num_frames=num_frames)
    segment = total // num_frames
    if segment > 0:
        return [position * segment + _random_below(segment, generator) for position in range(num_frames)]
    if front_pad:
        return [0] * (num_frames - total) + list(range(total))
    return [0] * num_frames


def uniform_test_indices(total: int, *, num_frames: int = 16, views: int = 2) -> list[list[int]]:
    """Return `views` clips of one frame per segment, shifted against each other by `1 / views` of a segment.

    With 2 views these are the segments' first and middle frames, as V1 has it; other counts follow V2.
    """
    _check_all(total=total, num_frames=num_frames, views=views)
    segment_length = total / num_frames
    return [
        [int(view * segment_length / views + segment_length * position) for position in range(num_frames)]
        for view in range(views)
    ]


def _short_dense_indices(total: int, *, num_frames: int, stride: int) -> list[int]:
    """Return `total // stride` frames spread over the whole video, then its last frame."""
    spread = total // stride
    # `numpy.linspace(0, total, spread)` in the same floating-point steps; the last value is exact.
    step = total / max(spread - 1, 1)
    values = [position * step for position in range(spread - 1)] + ([float(total)] if spread > 1 else [0.0] * spread)
    indices = [min(int(value), total - 1) for value in values[:num_frames]]
    return indices + [total - 1] * (num_frames - len(indices))


def _linspace_indices(start: int, window: int, num_frames: int) -> list[int]:
    """Return `numpy.linspace(start, start + window, num_frames)`, clipped to the window, rounded down."""
    if num_frames == 1:
        return [start]
    step = window / (num_frames - 1)
    return [min(int(position * step + start), start + window - 1) for position in range(num_frames)]


def _random_below(end: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(end, (), generator=generator))


def _check_all(**values: int) -> None:
    for name, value in values.items():
        _check_positive("the number of frames of the video" if name == "total" else name, value)


def _check_positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
