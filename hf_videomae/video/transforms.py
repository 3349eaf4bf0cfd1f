"""Transform clips consistently: random values are drawn once and applied to every frame of the clip.

Frames are `(T, C, H, W)`, uint8 or floating point, with any number of channels C. Randomness comes from a
`torch.Generator` (None: torch's global one). Crops and resizes keep the type that came in: crop and resize uint8
frames first and call `to_float` last, it is several times faster. Sizes are (height, width).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

Size = tuple[int, int]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's channels, with which every published VideoMAE normalizes pixels in [0, 1]."""

# A side of the crop this close to the target is set to the target, which then needs no resampling.
_SNAP_PIXELS = 3
# Of the paper's pre-training crop: shares of the shorter side, and how many steps apart width and height may be.
_MULTI_SCALES, _MAX_DISTORTION = (1.0, 0.875, 0.75, 0.66), 1
# Bounds of width / height of a random resized crop, drawn evenly in the logarithm.
_ASPECT_BOUNDS = (3 / 4, 4 / 3)


def to_float(frames: torch.Tensor) -> torch.Tensor:
    """Convert uint8 in [0, 255] to float32 in [0, 1], contiguous; floating-point frames keep their values."""
    _check_frames(frames)
    if frames.is_floating_point():
        return frames.contiguous()
    return frames.to(torch.float32, memory_format=torch.contiguous_format).div_(255.0)


def resize(frames: torch.Tensor, size: Size, *, antialias: bool = True) -> torch.Tensor:
    """Resize frames bilinearly.

    Args:
        antialias: True filters when shrinking, as PIL does (pre-training, and most of today's pipelines). False does
            not, as OpenCV's INTER_LINEAR, a different filter, with which the published accuracies were measured.
    """
    _check_frames(frames)
    height, width = _check_size(size)
    if frames.shape[-2:] == (height, width):
        return frames
    if width == 1:  # torch's kernels are wrong one pixel wide: rows repeat, uint8 fails
        narrow = _interpolate(frames.float().mT, (1, height), antialias).mT
        return narrow.to(frames.dtype) if frames.is_floating_point() else narrow.round().to(torch.uint8)
    # Rounding integer arithmetic on uint8 is much faster than floats, but exists on the CPU only.
    if frames.dtype == torch.uint8 and frames.device.type != "cpu":
        return _interpolate(frames.float(), (height, width), antialias).round_().clamp_(0, 255).to(torch.uint8)
    return _interpolate(frames, (height, width), antialias)


def resize_short_side(frames: torch.Tensor, size: int, *, antialias: bool = True) -> torch.Tensor:
    """Resize so that the shorter side has `size` pixels; the longer one keeps the aspect, rounded down."""
    _check_frames(frames)
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    height, width = frames.shape[-2:]
    if height <= width:
        return resize(frames, (size, size * width // height), antialias=antialias)
    return resize(frames, (size * height // width, size), antialias=antialias)


def center_crop(frames: torch.Tensor, size: Size) -> torch.Tensor:
    """Crop the middle of each frame.

    Raises:
        ValueError: a frame is smaller than the crop.
    """
    return spatial_crop(frames, size, index=1, count=3)


def spatial_crop(frames: torch.Tensor, size: Size, *, index: int, count: int = 3) -> torch.Tensor:
    """Crop `index` of `count` spread evenly along the longer side; the middle one of the shorter side.

    The three crops of the paper's test. Offsets round down, as published; a count of 1 is the center crop.

    Raises:
        ValueError: a frame is smaller than the crop, or the crop does not exist.
    """
    _check_frames(frames)
    crop_height, crop_width = _check_size(size)
    if not 0 <= index < count:
        raise ValueError(f"index must be in [0, {count}), got {index}")
    spare_height, spare_width = frames.shape[-2] - crop_height, frames.shape[-1] - crop_width
    if spare_height < 0 or spare_width < 0:
        raise ValueError(
            f"cannot crop {crop_height}x{crop_width} from frames of {frames.shape[-2]}x{frames.shape[-1]}; resize them"
        )
    top, left = spare_height // 2, spare_width // 2
    if count > 1 and spare_height >= spare_width:
        top = int(index * (spare_height / (count - 1)))
    elif count > 1:
        left = int(index * (spare_width / (count - 1)))
    return frames[..., top : top + crop_height, left : left + crop_width]


def random_resized_crop(
    frames: torch.Tensor,
    size: Size,
    *,
    generator: torch.Generator | None = None,
    scale: tuple[float, float] = (0.5, 1.0),
    antialias: bool = True,
) -> torch.Tensor:
    """Crop a box of random aspect ratio, and of an area between the bounds `scale`, and resize it to `size`."""
    _check_frames(frames)
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale must be (low, high) with 0 < low <= high, got {scale}")
    height, width = frames.shape[-2:]
    top, left, crop_height, crop_width = _random_box(height, width, scale=scale, generator=generator)
    crop = frames[..., top : top + crop_height, left : left + crop_width]
    return resize(crop, size, antialias=antialias)


def multi_scale_crop(frames: torch.Tensor, size: Size, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """Apply the paper's pre-training crop: one of 10 shapes at one of 13 places, resized to `size`.

    Width and height are each 1, 0.875, 0.75 or 0.66 times the shorter side of the frame, at most one step apart. The
    places are the corners, the middles of the sides, the center, and the four points half-way out. For a
    target that is not square the shorter side is replaced by the largest box of the target's shape.
    """
    _check_frames(frames)
    target = _check_size(size)
    height, width = frames.shape[-2:]
    shapes = multi_scale_shapes((height, width), target)
    crop_height, crop_width = shapes[_random_below(len(shapes), generator)]
    places = fixed_offsets(height - crop_height, width - crop_width)
    top, left = places[_random_below(len(places), generator)]
    crop = frames[..., top : top + crop_height, left : left + crop_width]
    return resize(crop, target)


def multi_scale_shapes(frame: Size, target: Size) -> list[Size]:
    """Return the 10 (height, width) pairs that `multi_scale_crop` draws from."""
    (height, width), (target_height, target_width) = frame, target
    base_height = min(height, width * target_height // target_width)
    base_width = min(width, height * target_width // target_height)
    heights = [_scaled_side(base_height, scale, target=target_height, limit=height) for scale in _MULTI_SCALES]
    widths = [_scaled_side(base_width, scale, target=target_width, limit=width) for scale in _MULTI_SCALES]
    return [
        (heights[row], widths[column])
        for row in range(len(heights))
        for column in range(len(widths))
        if abs(row - column) <= _MAX_DISTORTION
    ]


def fixed_offsets(spare_height: int, spare_width: int) -> list[tuple[int, int]]:
    """Return the 13 (top, left) places of a crop that leaves `spare` pixels, on a grid of quarters rounded down."""
    row, column = spare_height // 4, spare_width // 4
    outer = [(top, left) for top in (0, 2, 4) for left in (0, 2, 4)]
    inner = [(top, left) for top in (1, 3) for left in (1, 3)]
    return [(top * row, left * column) for top, left in outer + inner]


def horizontal_flip(
    frames: torch.Tensor, *, generator: torch.Generator | None = None, probability: float = 1.0
) -> torch.Tensor:
    """Mirror the whole clip left to right, always or with `probability`.

    The published pre-training code never flips, although the paper's Kinetics recipe does; Something-Something labels
    left and right, so it must not be flipped.
    """
    _check_frames(frames)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}")
    flips = probability == 1 or bool(torch.rand((), generator=generator) < probability)
    return frames.flip(-1) if flips else frames


def normalize(frames: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return `(frames - mean) / std` per channel, on the [0, 1] scale; uint8 frames are converted to it first.

    Args:
        mean, std: one value per channel, or one for all.
    """
    _check_frames(frames)
    channels = frames.shape[-3]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ValueError(
                f"{name} has {len(values)} values, the frames have {channels} channels; give 1 or {channels}"
            )
    if any(value <= 0 for value in std):
        raise ValueError(f"std must be positive, got {list(std)}")
    dtype = frames.dtype if frames.is_floating_point() else torch.float32
    shift, scale = (
        torch.tensor(list(values), dtype=dtype, device=frames.device).reshape(-1, 1, 1) for values in (mean, std)
    )
    if frames.is_floating_point():
        return frames.contiguous().sub(shift).div_(scale)
    floats = torch.empty(frames.shape, dtype=dtype, device=frames.device)
    # Frame by frame the four steps find their pixels in the processor's cache: 2 to 3 times faster, the same numbers.
    chunk_size = 1 if frames.device.type == "cpu" else len(frames)
    for output, chunk in zip(floats.split(chunk_size), frames.split(chunk_size), strict=True):
        output.copy_(chunk).div_(255.0).sub_(shift).div_(scale)
    return floats


def _interpolate(frames: torch.Tensor, size: Size, antialias: bool) -> torch.Tensor:
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=antialias)


def _scaled_side(base: int, scale: float, *, target: int, limit: int) -> int:
    side = max(int(base * scale), 1)
    return min(target, limit) if abs(side - target) < _SNAP_PIXELS else side


def _random_box(
    height: int, width: int, *, scale: tuple[float, float], generator: torch.Generator | None
) -> tuple[int, int, int, int]:
    """Draw (top, left, height, width); after ten misfits, take the largest centered one of a permitted ratio."""
    log_low, log_high = map(math.log, _ASPECT_BOUNDS)
    for _ in range(10):
        area_draw, ratio_draw = torch.rand(2, generator=generator).tolist()
        area = height * width * (scale[0] + (scale[1] - scale[0]) * area_draw)
        aspect = math.exp(log_low + (log_high - log_low) * ratio_draw)
        box_width, box_height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < box_width <= width and 0 < box_height <= height:
            top = _random_below(height - box_height + 1, generator)
            left = _random_below(width - box_width + 1, generator)
            return top, left, box_height, box_width
    box_width = max(1, min(width, round(height * _ASPECT_BOUNDS[1])))
    box_height = max(1, min(height, round(width / _ASPECT_BOUNDS[0])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def _random_below(end: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(end, (), generator=generator))


def _check_frames(frames: torch.Tensor) -> None:
    if frames.ndim != 4 or 0 in frames.shape:
        raise ValueError(f"frames must be (T, C, H, W) and not empty, got shape {tuple(frames.shape)}")
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise ValueError(f"frames must be uint8 or floating point, got {frames.dtype}")


def _check_size(size: Size) -> Size:
    if isinstance(size, int) or len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be (height, width), each at least 1 pixel, got {size!r}")
    return int(size[0]), int(size[1])
