"""Hold the result for models that may give a video several classes: mean average precision, and F1 at a threshold.

The labels of a video that could not be decoded count as missed at every threshold.

Shapes: N videos, K classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..run_files import EVALUATION_FILE
from .results import BaseEvaluation, format_name, mean_of_defined, worst_rows

THRESHOLD = 0.5
_TOP_K = 5  # classes in a line of predictions.jsonl if fewer reach the threshold


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """The scores of one class that has videos.

    Attributes:
        name: the class.
        videos: number of videos that have it, including those that could not be decoded.
        failed: number of them that could not be decoded.
        average_precision: over all thresholds; see `average_precision`.
        precision: share of correct ones among the answers of 0.5 or more; None if there are none.
        recall: share of its videos with an answer of 0.5 or more.
        f1: harmonic mean of precision and recall.
    """

    name: str
    videos: int
    failed: int
    average_precision: float
    precision: float | None
    recall: float
    f1: float


def average_precision(scores: Tensor, labels: Tensor, *, decoded: Tensor) -> float | None:
    """Return the average precision of a class: the area under the stepwise precision-recall curve.

    It is the mean, over the videos that have the class, of the precision at the score of each. Videos with equal
    scores are counted together, so their order does not matter. A video that was not decoded counts 0.

    Example: the scores 0.9, 0.8, 0.7 of videos that have the class, do not, do. At 0.9 one of one answer is right, at
    0.7 two of three, so the average precision is (1 + 2/3) / 2.

    Args:
        scores: (N,) of one class.
        labels: (N,) bool, whether each video has it.
        decoded: (N,) bool.

    Returns:
        a number in [0, 1]; None if no video has the class.
    """
    if not labels.any():
        return None
    ranked, hits = (scores[chosen].double().sort().values for chosen in (decoded, decoded & labels))
    right, answered = (len(values) - torch.searchsorted(values, hits) for values in (hits, ranked))
    return float((right.double() / answered).sum() / labels.sum())


def f1_score(right: Tensor, wrong: Tensor, missed: Tensor) -> Tensor:
    """Return 2 right / (2 right + wrong + missed) for counts of any shape; 0 if all three are 0."""
    return 2 * right.double() / (2 * right + wrong + missed).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class MultiLabelEvaluation(BaseEvaluation):
    """The result of a model that may give a video several classes.

    A class that the dataset does not have counts as absent from every video.

    Attributes:
        labels: (N, K) bool, in the model's order of classes.
        probabilities: (N, K) the mean of the views' sigmoid; zeros if the video was not decoded.
        logits: (N, K) the mean of the views' logits, likewise; the metrics do not use them.
    """

    probabilities: Tensor
    logits: Tensor

    failed_count_as: ClassVar[str] = "wrong: none of their labels is found"

    @cached_property
    def classes(self) -> list[LabelScore]:
        """Return a row for each class that has videos, in the model's order."""
        right, wrong, missed = self._confusion_counts.tolist()
        rows = []
        for index in self._present_classes:
            labels, num_answers = self.labels[:, index], right[index] + wrong[index]
            precision = average_precision(self.probabilities[:, index], labels, decoded=self.decoded)
            assert precision is not None
            rows.append(
                LabelScore(
                    name=self.class_names[index],
                    videos=int(labels.sum()),
                    failed=int((labels & ~self.decoded).sum()),
                    average_precision=precision,
                    precision=right[index] / num_answers if num_answers else None,
                    recall=right[index] / (right[index] + missed[index]),
                    f1=float(f1_score(*self._confusion_counts[:, index])),
                )
            )
        return rows

    @property
    def classes_without_videos(self) -> list[str]:
        """Return the classes that no video has: they have no average precision and are left out of the means."""
        present = set(self._present_classes)
        return [name for index, name in enumerate(self.class_names) if index not in present]

    @property
    def mean_average_precision(self) -> float | None:
        """Return the mean of the average precision over the classes that have videos."""
        return mean_of_defined([row.average_precision for row in self.classes])

    @property
    def micro_f1(self) -> float:
        """Return F1 at 0.5 over all answers together."""
        return float(f1_score(*self._confusion_counts.sum(1)))

    @property
    def macro_f1(self) -> float | None:
        """Return the mean of F1 at 0.5 over the classes that have videos."""
        return mean_of_defined([row.f1 for row in self.classes])

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return mean average precision, micro and macro F1."""
        return {
            "mean_average_precision": self.mean_average_precision,
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
        }

    def details(self) -> dict[str, Any]:
        """Return the scores of each class, and the classes that were left out."""
        return {
            "threshold": THRESHOLD,
            "per_class": [asdict(row) for row in self.classes],
            "classes_without_videos": self.classes_without_videos,
        }

    def table(self, *, limit: int | None = 20) -> str:
        """Return the table of classes as text, only the worst if there are more than `limit`."""
        rows = worst_rows(self.classes, lambda row: row.average_precision, limit=limit)
        width = max([len("class"), *(len(format_name(row.name)) for row in rows)])
        lines = [f"{'class':{width}}  videos  failed  average precision  precision  recall      F1"]
        for row in rows:
            precision = "-" if row.precision is None else f"{row.precision:.3f}"
            lines.append(
                f"{format_name(row.name):{width}}  {row.videos:6d}  {row.failed or '-':>6}  "
                f"{row.average_precision:17.3f}  {precision:>9}  {row.recall:6.3f}  {row.f1:6.3f}"
            )
        if len(rows) < len(self.classes):
            lines.append(f"({len(rows)} of {len(self.classes)} classes, the worst; all are in {EVALUATION_FILE})")
        return "\n".join(lines)

    def headline(self) -> str:
        """Return the metrics in words, with the number of classes that they cover."""
        without = self.classes_without_videos
        if not self.classes:
            return f"no average precision (no video has any of the {len(without)} classes)"
        left_out = f" ({len(without)} without a video left out: {_join_names(without)})" if without else ""
        return (
            f"mAP {self.mean_average_precision:.4f} over {len(self.classes)} classes{left_out}, "
            f"F1 at {THRESHOLD:g}: micro {self.micro_f1:.4f}, macro {self.macro_f1:.4f}"
        )

    def predictions(self) -> list[dict[str, Any]]:
        """Return the true classes of each video, and its answers: the five best, or all of 0.5 or more."""
        lines = []
        for row, sample_id in enumerate(self.sample_ids):
            labels = [self.class_names[index] for index in self.labels[row].nonzero().flatten().tolist()]
            answers = self._answers(row) if self.decoded[row] else None
            lines.append({"id": sample_id, "labels": labels, "predictions": answers})
        return lines

    def _answers(self, row: int) -> list[dict[str, Any]]:
        scores = self.probabilities[row]
        count = max(min(_TOP_K, len(scores)), int((scores >= THRESHOLD).sum()))
        best = scores.topk(count)
        return [
            {"label": self.class_names[index], "score": score}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    @cached_property
    def _confusion_counts(self) -> Tensor:
        """Return (3, K) counts: right answers of 0.5 or more, wrong ones, and missed labels."""
        answers = (self.probabilities >= THRESHOLD) & self.decoded[:, None]
        return torch.stack(
            [(answers & self.labels).sum(0), (answers & ~self.labels).sum(0), (~answers & self.labels).sum(0)]
        )

    @property
    def _present_classes(self) -> list[int]:
        present: list[int] = self.labels.any(0).nonzero().flatten().tolist()
        return present


def _join_names(names: Sequence[str], *, shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
