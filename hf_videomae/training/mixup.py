"""Mix the clips of a batch and their targets with mixup or cutmix; cutmix cuts height and width, never time.

Shapes: B clips, T frames, C channels, H, W pixels, K classes. Clip i is mixed with clip B - 1 - i of its own batch,
with one weight for the batch, as in the paper's code. Randomness comes from the global generator of torch, whose state
checkpoints store.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class MixupCutmix:
    """How batches are mixed (Zhang et al., 2017; Yun et al., 2019).

    Args:
        mixup: alpha of the Beta distribution of the mixup weight; 0: no mixup.
        cutmix: alpha of the Beta distribution of the cutmix weight; 0: no cutmix.
        prob: probability of mixing a batch.
        switch_prob: fraction of mixed batches that use cutmix, if both are on.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; give the alpha of a Beta distribution, 0 for none")
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a fraction from 0 to 1")

    @property
    def is_enabled(self) -> bool:
        """Return whether any batch is ever mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    def __call__(self, clips: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            clips: (B, T, C, H, W).
            targets: (B, K) distributions over classes, or zeros and ones.

        Returns:
            clips and targets, mixed, as new tensors.
        """
        if not self.is_enabled or not float(torch.rand(())) < self.prob:
            return clips, targets
        use_cutmix = self.cutmix > 0 and (self.mixup == 0 or float(torch.rand(())) < self.switch_prob)
        weight = sample_lambda(self.cutmix if use_cutmix else self.mixup)
        if not use_cutmix:
            return mixup(clips, weight), mixup(targets, weight)
        box = rand_bbox(clips.shape[-2], clips.shape[-1], weight)
        return cutmix(clips, box), mixup(targets, cutmix_lambda(clips.shape[-2], clips.shape[-1], box))


def sample_lambda(alpha: float) -> float:
    """Draw the weight of the first clip of a pair from Beta(alpha, alpha)."""
    return float(torch.distributions.Beta(alpha, alpha).sample())


def rand_bbox(height: int, width: int, weight: float) -> Box:
    """Draw a box that covers about `1 - weight` of the frame: (top, bottom, left, right).

    Its center is any pixel, and it is clipped at the edges. For weight 0.75 and 224 x 224 pixels its sides are half
    the frame's, 112 pixels; around pixel (10, 100) it is (0, 66, 44, 156).
    """
    side = (1 - weight) ** 0.5
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    return (
        max(row - half_height, 0),
        min(row + half_height, height),
        max(column - half_width, 0),
        min(column + half_width, width),
    )


def cutmix_lambda(height: int, width: int, box: Box) -> float:
    """Return the fraction of a frame outside a box: the weight of the first clip's label."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)


def mixup(values: Tensor, weight: float) -> Tensor:
    """Mix each row with its partner, `weight` to `1 - weight`: (B, ...) -> (B, ...)."""
    return values * weight + values.flip(0) * (1 - weight)


def cutmix(clips: Tensor, box: Box) -> Tensor:
    """Replace a box in all frames and channels by that of the partner: (B, T, C, H, W) -> (B, T, C, H, W)."""
    top, bottom, left, right = box
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips.flip(0)[..., top:bottom, left:right]
    return mixed


def smooth_targets(labels: Tensor, *, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return class indices (B,) as distributions (B, K), with `smoothing` spread evenly over all classes."""
    targets = torch.nn.functional.one_hot(labels.long(), num_classes).float()
    return targets * (1 - smoothing) + smoothing / num_classes
