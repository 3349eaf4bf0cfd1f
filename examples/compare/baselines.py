"""Compute baselines of a comparison: what a single frame gives, and what a video's shape and length give away.

Shapes: S training videos, Q test videos, F features, K classes, B clips, T frames.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_videomae.data import Sample, Source
from hf_videomae.video.decoding import open_video
from hf_videomae.video.transforms import center_crop, resize, to_float


@contextmanager
def repeat_middle_frame(model: nn.Module) -> Iterator[None]:
    """Let the model see only the middle frame of every clip within the block, repeated over the clip's length.

    What it still gets right is in a single image and not in the motion. Evaluate with one view: several views would
    show it several frames.
    """

    def pre_hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if "pixel_values" in kwargs:
            return args, {**kwargs, "pixel_values": expand_middle_frame(kwargs["pixel_values"])}
        return (expand_middle_frame(args[0]), *args[1:]), kwargs

    handle = model.register_forward_pre_hook(pre_hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def expand_middle_frame(pixel_values: Tensor) -> Tensor:
    """Return clips (B, T, C, H, W) with the middle frame everywhere."""
    middle = pixel_values.shape[1] // 2
    return pixel_values[:, middle : middle + 1].expand_as(pixel_values).contiguous()


def video_geometry(source: Source, indices: Sequence[int]) -> Tensor:
    """Return the aspect ratio (width / height) and the number of frames of some videos, (S, 2).

    In clips that were cut by hand they often give the class away, and a model that squashes frames, or sees the whole
    of every video, may read them.
    """
    rows = []
    for index in indices:
        sample = source[index]
        with open_video(sample.source, name=sample.id) as reader:
            rows.append([reader.width / reader.height, float(reader.num_frames)])
    return torch.tensor(rows, dtype=torch.float64)


def middle_frame_features(source: Source, indices: Sequence[int]) -> Tensor:
    """Return 8 x 8 gray values and 4 x 4 x 8 gradient histograms of the middle frame's center square, (S, 192)."""
    return torch.stack([_frame_features(source[index]) for index in indices])


def _frame_features(sample: Sample) -> Tensor:
    with open_video(sample.source, name=sample.id) as reader:
        frame = reader.frames([reader.num_frames // 2])
    side = min(frame.shape[-2:])
    gray = to_float(resize(center_crop(frame, (side, side)), (66, 66))).mean(1)[0].double()  # (66, 66)
    dx, dy = gray[1:-1, 2:] - gray[1:-1, :-2], gray[2:, 1:-1] - gray[:-2, 1:-1]  # (64, 64)
    direction = (torch.atan2(dy, dx) % math.pi * (8 / math.pi)).long().clamp(max=7)
    strength = nn.functional.one_hot(direction, 8) * (dx.square() + dy.square()).sqrt()[..., None]
    cells = strength.unflatten(0, (4, 16)).unflatten(2, (4, 16)).sum((1, 3)).flatten()  # 4 x 4 cells x 8 directions
    pixels = gray[1:-1, 1:-1].unflatten(0, (8, 8)).unflatten(2, (8, 8)).mean((1, 3)).flatten()
    return torch.cat((pixels - pixels.mean(), cells / cells.norm().clamp_min(1e-12)))


def kernel_ridge(
    train: Tensor, labels: Tensor, test: Tensor, *, num_classes: int, gamma: float = 0.3, ridge: float = 0.1
) -> Tensor:
    """Classify standardized features by kernel ridge regression on class indicators, with a Gaussian kernel.

    Args:
        train: (S, F).
        labels: (S,) class indices.
        test: (Q, F).
        num_classes: K.
        gamma: of the kernel exp(-gamma d^2), where d^2 is the squared distance per two features.
        ridge: the regularization. Of gammas from 0.1 to 10 and ridges from 0.01 to 10 the defaults are the best for
            the geometry of the UT-Interaction folds *on their test clips*, so the choice favors the baseline.

    Returns:
        (Q,) predicted class indices.
    """
    mean, std = train.double().mean(0), train.double().std(0, correction=0)
    std = torch.where(std > 1e-12, std, torch.ones_like(std))
    train_scaled, test_scaled = ((rows.double() - mean) / std for rows in (train, test))
    one_hot_labels = nn.functional.one_hot(labels, num_classes).double()
    offset = one_hot_labels.mean(0)
    kernel = _gaussian(train_scaled, train_scaled, gamma) + ridge * torch.eye(len(train_scaled), dtype=torch.float64)
    weights = torch.linalg.solve(kernel, one_hot_labels - offset)
    return (_gaussian(test_scaled, train_scaled, gamma) @ weights + offset).argmax(1)


def _gaussian(left: Tensor, right: Tensor, gamma: float) -> Tensor:
    """Return the kernel (Q, S) between rows (Q, F) and (S, F)."""
    return (-gamma * torch.cdist(left, right).square() * (2 / left.shape[1])).exp()
