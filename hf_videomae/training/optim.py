"""AdamW as in the paper's code: parameter groups, the learning rate by batch size, and the schedule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RunError

BASE_BATCH_SIZE = 256
"""Base learning rates are given for this many clips per step."""

NO_WEIGHT_DECAY = ("mask_token", "pos_embed", "position_embeddings", "cls_token")
"""Names without weight decay although they are not one-dimensional."""


def scale_lr(base_lr: float, global_batch: int) -> float:
    """lr = base lr x clips per step / 256: clips of all processes and accumulated passes."""
    return base_lr * global_batch / BASE_BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """Linear warm-up from 0, then half a cosine, per step (the paper's code, `cosine_scheduler`).

    Both ends keep the original's quirks: the warm-up is inclusive, so the peak appears twice, and the cosine ends one
    step before the floor.

    Args:
        peak: learning rate after the warm-up.
        floor: what the cosine falls towards.
        total_steps: length of the run.
        warmup_steps: length of the warm-up, part of the total.
    """

    peak: float
    floor: float
    total_steps: int
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise RunError(
                f"the warm-up of {self.warmup_steps} steps does not fit a run of {self.total_steps} steps; "
                f"give a smaller warmup_steps or a larger max_steps"
            )

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            if step == self.warmup_steps - 1 and step > 0:
                return self.peak
            return step * (self.peak / max(self.warmup_steps - 1, 1))
        share = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return self.floor + 0.5 * (self.peak - self.floor) * (1 + math.cos(math.pi * min(share, 1.0)))

    def values(self) -> list[float]:
        """The learning rate of every step."""
        return [self(step) for step in range(self.total_steps)]


def has_weight_decay(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to one-dimensional parameters, biases, norms and the mask token."""
    return (
        parameter.ndim > 1
        and not name.endswith(".bias")
        and not any(part in NO_WEIGHT_DECAY for part in name.split("."))
    )


def build_param_groups(
    model: nn.Module, *, weight_decay: float, lr_scale: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Groups for the optimizer, by weight decay and by learning-rate scale.

    Args:
        model: its parameters that require gradients are taken.
        weight_decay: for those that take decay (`has_weight_decay`).
        lr_scale: name -> factor on the schedule's value, e.g. layer-wise decay; None: 1 for all.

    Returns:
        groups with `params`, `weight_decay`, `lr_scale` and `names`, the latter in the order of `params`.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = weight_decay if has_weight_decay(name, parameter) else 0.0
        scale = 1.0 if lr_scale is None else lr_scale(name)
        group = groups.setdefault(
            (decay, scale), {"params": [], "weight_decay": decay, "lr_scale": scale, "names": []}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def build_optimizer(
    groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float, fused: bool = False
) -> torch.optim.AdamW:
    """AdamW over `build_param_groups`. The learning rate is set before every step (`set_learning_rate`)."""
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=fused or None)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every group the schedule's value times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0)


def clip_grad_norm(parameters: Sequence[Tensor], *, clip: float | None) -> float:
    """Return the norm of all gradients together, which are scaled down to `clip` where it is above."""
    if clip is not None:
        return float(torch.nn.utils.clip_grad_norm_(parameters, clip))
    return float(torch.nn.utils.get_total_norm([found.grad for found in parameters if found.grad is not None]))
