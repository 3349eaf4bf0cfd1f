"""Cut many clips from one video: the S x C views of a test, and windows that slide over a long video.

The test of the paper's code: the short side is resized to the model's size (bilinear *without* antialiasing, as
OpenCV's INTER_LINEAR: another filter than PIL's), S clips are cut out in time and C crops along the longer side.

Shapes: S temporal views, C crops, T frames of a clip, U frames that any view needs, H, W pixels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .decoded_frames import LUMA_WEIGHTS
from .decoding import VideoSource, open_video
from .sampling import ClipSampler
from .segments import VideoSegment
from .transforms import IMAGENET_MEAN, IMAGENET_STD, normalize, resize, resize_short_side, spatial_crop, to_float


@dataclass(frozen=True, kw_only=True)
class MultiViewConfig:
    """The views of a test.

    Args:
        clip: frames of a view; its `views` is S.
        crops: C, spread along the longer side; 1 is the center.
        size: (height, width) of a view in pixels.
        image_mean, image_std: per channel; a single value makes the views gray.
        antialias: filter when shrinking, as PIL and the serving processor do; the published accuracies were measured
            without.

    Raises:
        ValueError: for invalid values.
    """

    clip: ClipSampler
    crops: int = 3
    size: tuple[int, int] = (224, 224)
    image_mean: Sequence[float] = IMAGENET_MEAN
    image_std: Sequence[float] = IMAGENET_STD
    antialias: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.crops, bool) or not isinstance(self.crops, int) or self.crops < 1:
            raise ValueError(f"crops must be a whole number of at least 1, got {self.crops!r}")
        if min(self.size) < 1:
            raise ValueError(f"size must be (height, width), each at least 1 pixel, got {self.size}")
        if len(self.image_mean) not in (1, 3) or len(self.image_std) != len(self.image_mean):
            raise ValueError(
                f"image_mean has {len(self.image_mean)} and image_std {len(self.image_std)} values; videos have 3 "
                f"color channels, so both need 3 values, or 1 for gray views"
            )

    @property
    def num_views(self) -> int:
        """Return S x C."""
        return self.clip.views * self.crops


class DecodedViews(NamedTuple):
    """The frames that the views of one video are cut from; small enough to travel between processes.

    Attributes:
        frames: (U, channels, H, W), resized: every frame that a view needs, once. uint8 as decoded, or in [0, 1].
        indices: (S, T) numbers into `frames` for each temporal view.
    """

    frames: Tensor
    indices: Tensor


def parse_views(text: str | Sequence[int]) -> tuple[int, int]:
    """Parse `"5x3"`, or a pair, to (temporal views, crops).

    Raises:
        ValueError: for anything else.
    """
    pair = [int(part) for part in re.findall(r"\d+", text)] if isinstance(text, str) else list(text)
    well_formed = not isinstance(text, str) or re.fullmatch(r"\s*\d+\s*[xX×]\s*\d+\s*", text)
    if not well_formed or len(pair) != 2 or min(pair) < 1:
        raise ValueError(
            f"views are {text!r}; give temporal positions x crops, each at least 1, such as 5x3 (Kinetics), 2x3 "
            f"(Something-Something) or 1x1"
        )
    return pair[0], pair[1]


def decode_views(video: VideoSource | VideoSegment, *, plan: MultiViewConfig, name: str | None = None) -> DecodedViews:
    """Decode and resize the frames that the views need.

    Args:
        video: a path, URL, bytes or binary file, or a segment of one.
        plan: the views to decode.
        name: the name of bytes in errors.

    Raises:
        VideoDecodeError: the video is bad.
        VideoBackendError: this machine cannot decode.
    """
    with open_video(video, name=name) as reader:
        views = reader.sample_indices(plan.clip.test_indices, frame_seconds=plan.clip.stride_seconds)
        distinct = sorted({index for view in views for index in view})
        frames = _resize_to_cover(reader.frames(distinct), plan.size, antialias=plan.antialias)
    position = {index: number for number, index in enumerate(distinct)}
    return DecodedViews(frames.contiguous(), torch.tensor([[position[index] for index in view] for view in views]))


def resize_views(clips: Tensor, *, plan: MultiViewConfig) -> DecodedViews:
    """Return `DecodedViews` of clips that were cut already: (S, T, channels, H, W), uint8 or in [0, 1]."""
    frames = _resize_to_cover(clips.flatten(0, 1), plan.size, antialias=plan.antialias)
    return DecodedViews(frames, torch.arange(len(frames)).view(clips.shape[:2]))


def build_views(decoded: DecodedViews, *, plan: MultiViewConfig, device: torch.device | str | None = None) -> Tensor:
    """Return the views as a model takes them; the crops of one temporal view follow each other.

    Returns:
        (S * C, T, channels, H, W) float32, normalized, on `device`.
    """
    frames = decoded.frames.to(device)
    clips = []
    for crop in range(plan.crops):
        cut = spatial_crop(frames, plan.size, index=crop, count=plan.crops)
        clips.append(_normalize_views(cut, plan)[decoded.indices.to(cut.device)])  # (S, T, channels, H, W)
    return torch.stack(clips, dim=1).flatten(0, 1)


def sliding_window_indices(
    total: int, *, num_frames: int = 16, stride: int = 4, hop: int | None = None
) -> list[list[int]]:
    """Return clips that slide over a whole video: one every `hop` frames, and a last one that ends with the video.

    A video shorter than a clip gives one clip, its last frame repeated.

    Args:
        total: frames of the video.
        num_frames, stride: frames of a clip and their distance; a clip spans `(num_frames - 1) * stride + 1` frames.
        hop: frames between the starts of two clips; None: `num_frames * stride`, so that clips do not overlap.
    """
    hop = num_frames * stride if hop is None else hop
    for name, value in (("total", total), ("num_frames", num_frames), ("stride", stride), ("hop", hop)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    last = max(total - ((num_frames - 1) * stride + 1), 0)
    starts = list(range(0, last + 1, hop))
    if starts[-1] != last:
        starts.append(last)
    return [[min(start + position * stride, total - 1) for position in range(num_frames)] for start in starts]


def _resize_to_cover(frames: Tensor, size: tuple[int, int], *, antialias: bool) -> Tensor:
    """Resize as little as possible so that frames cover `size`, the aspect kept; for a square, by the short side."""
    if size[0] == size[1]:
        return resize_short_side(frames, size[0], antialias=antialias)
    height, width = frames.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    target = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    return resize(frames, target, antialias=antialias)


def _normalize_views(frames: Tensor, plan: MultiViewConfig) -> Tensor:
    if len(plan.image_mean) == 1 and frames.shape[1] == 3:
        luma = torch.tensor(LUMA_WEIGHTS, device=frames.device).view(3, 1, 1)
        frames = (to_float(frames) * luma).sum(1, keepdim=True)
    return normalize(frames, plan.image_mean, plan.image_std)
