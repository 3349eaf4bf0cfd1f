"""Build the optimizer and the learning-rate schedule as in the paper's code: AdamW, its parameter groups, a cosine."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RunError
from .recipe import RunRecipe

BASE_BATCH_SIZE = 256
"""Base learning rates are given for this many clips per step."""

NO_WEIGHT_DECAY = ("mask_token", "pos_embed", "position_embeddings", "cls_token")
"""Names without weight decay although they are not one-dimensional."""

DEFAULT_WARMUP_FRACTION = 0.05


def scale_lr(base_lr: float, global_batch: int) -> float:
    """Return base_lr * global_batch / 256, where global_batch counts all processes and accumulated passes."""
    return base_lr * global_batch / BASE_BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """Linear warm-up from 0, then half a cosine, per step (the paper's code, `cosine_scheduler`).

    Both ends keep the original's quirks: the warm-up is inclusive, so the peak appears twice, and the cosine ends one
    step before the floor.

    Args:
        peak: learning rate after the warm-up.
        floor: learning rate that the cosine approaches.
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
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            if step == self.warmup_steps - 1 and step > 0:
                return self.peak
            return step * (self.peak / max(self.warmup_steps - 1, 1))
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return self.floor + 0.5 * (self.peak - self.floor) * (1 + math.cos(math.pi * min(progress, 1.0)))


def build_lr_schedule(recipe: RunRecipe, *, global_batch: int, steps_per_epoch: int | None) -> CosineSchedule:
    """Return the schedule of a run in steps: its length, warm-up and learning rate.

    A warm-up in epochs keeps its fraction of the run if `--max_steps` makes the run shorter or longer than `--epochs`:
    with 40 of 800 epochs and 50 steps, the warm-up is round(50 * 40 / 800) = 2 steps.

    Args:
        recipe: settings of the run.
        global_batch: clips per step, over all processes and accumulated passes.
        steps_per_epoch: steps of one pass over the data; None if unknown.

    Raises:
        RunError: if the length cannot be known or the warm-up does not fit.
    """
    if recipe.base_lr is None:
        raise RunError("the learning rate is missing; give --base_lr, for 256 clips per step")
    total = recipe.max_steps
    if total is None:
        if recipe.epochs is None:
            raise RunError("the length of the run is missing; give --max_steps, or --epochs")
        if steps_per_epoch is None:
            raise RunError("--epochs needs a dataset of known size, but this one is streamed; give --max_steps")
        total = max(1, round(recipe.epochs * steps_per_epoch))
    if recipe.warmup_steps is not None:
        warmup = recipe.warmup_steps
    elif recipe.warmup_epochs is not None and recipe.epochs is not None:
        warmup = round(total * recipe.warmup_epochs / recipe.epochs)
    elif recipe.warmup_epochs is not None and steps_per_epoch is not None:
        warmup = round(recipe.warmup_epochs * steps_per_epoch)
    else:
        warmup = round(total * DEFAULT_WARMUP_FRACTION)
    return CosineSchedule(
        peak=scale_lr(recipe.base_lr, global_batch),
        floor=scale_lr(recipe.min_lr, global_batch),
        total_steps=total,
        warmup_steps=warmup,
    )


def has_weight_decay(name: str, parameter: torch.Tensor) -> bool:
    """Return whether weight decay applies: not to one-dimensional parameters, biases, norms and the mask token."""
    return (
        parameter.ndim > 1
        and not name.endswith(".bias")
        and not any(part in NO_WEIGHT_DECAY for part in name.split("."))
    )


def build_param_groups(
    model: nn.Module, *, weight_decay: float, lr_scale: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Return parameter groups for the optimizer, by weight decay and learning-rate scale.

    Args:
        model: its parameters that require gradients are taken.
        weight_decay: for parameters with decay (`has_weight_decay`).
        lr_scale: parameter name -> factor on the learning rate, e.g. layer-wise decay; None: 1 for all.

    Returns:
        groups with `params`, `weight_decay`, `lr_scale`, and `names` in the order of `params`.
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
    """Return AdamW over `build_param_groups`. The learning rate is set before every step (`set_learning_rate`)."""
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=fused or None)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group to `value` times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0)


def clip_grad_norm(parameters: Sequence[Tensor], *, clip: float | None) -> float:
    """Return the norm of all gradients together; if it exceeds `clip`, scale the gradients down to `clip`."""
    if clip is not None:
        return float(torch.nn.utils.clip_grad_norm_(parameters, clip))
    return float(
        torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    )


def layer_decay_scales(model: nn.Module, decay: float) -> Callable[[str], float]:
    """Return a function from parameter name to learning-rate factor: layer-wise decay (LLRD; BEiT, fine-tuning only).

    With L layers the cube embedding gets decay^(L + 1), layer i (from 0) decay^(L - i), norm and head 1. For L = 12
    and decay 0.75 the embedding trains at 0.024, the last layer at 0.75 of the scheduled rate.

    Args:
        model: its `config` gives the number of layers.
        decay: 0.75 in most recipes; 1 for equal rates.

    Returns:
        a function: parameter name -> factor.
    """
    depth: int = model.config.num_hidden_layers  # type: ignore[union-attr, assignment]

    def scale(name: str) -> float:
        layer = re.search(r"(?:^|\.)encoder\.layer\.(\d+)\.", name)
        if layer is not None:
            return decay ** (depth - int(layer[1]))
        return decay ** (depth + 1) if re.search(r"(?:^|\.)embeddings\.", name) else 1.0

    return scale
