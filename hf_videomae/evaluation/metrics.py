"""Numbers from scores. A video that could not be decoded is a wrong answer in all of them.

Shapes: N videos, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: how many videos it has, how many were recognised, how many failed to decode.

    Attributes:
        name: of the class.
        videos: of this class, the failed ones included.
        correct: of them.
        failed: of them.
        mistaken_for: the most frequent wrong answer, where there is one.
    """

    name: str
    videos: int
    correct: int
    failed: int
    mistaken_for: str | None

    @property
    def accuracy(self) -> float:
        """Share of all its videos."""
        return self.correct / self.videos


def top_k_accuracy(scores: Tensor, labels: Tensor, *, decoded: Tensor, k: int = 1) -> float:
    """Share of the videos whose class is among the `k` best.

    Args:
        scores: (N, K).
        labels: (N,) classes.
        decoded: (N,) bool; the rest count as wrong.
        k: taken as K where it is larger.
    """
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices  # (N, k)
    hits = (best == labels[:, None]).any(1) & decoded
    return hits.double().mean().item()


def confusion_matrix(scores: Tensor, labels: Tensor, *, decoded: Tensor) -> Tensor:
    """(K, K) counts, row: true class, column: best class. Videos that were not decoded are in no column."""
    num_classes = scores.shape[1]
    cells = labels[decoded] * num_classes + scores[decoded].argmax(1)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def mean_class_accuracy(scores: Tensor, labels: Tensor, *, decoded: Tensor) -> float:
    """The mean over classes (those with videos) of each one's accuracy: rare classes count like frequent ones."""
    videos = torch.bincount(labels, minlength=scores.shape[1])
    correct = confusion_matrix(scores, labels, decoded=decoded).diagonal()
    present = videos > 0
    return (correct[present].double() / videos[present]).mean().item()


def score_classes(scores: Tensor, labels: Tensor, *, decoded: Tensor, class_names: Sequence[str]) -> list[ClassScore]:
    """A row for each class that has videos, in the model's order."""
    videos = torch.bincount(labels, minlength=scores.shape[1])
    failed = torch.bincount(labels[~decoded], minlength=scores.shape[1])
    confusion = confusion_matrix(scores, labels, decoded=decoded)
    wrong = confusion.clone().fill_diagonal_(0)
    rows = []
    for number in videos.nonzero().flatten().tolist():
        other = int(wrong[number].argmax())
        rows.append(
            ClassScore(
                name=class_names[number],
                videos=int(videos[number]),
                correct=int(confusion[number, number]),
                failed=int(failed[number]),
                mistaken_for=class_names[other] if wrong[number, other] > 0 else None,
            )
        )
    return rows
