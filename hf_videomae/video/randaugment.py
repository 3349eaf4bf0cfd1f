"""Apply RandAugment and random erasing to clips: drawn once, applied to every frame.

Frames are `(T, 3, H, W)` uint8 as decoded for RandAugment, `(T, C, H, W)` floating point and normalized for erasing:
the places that the paper's code gives them. Operations are those of Pillow in torch: what Pillow computes per image
(the histogram of `equalize`, the mean of `contrast`) is computed per frame, as in the paper's code; random values are
drawn once for the clip. Randomness comes from a `torch.Generator` (None: torch's global one).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]
_MAX_MAGNITUDE = 10.0  # magnitudes run from 0 to this
_FILL_VALUE = 128
_SKIP_PROBABILITY = 0.5  # each drawn operation is skipped with this probability
# Bounds of an erased box: its share of the frame, and its height / width.
_ERASED_SHARE, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
_KEYS = {"m": "magnitude", "n": "num_operations", "mstd": "magnitude_std"}


@dataclass(frozen=True)
class Operation:
    """One drawn augmentation: the name of an entry of `OPERATIONS` and its argument."""

    name: str
    argument: float


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """A few random operations on a clip (Cubuk et al., 2019), as in the paper's fine-tuning.

    Args:
        magnitude: how strong, from 0 to 10.
        num_operations: number of operations drawn (with replacement); half of them are then skipped at random.
        magnitude_std: deviation of a magnitude around `magnitude`.
        interpolation: filter of rotation, shear and shift; bicubic in the paper (torch's kernel has a = -0.75,
            Pillow's -1).
    """

    magnitude: float = 7.0
    num_operations: int = 4
    magnitude_std: float = 0.5
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= _MAX_MAGNITUDE or self.num_operations < 1 or not self.magnitude_std >= 0:
            raise ValueError(
                f"RandAugment takes a magnitude from 0 to 10, 1 operation or more and a deviation of 0 or more, got "
                f"m{self.magnitude:g}, n{self.num_operations}, mstd{self.magnitude_std:g}"
            )

    @classmethod
    def parse(cls, text: str, *, interpolation: Interpolation = "bicubic") -> Self:
        """Parse a policy in timm's notation, e.g. `rand-m7-n4-mstd0.5-inc1`; it must use the operations of `inc1`.

        Raises:
            ValueError: for other words.
        """
        first, *words = text.split("-")
        matches = [re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", word) for word in words]
        values = {match[1]: match[2] for match in matches if match is not None}
        known = first == "rand" and len(values) == len(words) and values.keys() <= {*_KEYS, "inc"}
        if not known or not values.get("n", "1").isdigit() or "inc" not in values:
            raise ValueError(f"RandAugment {text!r} is not known; write it like rand-m7-n4-mstd0.5-inc1")
        settings = {"m": "10", "n": "2", "mstd": "0", **values}
        return cls(
            magnitude=float(settings["m"]),
            num_operations=int(settings["n"]),
            magnitude_std=float(settings["mstd"]),
            interpolation=interpolation,
        )

    def draw(self, *, generator: torch.Generator | None = None) -> list[Operation]:
        """Draw the operations for one clip, in order."""
        names = list(OPERATIONS)
        drawn = []
        for number in torch.randint(len(names), (self.num_operations,), generator=generator).tolist():
            # Every value is drawn for every operation, so that a skipped one does not shift those after it.
            skip_draw, sign_draw = torch.rand(2, generator=generator).tolist()
            noise = float(torch.randn((), generator=generator))
            if skip_draw > _SKIP_PROBABILITY:
                continue
            magnitude = min(_MAX_MAGNITUDE, max(0.0, self.magnitude + self.magnitude_std * noise))
            argument = OPERATIONS[names[number]].argument(magnitude / _MAX_MAGNITUDE)
            signed = OPERATIONS[names[number]].signed and sign_draw > 0.5
            drawn.append(Operation(names[number], -argument if signed else argument))
        return drawn

    def __call__(self, frames: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Augment frames (T, 3, H, W) uint8."""
        if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
            raise ValueError(f"RandAugment takes (T, 3, H, W) uint8, got {tuple(frames.shape)} {frames.dtype}")
        for operation in self.draw(generator=generator):
            frames = apply_operation(frames, operation, interpolation=self.interpolation)
        return frames


def apply_operation(frames: Tensor, operation: Operation, *, interpolation: Interpolation = "bicubic") -> Tensor:
    """Apply one operation to (T, 3, H, W) uint8 frames."""
    return OPERATIONS[operation.name].apply(frames, operation.argument, interpolation)


def random_erasing(frames: Tensor, *, probability: float = 0.25, generator: torch.Generator | None = None) -> Tensor:
    """Fill one box, the same in all frames, with noise N(0, 1) per pixel, channel and frame (Zhong et al., 2017).

    Args:
        frames: (T, C, H, W) floating point, normalized, so that the noise has their scale.
        probability: probability of erasing a box.

    Returns:
        a new tensor if a box was erased.
    """
    if frames.ndim != 4 or not frames.is_floating_point():
        raise ValueError(f"erasing takes (T, C, H, W) normalized frames, got {tuple(frames.shape)} {frames.dtype}")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}")
    if not float(torch.rand((), generator=generator)) < probability:
        return frames
    height, width = frames.shape[-2:]
    for _ in range(100):
        share, ratio = torch.rand(2, generator=generator).tolist()
        pixels = height * width * (_ERASED_SHARE[0] + (_ERASED_SHARE[1] - _ERASED_SHARE[0]) * share)
        low, high = map(math.log, _ERASED_ASPECT)
        shape = math.exp(low + (high - low) * ratio)
        box_height, box_width = round((pixels * shape) ** 0.5), round((pixels / shape) ** 0.5)
        if box_height < height and box_width < width:
            top = int(torch.randint(height - box_height + 1, (), generator=generator))
            left = int(torch.randint(width - box_width + 1, (), generator=generator))
            noise = torch.randn(*frames.shape[:2], box_height, box_width, generator=generator)
            erased = frames.clone()
            erased[..., top : top + box_height, left : left + box_width] = noise.to(frames)
            return erased
    return frames


# Geometry: the pixel (x, y) takes its color from (a x + b y + c, d x + e y + f), which is gray outside the frame.


def _affine(frames: Tensor, matrix: tuple[float, ...], interpolation: Interpolation) -> Tensor:
    height, width = frames.shape[-2:]
    a, b, c, d, e, f = matrix
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None]
    from_x, from_y = a * x + b * y + c, d * x + e * y + f  # (H, W)
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    grid = torch.stack((2 * from_x / width - 1, 2 * from_y / height - 1), dim=-1).float()
    planes = frames.flatten(0, 1)[None].float()  # (1, T * 3, H, W): one grid for all
    moved = F.grid_sample(planes, grid[None], mode=interpolation, padding_mode="border", align_corners=False)
    moved = moved[0].round_().clamp_(0, 255).to(torch.uint8).view_as(frames)
    return moved.masked_fill_(outside, _FILL_VALUE)


def _rotate(frames: Tensor, degrees: float, interpolation: Interpolation) -> Tensor:
    height, width = frames.shape[-2:]
    cosine, sine = math.cos(-math.radians(degrees)), math.sin(-math.radians(degrees))
    x, y = width / 2, height / 2
    matrix = (cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y)
    return _affine(frames, matrix, interpolation)


def _shear_x(frames: Tensor, factor: float, interpolation: Interpolation) -> Tensor:
    return _affine(frames, (1, factor, 0, 0, 1, 0), interpolation)


def _shear_y(frames: Tensor, factor: float, interpolation: Interpolation) -> Tensor:
    return _affine(frames, (1, 0, 0, factor, 1, 0), interpolation)


def _shift_x(frames: Tensor, share: float, interpolation: Interpolation) -> Tensor:
    return _affine(frames, (1, 0, share * frames.shape[-1], 0, 1, 0), interpolation)


def _shift_y(frames: Tensor, share: float, interpolation: Interpolation) -> Tensor:
    return _affine(frames, (1, 0, 0, 0, 1, share * frames.shape[-2]), interpolation)


# Color, by tables of 256 values.


def _apply_lookup_table(frames: Tensor, tables: Tensor) -> Tensor:
    """Map each channel of each frame through its own table (T * 3, 256), or all through one (256,)."""
    if tables.ndim == 1:
        return tables.to(torch.uint8)[frames.int()]
    values = frames.flatten(0, 1).flatten(1).long()  # (T * 3, H * W)
    return tables.to(torch.uint8).gather(1, values).view_as(frames)


def _auto_contrast(frames: Tensor, argument: float, interpolation: Interpolation) -> Tensor:
    planes = frames.flatten(0, 1).flatten(1)
    low, high = planes.amin(1, keepdim=True).double(), planes.amax(1, keepdim=True).double()  # (T * 3, 1)
    scale = 255 / (high - low).clamp(min=1)
    values = torch.arange(256, dtype=torch.float64)
    stretched = (values * scale - low * scale).trunc().clamp(0, 255)
    return _apply_lookup_table(frames, torch.where(high > low, stretched, values))


def _equalize(frames: Tensor, argument: float, interpolation: Interpolation) -> Tensor:
    planes = frames.flatten(0, 1).flatten(1).long()
    rows = torch.arange(len(planes))[:, None]
    counts = torch.bincount((planes + 256 * rows).flatten(), minlength=256 * len(planes)).view(-1, 256)
    last = counts.gather(1, planes.amax(1, keepdim=True))  # count of the brightest value that occurs
    step = (counts.sum(1, keepdim=True) - last) // 255
    before = counts.cumsum(1) - counts
    spread = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return _apply_lookup_table(frames, torch.where(step > 0, spread, torch.arange(256)))


def _invert(frames: Tensor, argument: float, interpolation: Interpolation) -> Tensor:
    return 255 - frames


def _posterize(frames: Tensor, bits_removed: float, interpolation: Interpolation) -> Tensor:
    bits = 4 - int(bits_removed)  # kept of the 8
    return frames & (256 - 2 ** (8 - bits))


def _solarize(frames: Tensor, threshold_drop: float, interpolation: Interpolation) -> Tensor:
    return torch.where(frames.int() < 256 - int(threshold_drop), frames, 255 - frames)


def _solarize_add(frames: Tensor, added: float, interpolation: Interpolation) -> Tensor:
    values = torch.arange(256)
    return _apply_lookup_table(frames, torch.where(values < 128, (values + int(added)).clamp(max=255), values))


# Enhancements: blend a degenerate image (factor 0) with the frame (factor 1), or go beyond it.


def _blend(degenerate: Tensor, frames: Tensor, change: float) -> Tensor:
    degenerate = degenerate.float()
    return (degenerate + (1 + change) * (frames.float() - degenerate)).clamp_(0, 255).to(torch.uint8)


def _luma(frames: Tensor) -> Tensor:
    """Return the luma (T, 1, H, W), ITU-R BT.601 in Pillow's integers."""
    red, green, blue = frames.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).unsqueeze(1)


def _color(frames: Tensor, change: float, interpolation: Interpolation) -> Tensor:
    return _blend(_luma(frames), frames, change)


def _contrast(frames: Tensor, change: float, interpolation: Interpolation) -> Tensor:
    mean = (_luma(frames).double().mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean, frames, change)


def _brightness(frames: Tensor, change: float, interpolation: Interpolation) -> Tensor:
    return _blend(torch.zeros(()), frames, change)


def _sharpness(frames: Tensor, change: float, interpolation: Interpolation) -> Tensor:
    floats = frames.float()
    smooth = floats.clone()  # the outermost pixels stay
    if min(frames.shape[-2:]) > 2:
        inner = (9 * F.avg_pool2d(floats, 3, stride=1) + 4 * floats[..., 1:-1, 1:-1]) / 13
        smooth[..., 1:-1, 1:-1] = inner.round_()
    return _blend(smooth, frames, change)


@dataclass(frozen=True)
class _OperationSpec:
    """An operation, its argument at the largest magnitude, and whether the argument's sign is drawn."""

    apply: Callable[[Tensor, float, Interpolation], Tensor]
    max_argument: float = 0.0
    signed: bool = False

    def argument(self, share: float) -> float:
        """Return the argument at a share of the largest magnitude."""
        return share * self.max_argument


# timm's increasing set: all grow with the magnitude.
OPERATIONS: dict[str, _OperationSpec] = {
    "auto_contrast": _OperationSpec(_auto_contrast),
    "equalize": _OperationSpec(_equalize),
    "invert": _OperationSpec(_invert),
    "rotate": _OperationSpec(_rotate, 30.0, signed=True),  # degrees
    "posterize": _OperationSpec(_posterize, 4.0),  # bits taken away of 4
    "solarize": _OperationSpec(_solarize, 256.0),  # how far the threshold lies under 256
    "solarize_add": _OperationSpec(_solarize_add, 110.0),
    "color": _OperationSpec(_color, 0.9, signed=True),
    "contrast": _OperationSpec(_contrast, 0.9, signed=True),
    "brightness": _OperationSpec(_brightness, 0.9, signed=True),
    "sharpness": _OperationSpec(_sharpness, 0.9, signed=True),
    "shear_x": _OperationSpec(_shear_x, 0.3, signed=True),
    "shear_y": _OperationSpec(_shear_y, 0.3, signed=True),
    "translate_x": _OperationSpec(_shift_x, 0.45, signed=True),  # share of the side: .45 x 224 pixels at 224
    "translate_y": _OperationSpec(_shift_y, 0.45, signed=True),
}
