"""The result for models that may see several classes in a video: mean average precision, and F1 at a threshold.

The labels of a video that could not be decoded are never found, at any threshold.

Shapes: N videos, K classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..cards.escaping import escape_to_one_line
from ..run_files import EVALUATION_FILE
from .results import BaseEvaluation

THRESHOLD = 0.5
_TOP_K = 5  # classes in a line of predictions.jsonl, where fewer reach the threshold


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One class that has videos.

    Attributes:
        name: of the class.
        videos: that have it, the failed ones included.
        failed: of them.
        average_precision: over all thresholds; see the function.
        precision: share of the answers of 0.5 or more that are right; None where there is none.
        recall: share of its videos that are answered with 0.5 or more.
        f1: harmonic mean of both.
    """

    name: str
    videos: int
    failed: int
    average_precision: float
    precision: float | None
    recall: float
    f1: float


def average_precision(scores: Tensor, labels: Tensor, *, decoded: Tensor) -> float | None:
    """The mean over the videos of a class of the precision at each one's score: the area under the step-wise curve.

    Videos of one score are taken together, so their order plays no part. A video that was not decoded counts 0.

    Args:
        scores: (N,) of one class.
        labels: (N,) bool, whether each video has it.
        decoded: (N,) bool.

    Returns:
        in [0, 1]; None where no video has the class.
    """
    if not labels.any():
        return None
    ranked, hits = (scores[chosen].double().sort().values for chosen in (decoded, decoded & labels))
    right, answered = (len(values) - torch.searchsorted(values, hits) for values in (hits, ranked))
    return float((right.double() / answered).sum() / labels.sum())


def f1_score(right: Tensor, wrong: Tensor, missed: Tensor) -> Tensor:
    """2 right / (2 right + wrong + missed), of any shape; 0 where there is nothing at all."""
    return 2 * right.double() / (2 * right + wrong + missed).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class MultiLabelEvaluation(BaseEvaluation):
    """What a model of several classes per video answered.

    A class that the data set does not know counts as absent from every video.

    Attributes:
        labels: (N, K) bool, in the model's order of classes.
        probabilities: (N, K) the mean of the views' sigmoid; zeros where the video was not decoded.
        logits: (N, K) the mean of the views' logits, likewise; the metrics do not use them.
    """

    probabilities: Tensor
    logits: Tensor

    failed_count_as: ClassVar[str] = "wrong: none of their labels is found"

    @cached_property
    def classes(self) -> list[LabelScore]:
        """A row for each class that has videos, in the model's order."""
        right, wrong, missed = self._confusion_counts.tolist()
        rows = []
        for number in self._present_classes:
            labels, answers = self.labels[:, number], right[number] + wrong[number]
            precision = average_precision(self.probabilities[:, number], labels, decoded=self.decoded)
            assert precision is not None
            rows.append(
                LabelScore(
                    name=self.class_names[number],
                    videos=int(labels.sum()),
                    failed=int((labels & ~self.decoded).sum()),
                    average_precision=precision,
                    precision=right[number] / answers if answers else None,
                    recall=right[number] / (right[number] + missed[number]),
                    f1=float(f1_score(*self._confusion_counts[:, number])),
                )
            )
        return rows

    @property
    def classes_without_videos(self) -> list[str]:
        """Classes that no video has, which have no average precision: left out of the means over classes."""
        present = set(self._present_classes)
        return [name for number, name in enumerate(self.class_names) if number not in present]

    @property
    def mean_average_precision(self) -> float | None:
        """The mean over the classes that have videos."""
        return _mean([row.average_precision for row in self.classes])

    @property
    def micro_f1(self) -> float:
        """F1 at 0.5 of all answers together."""
        return float(f1_score(*self._confusion_counts.sum(1)))

    @property
    def macro_f1(self) -> float | None:
        """The mean of F1 at 0.5 over the classes that have videos."""
        return _mean([row.f1 for row in self.classes])

    @property
    def metrics(self) -> dict[str, float | None]:
        """Mean average precision, micro and macro F1."""
        return {
            "mean_average_precision": self.mean_average_precision,
            "micro_f1": self.micro_f1,
            "macro_f1": self.macro_f1,
        }

    def details(self) -> dict[str, Any]:
        """Each class, and those that had to be left out."""
        return {
            "threshold": THRESHOLD,
            "per_class": [asdict(row) for row in self.classes],
            "classes_without_videos": self.classes_without_videos,
        }

    def table(self, *, limit: int | None = 20) -> str:
        """The per-class table as text, the worst classes first where there are more than `limit`."""
        rows = self.classes
        if limit is not None and len(rows) > limit:
            rows = sorted(rows, key=lambda row: row.average_precision)[:limit]
        width = max(len("class"), *(len(escape_to_one_line(row.name)) for row in rows)) if rows else len("class")
        lines = [f"{'class':{width}}  videos  failed  average precision  precision  recall      F1"]
        for row in rows:
            precision = "-" if row.precision is None else f"{row.precision:.3f}"
            lines.append(
                f"{escape_to_one_line(row.name):{width}}  {row.videos:6d}  {row.failed or '-':>6}  "
                f"{row.average_precision:17.3f}  {precision:>9}  {row.recall:6.3f}  {row.f1:6.3f}"
            )
        if len(rows) < len(self.classes):
            lines.append(f"({len(rows)} of {len(self.classes)} classes, the worst; all are in {EVALUATION_FILE})")
        return "\n".join(lines)

    def headline(self) -> str:
        """The metrics in words, with the number of classes that they are of."""
        without = self.classes_without_videos
        if not self.classes:
            return f"no average precision (no video has any of the {len(without)} classes)"
        left = f" ({len(without)} without a video left out: {_join_names(without)})" if without else ""
        return (
            f"mAP {self.mean_average_precision:.4f} over {len(self.classes)} classes{left}, "
            f"F1 at {THRESHOLD:g}: micro {self.micro_f1:.4f}, macro {self.macro_f1:.4f}"
        )

    def predictions(self) -> list[dict[str, Any]]:
        """The true classes of each video, and its answers: the five best, or all of 0.5 and more."""
        lines = []
        for number, sample_id in enumerate(self.sample_ids):
            labels = [self.class_names[place] for place in self.labels[number].nonzero().flatten().tolist()]
            answers = self._answers(number) if self.decoded[number] else None
            lines.append({"id": sample_id, "labels": labels, "predictions": answers})
        return lines

    def _answers(self, number: int) -> list[dict[str, Any]]:
        scores = self.probabilities[number]
        count = max(min(_TOP_K, len(scores)), int((scores >= THRESHOLD).sum()))
        best = scores.topk(count)
        return [
            {"label": self.class_names[place], "score": score}
            for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    @cached_property
    def _confusion_counts(self) -> Tensor:
        """(3, K) answers of 0.5 or more that are right, those that are wrong, and labels that are missed."""
        answers = (self.probabilities >= THRESHOLD) & self.decoded[:, None]
        return torch.stack(
            [(answers & self.labels).sum(0), (answers & ~self.labels).sum(0), (~answers & self.labels).sum(0)]
        )

    @property
    def _present_classes(self) -> list[int]:
        present: list[int] = self.labels.any(0).nonzero().flatten().tolist()
        return present


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _join_names(names: Sequence[str], *, shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
