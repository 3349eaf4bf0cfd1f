"""Compute accuracies and the confusion matrix from scores. A video that could not be decoded counts as wrong.

Shapes: N videos, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """The accuracy of one class.

    Attributes:
        name: the class.
        videos: number of its videos, including those that could not be decoded.
        correct: number of them with a correct answer.
        failed: number of them that could not be decoded.
        mistaken_for: the most frequent wrong answer, if any.
    """

    name: str
    videos: int
    correct: int
    failed: int
    mistaken_for: str | None

    @property
    def accuracy(self) -> float:
        """Return the share of correct answers among all videos of the class."""
        return self.correct / self.videos


def top_k_accuracy(scores: Tensor, labels: Tensor, *, decoded: Tensor, k: int = 1) -> float:
    """Return the share of videos whose class is among the `k` best.

    Args:
        scores: (N, K).
        labels: (N,) class indices.
        decoded: (N,) bool; the other videos count as wrong.
        k: number of answers; all K if it is larger.
    """
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices  # (N, k)
    hits = (best == labels[:, None]).any(1) & decoded
    return hits.double().mean().item()


def confusion_matrix(scores: Tensor, labels: Tensor, *, decoded: Tensor) -> Tensor:
    """Count the videos by true class (row) and best class (column), (K, K); videos not decoded are left out."""
    num_classes = scores.shape[1]
    cells = labels[decoded] * num_classes + scores[decoded].argmax(1)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def mean_class_accuracy(scores: Tensor, labels: Tensor, *, decoded: Tensor) -> float:
    """Return the mean accuracy of the classes that have videos: rare classes count like frequent ones."""
    videos = torch.bincount(labels, minlength=scores.shape[1])
    correct = confusion_matrix(scores, labels, decoded=decoded).diagonal()
    present = videos > 0
    return (correct[present].double() / videos[present]).mean().item()


def score_classes(scores: Tensor, labels: Tensor, *, decoded: Tensor, class_names: Sequence[str]) -> list[ClassScore]:
    """Return a row for each class that has videos, in the model's order."""
    videos = torch.bincount(labels, minlength=scores.shape[1])
    failed = torch.bincount(labels[~decoded], minlength=scores.shape[1])
    confusion = confusion_matrix(scores, labels, decoded=decoded)
    wrong = confusion.clone().fill_diagonal_(0)
    rows = []
    for index in videos.nonzero().flatten().tolist():
        answer = int(wrong[index].argmax())
        rows.append(
            ClassScore(
                name=class_names[index],
                videos=int(videos[index]),
                correct=int(confusion[index, index]),
                failed=int(failed[index]),
                mistaken_for=class_names[answer] if wrong[index, answer] > 0 else None,
            )
        )
    return rows
