"""Compute losses in float32, whatever the model computes in."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

ReconstructionLoss = Literal["mse", "l1", "smooth_l1"]
RECONSTRUCTION_LOSSES: tuple[str, ...] = get_args(ReconstructionLoss)


def reconstruction_loss(
    prediction: Tensor, target: Tensor, *, kind: str = "mse", weight: Tensor | None = None
) -> Tensor:
    """Return the distance between predicted and true pixels (MSE in the paper; L1 and smooth L1 in its table 1f).

    Args:
        prediction: (B, M, P * C).
        target: (B, M, P * C).
        kind: `mse`, `l1` or `smooth_l1` (beta 1).
        weight: (B, M) of zeros and ones: which tokens count; None: all.

    Returns:
        scalar float32, the mean over the tokens that count.

    Raises:
        ValueError: for an unknown `kind`.
    """
    functions = {"mse": nn.functional.mse_loss, "l1": nn.functional.l1_loss, "smooth_l1": nn.functional.smooth_l1_loss}
    if kind not in functions:
        raise ValueError(f"reconstruction loss {kind!r} is not known; choose one of {', '.join(functions)}")
    if weight is None:
        return functions[kind](prediction.float(), target.float())
    per_token = functions[kind](prediction.float(), target.float(), reduction="none").mean(-1)
    weight = weight.to(per_token.dtype)
    return (per_token * weight).sum() / weight.sum().clamp(min=1)


def soft_target_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy against a distribution (mixup, label smoothing).

    Args:
        logits: (B, K).
        target: (B, K), rows summing to 1.

    Returns:
        scalar float32, the mean over the batch.
    """
    return torch.sum(-target.float() * logits.float().log_softmax(-1), dim=-1).mean()


def classification_loss(
    logits: Tensor, labels: Tensor, *, problem_type: str | None = None, num_items: Tensor | int | None = None
) -> Tensor:
    """Return the classifier's loss. The configuration decides its kind: a soft label stays a single-label problem.

    Args:
        logits: (B, K).
        labels: (B,) class numbers; or (B, K) a distribution over classes (mixup); or, by `problem_type`, (B, K) zeros
            and ones (`multi_label_classification`) or (B,) / (B, K) numbers (`regression`, also for K = 1).
        problem_type: `single_label_classification`, `multi_label_classification`, `regression` or None.
        num_items: number of labels other than -100 in all batches that are summed; the loss is then this batch's part
            of their mean.

    Returns:
        scalar float32, the mean over the batch.

    Raises:
        ValueError: for labels of a wrong shape or range.
    """
    loss = _mean_loss(logits.float(), labels, problem_type)
    if num_items is None:
        return loss
    counted = labels.ne(-100).sum()
    return torch.where(counted > 0, loss, 0.0) * counted / num_items


def _mean_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    num_labels = logits.shape[-1]
    if problem_type == "regression" or (problem_type is None and num_labels == 1):
        return nn.functional.mse_loss(logits, _reshape_like(labels, logits).float())
    if problem_type == "multi_label_classification":
        return nn.functional.binary_cross_entropy_with_logits(logits, _reshape_like(labels, logits).float())
    if labels.is_floating_point():
        return soft_target_cross_entropy(logits, _reshape_like(labels, logits))
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; wanted ({logits.shape[0]},): one class per clip")
    if not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        low, high = int(labels.min()), int(labels.max())
        if low < -100 or high >= num_labels or -100 < low < 0:
            raise ValueError(
                f"labels run from {low} to {high}, but the head has the classes 0 to {num_labels - 1}: "
                f"load the model with num_labels={high + 1}, or check the labels"
            )
    return nn.functional.cross_entropy(logits, labels.long())


def _reshape_like(labels: Tensor, logits: Tensor) -> Tensor:
    if labels.numel() != logits.numel():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; wanted {tuple(logits.shape)} for this kind of problem"
        )
    return labels.reshape(logits.shape)
