"""Probe a frozen encoder: measure how much its features say about the class, without training the encoder.

There are three probes, from the plainest to the richest: k nearest neighbors (nothing is trained), a linear layer on
the pooled features (the paper's recipe, appendix), and an attentive probe (one learned query over all tokens), which
is fairer to a model that was never trained to give good averages. Frozen features of a masked autoencoder of pixels
are weak: 38.9 on Something-Something V2, where fine-tuning reaches 69.6 (paper, table 3).

Shapes: S training videos, Q test videos, V clips of each, N tokens of a clip, D width, K classes, B clips of a batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import DataError
from .frozen_features import FrozenFeatures

ProbeKind = Literal["linear", "attentive", "knn"]


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """The training settings of a probe.

    Attributes:
        optimizer: `sgd` or `adamw`.
        learning_rate: the peak, at `batch_size` videos per step.
        momentum: momentum of SGD.
        weight_decay: decay of all parameters but biases and norms.
        batch_size: videos per step; a smaller training set is one batch.
        epochs, warmup_epochs: linear warm-up from 0, then a cosine to 0, per step.
        standardize: first scale features to mean 0 and deviation 1 over the training set. This is a linear map, so
            the probe stays linear; the paper does not mention it.
        seed: seed of the probe's weights and the order of the videos.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 1024
    epochs: int = 100
    warmup_epochs: int = 10
    standardize: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number of 1 or more")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs}; it must lie between 0 and epochs {self.epochs}")


PAPER_LINEAR_CONFIG = ProbeConfig()
"""The paper's linear probe: SGD, learning rate 0.1, momentum 0.9, no decay, 1024 videos per step, 100 epochs."""
ATTENTIVE_CONFIG = ProbeConfig(
    optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, batch_size=128, epochs=50, warmup_epochs=5
)
"""The attentive probe, which the paper does not have."""


@dataclass(frozen=True)
class ProbeResult:
    """The answers of a probe on the test videos.

    Attributes:
        kind: the kind of probe.
        probabilities: (Q, K), the mean over a video's clips.
        labels: (Q,) class indices.
        sample_ids: Q names.
        class_names: K names.
        failed: test videos that could not be decoded; each counts as wrong.
        train_videos, train_failed: number of training videos that were used, and that could not be decoded.
    """

    kind: str
    probabilities: Tensor
    labels: Tensor
    sample_ids: list[str]
    class_names: list[str]
    failed: list[dict[str, Any]]
    train_videos: int
    train_failed: int

    @property
    def num_videos(self) -> int:
        """Return the number of test videos, including the failed ones."""
        return len(self.labels) + len(self.failed)

    def top(self, k: int) -> float:
        """Return the share of videos whose class is among the k most probable."""
        best = self.probabilities.topk(min(k, self.probabilities.shape[1])).indices
        return (best == self.labels[:, None]).any(1).sum().item() / self.num_videos

    @property
    def mean_class_accuracy(self) -> float:
        """Return the mean accuracy of the classes that have test videos."""
        right = self.probabilities.argmax(1) == self.labels
        shares = []
        for index in range(len(self.class_names)):
            failed = sum(entry["label"] == index for entry in self.failed)
            class_hits = right[self.labels == index]
            if len(class_hits) + failed:
                shares.append(class_hits.sum().item() / (len(class_hits) + failed))
        return sum(shares) / len(shares)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "probe": self.kind,
            "top1": self.top(1),
            "top5": self.top(5) if len(self.class_names) > 5 else None,
            "mean_class_accuracy": self.mean_class_accuracy,
            "videos": self.num_videos,
            "failed_videos": self.failed,
            "classes": self.class_names,
            "train_videos": self.train_videos,
            "train_failed": self.train_failed,
        }


def run_probe(
    kind: ProbeKind,
    train: FrozenFeatures,
    test: FrozenFeatures,
    *,
    training: ProbeConfig | None = None,
    num_neighbors: int = 20,
    temperature: float = 0.07,
    device: str | torch.device = "cpu",
    progress: Callable[[int, float], None] | None = None,
) -> ProbeResult:
    """Train a probe on one set of features and test it on another.

    Args:
        kind: `linear` and `knn` take pooled features (S, V, D), `attentive` tokens (S, V, N, D).
        train: features of the training videos; with several clips each epoch takes the next one.
        test: features of the test videos; the softmax of several clips is averaged.
        training: settings of the linear or attentive probe; None: `PAPER_LINEAR_CONFIG` or `ATTENTIVE_CONFIG`.
        num_neighbors, temperature: settings of `knn`; see `knn_probabilities`.
        device: where to train the probe.
        progress: called with the epoch and its mean loss.

    Raises:
        DataError: for fewer than two classes, or test classes that are not in the training set.
        ValueError: for features of the wrong shape.
    """
    test = test.relabel(train.class_names)
    if len(train.class_names) < 2 or train.labels.unique().numel() < 2:
        raise DataError("a probe needs videos of at least two classes to tell apart")
    _check_shapes(kind, train.features, test.features)
    if kind == "knn":
        settings: dict[str, Any] = {"num_neighbors": num_neighbors, "temperature": temperature}
        probabilities = knn_probabilities(
            train.features, train.labels, test.features, num_classes=len(train.class_names), **settings
        )
    else:
        training = training or (PAPER_LINEAR_CONFIG if kind == "linear" else ATTENTIVE_CONFIG)
        head = build_probe(kind, train.features, num_classes=len(train.class_names), training=training).to(device)
        train_probe(head, train.features, train.labels, training=training, progress=progress)
        probabilities = predict_probabilities(head, test.features, batch_size=training.batch_size)
    return ProbeResult(
        kind=kind,
        probabilities=probabilities,
        labels=test.labels,
        sample_ids=test.sample_ids,
        class_names=test.class_names,
        failed=test.failed,
        train_videos=len(train.labels),
        train_failed=len(train.failed),
    )


def _check_shapes(kind: str, train: Tensor, test: Tensor) -> None:
    num_dims = 4 if kind == "attentive" else 3
    for name, features in (("train", train), ("test", test)):
        if features.dim() != num_dims:
            form = (
                "(videos, clips, tokens, width): pool tokens or per_frame" if num_dims == 4 else "the mean of tokens"
            )
            raise ValueError(f"the {name} features have shape {tuple(features.shape)}; a {kind} probe wants {form}")
    if train.shape[-1] != test.shape[-1]:
        raise ValueError(
            f"train features are {train.shape[-1]} wide and test features {test.shape[-1]}; take both from one model"
        )


# The probes themselves.


class _Standardize(nn.Module):
    """Scales features: (x - mean) / std, with the statistics of the training set."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor, *, on: bool) -> None:
        super().__init__()
        width = features.shape[-1]
        flat = features.reshape(-1, width)
        # A constant feature says nothing; dividing it by its deviation would only amplify noise.
        mean = flat.float().mean(0) if on else torch.zeros(width)
        std = flat.float().std(0, correction=0) if on else torch.ones(width)
        self.register_buffer("mean", mean)
        self.register_buffer("std", torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, features: Tensor) -> Tensor:
        return (features.float() - self.mean) / self.std


class LinearProbe(nn.Module):
    """Maps pooled features (B, D) to logits (B, K)."""

    def __init__(self, features: Tensor, *, num_classes: int, standardize: bool = True) -> None:
        super().__init__()
        self.standardize = _Standardize(features, on=standardize)
        self.classifier = nn.Linear(features.shape[-1], num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.standardize(features))
        return logits


class AttentiveProbe(nn.Module):
    """Maps tokens (B, N, D) to logits (B, K): a learned query attends over them, then an MLP and a linear layer."""

    def __init__(self, features: Tensor, *, num_classes: int, standardize: bool = True) -> None:
        super().__init__()
        width = features.shape[-1]
        self.num_heads = max(heads for heads in range(1, max(width // 64, 1) + 1) if width % heads == 0)
        self.standardize = _Standardize(features, on=standardize)
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        keys, values = self.key_value(self.standardize(tokens)).chunk(2, -1)  # (B, N, D)
        query = self.query.expand(len(tokens), -1, -1)
        split = (self.num_heads, -1)
        parts = (part.unflatten(-1, split).transpose(1, 2) for part in (query, keys, values))
        pooled = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2).squeeze(1)  # (B, D)
        pooled = self.out(pooled)
        pooled = pooled + self.mlp(self.mlp_norm(pooled))
        logits: Tensor = self.classifier(self.norm(pooled))
        return logits


def build_probe(kind: ProbeKind, features: Tensor, *, num_classes: int, training: ProbeConfig) -> nn.Module:
    """Return a new seeded probe for features (S, V, ..., D); the global random state does not change."""
    module = LinearProbe if kind == "linear" else AttentiveProbe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return module(features, num_classes=num_classes, standardize=training.standardize)


def train_probe(
    head: nn.Module,
    features: Tensor,
    labels: Tensor,
    *,
    training: ProbeConfig,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Train a probe on features (S, V, ..., D) and labels (S,); epoch e takes clip e modulo V of every video."""
    device = next(head.parameters()).device
    optimizer = _optimizer(head, training)
    batch = min(training.batch_size, len(labels))
    steps = len(labels) // batch
    generator = torch.Generator().manual_seed(training.seed)
    head.train()
    for epoch in range(training.epochs):
        order = torch.randperm(len(labels), generator=generator)
        clip, total = epoch % features.shape[1], 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            lr_scale = learning_rate_scale(
                epoch * steps + step, total=training.epochs * steps, warmup=training.warmup_epochs * steps
            )
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * lr_scale
            loss = F.cross_entropy(head(features[chosen, clip].to(device)), labels[chosen].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item()
        if not math.isfinite(total):
            raise ValueError(f"the probe's loss is not finite in epoch {epoch + 1}; try a lower learning rate")
        if progress is not None:
            progress(epoch + 1, total / steps)


def learning_rate_scale(step: int, *, total: int, warmup: int) -> float:
    """Return the share of the peak learning rate at a step: linear from 0, then half a cosine toward 0."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def _optimizer(head: nn.Module, training: ProbeConfig) -> torch.optim.Optimizer:
    decayed = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in head.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=training.momentum)
    return torch.optim.AdamW(groups, lr=0.0)


@torch.inference_mode()
def predict_probabilities(head: nn.Module, features: Tensor, *, batch_size: int = 1024) -> Tensor:
    """Return the softmax of features (Q, V, ..., D), averaged over the clips of each video: (Q, K)."""
    device = next(head.parameters()).device
    head.eval()
    flat = features.flatten(0, 1)
    logits = torch.cat([head(part.to(device)).float().cpu() for part in flat.split(batch_size)])
    return logits.softmax(-1).unflatten(0, features.shape[:2]).mean(1)


def knn_probabilities(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    *,
    num_classes: int,
    num_neighbors: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Classify by the k nearest neighbors, weighted by the cosine similarity of centered features.

    A neighbor of similarity s votes for its class with exp(s / temperature). Example: with a temperature of 0.5 the
    similarities 1.0, 0.5 and 0.5 of classes a, b and b weigh 1, 0.37 and 0.37 (relative to the largest), so a gets
    1 / 1.74 of the votes.

    Args:
        train: (S, V, D), every clip a neighbor of its own.
        labels: (S,) class indices.
        test: (Q, V', D).
        num_classes: K.
        num_neighbors: k; all clips if there are fewer.
        temperature: of the votes.

    Returns:
        (Q, K) shares of the votes, the mean over a video's clips.
    """
    if num_neighbors < 1 or temperature <= 0:
        raise ValueError(f"num_neighbors is {num_neighbors} and temperature {temperature}; give 1 or more and above 0")
    clips = train.flatten(0, 1).float()
    center = clips.mean(0)
    train_features = F.normalize(clips - center, dim=-1)  # (S * V, D)
    classes = F.one_hot(labels.repeat_interleave(train.shape[1]), num_classes).float()
    votes = []
    for queries in F.normalize(test.flatten(0, 1).float() - center, dim=-1).split(1024):
        similarity, nearest = (queries @ train_features.T).topk(min(num_neighbors, len(train_features)))
        weights = ((similarity - 1) / temperature).exp()  # the largest is 1: nothing overflows
        votes.append((weights[..., None] * classes[nearest]).sum(1))
    total_votes = torch.cat(votes)
    shares = total_votes / total_votes.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return shares.unflatten(0, test.shape[:2]).mean(1)
