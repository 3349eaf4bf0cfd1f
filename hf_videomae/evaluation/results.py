"""Hold the result of an evaluation, and write it as files and tables.

Shapes: N videos, K classes of the model.
"""

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..cards.escaping import escape_to_one_line
from ..credentials import redact_credentials
from ..inference.figure_text import figure_fonts
from ..provenance import package_versions, utc_timestamp
from ..run_files import CONFUSION_FILE, EVALUATION_FILE, write_atomic, write_json
from .metrics import ClassScore, confusion_matrix, mean_class_accuracy, score_classes, top_k_accuracy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTIONS_FILE = "predictions.jsonl"
_NAME_LENGTH = 60  # characters of a class name in a table or figure
_MAX_NAMED_CLASSES, _MAX_NUMBERED_CLASSES = 40, 16  # the figure shows names, and counts, of at most so many classes
_Row = TypeVar("_Row")


@dataclass(frozen=True, kw_only=True)
class FailedVideo:
    """A video that could not be decoded."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class BaseEvaluation(ABC):
    """What a model answered for every video of a dataset, in the dataset's order.

    Attributes:
        sample_ids: N ids.
        labels: the true answer of each video, N rows.
        decoded: (N,) bool. The others are in `failed`.
        failed: the videos that could not be decoded.
        class_names: names of the model's K classes, or of a regression's outputs.
        views: how the views were cut.
        model: what was evaluated.
        data: the dataset it was evaluated on.
    """

    sample_ids: list[str]
    labels: Tensor
    decoded: Tensor
    failed: list[FailedVideo]
    class_names: list[str]
    views: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    failed_count_as: ClassVar[str] = "wrong"
    _failed_note: ClassVar[str] = "count as wrong"

    @property
    @abstractmethod
    def metrics(self) -> dict[str, float | None]:
        """Return the numbers for the whole dataset; None if one is not defined."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Return what else `evaluation.json` holds: the numbers of each class or output."""

    @abstractmethod
    def table(self, *, limit: int | None = 20) -> str:
        """Return a row for each class or output as text, only the worst if there are more than `limit`."""

    @abstractmethod
    def headline(self) -> str:
        """Return the metrics in words."""

    @abstractmethod
    def predictions(self) -> list[dict[str, Any]]:
        """Return the lines of `predictions.jsonl`, one per video."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `evaluation.json`, which model cards read."""
        counts = {"videos": len(self.sample_ids), "decoded": int(self.decoded.sum()), "failed": len(self.failed)}
        return {
            "views": self.views,
            "counts": counts,
            "metrics": self.metrics,
            "failed_videos": [asdict(video) for video in self.failed],
            "failed_count_as": self.failed_count_as,
            **self.details(),
            "model": self.model,
            "data": self.data,
            "date": utc_timestamp(),
            "versions": package_versions(),
        }

    def summary(self) -> str:
        """Return the metrics in one line, and the number of failed videos in another."""
        count = len(self.sample_ids)
        line = f"{self.headline()} on {count} videos, {self.views['temporal']}x{self.views['spatial']} views"
        if not self.failed:
            return line
        first = self.failed[0]
        return (
            f"{line}\n{len(self.failed)} of {count} videos could not be decoded and {self._failed_note}; the first is "
            f"{first.path} ({first.reason})"
        )

    def save(self, folder: str | os.PathLike[str], *, extra: dict[str, Any] | None = None) -> list[Path]:
        """Write `evaluation.json` and `predictions.jsonl`, and `confusion.png` for one class per video.

        Args:
            folder: the output folder, created if needed.
            extra: more entries for `evaluation.json`, such as the command.

        Returns:
            the files.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / EVALUATION_FILE, folder / PREDICTIONS_FILE]
        write_json(files[0], {**self.to_dict(), **(extra or {})})
        write_atomic(files[1], "".join(json.dumps(line) + "\n" for line in self.predictions()))
        return files


@dataclass(frozen=True, kw_only=True)
class Evaluation(BaseEvaluation):
    """The result of a classifier of one class per video.

    Attributes:
        labels: (N,) the model's index of each video's class.
        probabilities: (N, K) the mean of the views' softmax; zeros if the video was not decoded.
        logits: (N, K) the mean of the views' logits, likewise; the metrics do not use them.
    """

    probabilities: Tensor
    logits: Tensor

    @property
    def top1(self) -> float:
        """Return the share of videos whose class is the best answer."""
        return top_k_accuracy(self.probabilities, self.labels, decoded=self.decoded, k=1)

    @property
    def top5(self) -> float:
        """Return the share of videos whose class is among the five best answers."""
        return top_k_accuracy(self.probabilities, self.labels, decoded=self.decoded, k=5)

    @property
    def mean_class_accuracy(self) -> float:
        """Return the mean accuracy of the classes that have videos."""
        return mean_class_accuracy(self.probabilities, self.labels, decoded=self.decoded)

    @cached_property
    def confusion(self) -> Tensor:
        """Return (K, K) counts by true class (row) and answer (column), without the failed videos."""
        return confusion_matrix(self.probabilities, self.labels, decoded=self.decoded)

    @cached_property
    def classes(self) -> list[ClassScore]:
        """Return a row for each class that has videos."""
        return score_classes(self.probabilities, self.labels, decoded=self.decoded, class_names=self.class_names)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return top-1, top-5, mean class accuracy, and the standard error of top-1 for this number of videos."""
        top1 = self.top1
        return {
            "top1": top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "top1_standard_error": math.sqrt(top1 * (1 - top1) / len(self.sample_ids)),
        }

    def details(self) -> dict[str, Any]:
        """Return the numbers of each class, and the confusion matrix."""
        per_class = [{**asdict(row), "accuracy": row.accuracy} for row in self.classes]
        return {"per_class": per_class, "confusion": self._named_confusion()}

    def table(self, *, limit: int | None = 20) -> str:
        """Return the table of classes as text, only the worst if there are more than `limit`."""
        rows = self.classes
        shown = worst_rows(rows, lambda row: row.accuracy, limit=limit)
        width = max(len("class"), *(len(format_name(row.name)) for row in shown))
        lines = [f"{'class':{width}}  videos  failed  accuracy  most often mistaken for"]
        for row in shown:
            failed = row.failed or "-"
            lines.append(
                f"{format_name(row.name):{width}}  {row.videos:6d}  {failed:>6}  {row.accuracy:8.3f}  "
                f"{format_name(row.mistaken_for or '-')}"
            )
        if len(shown) < len(rows):
            lines.append(f"({len(shown)} of {len(rows)} classes, the worst; all are in {EVALUATION_FILE})")
        return "\n".join(lines)

    def headline(self) -> str:
        """Return the metrics in words."""
        mean = f"mean class accuracy {self.mean_class_accuracy:.4f}"
        return f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f}, {mean}"

    def save(self, folder: str | os.PathLike[str], *, extra: dict[str, Any] | None = None) -> list[Path]:
        """Write the files of every evaluation, and `confusion.png`."""
        figure = Path(folder) / CONFUSION_FILE
        files = [*super().save(folder, extra=extra), figure]
        self.draw_confusion(figure)
        return files

    def draw_confusion(self, path: str | os.PathLike[str]) -> None:
        """Draw the confusion matrix of the classes that occur; failed videos have a column of their own at the end."""
        answered = self.confusion.sum(0)
        videos = torch.bincount(self.labels, minlength=len(self.class_names))
        present_classes = ((videos > 0) | (answered > 0)).nonzero().flatten()
        counts = self.confusion[present_classes][:, present_classes]
        names = [format_name(self.class_names[index]) for index in present_classes.tolist()]
        columns = list(names)
        if self.failed:
            num_failed = torch.bincount(self.labels[~self.decoded], minlength=len(self.class_names))[present_classes]
            counts, columns = torch.cat([counts, num_failed[:, None]], dim=1), [*names, "(not decoded)"]
        with figure_fonts(names) as shown:
            figure = _draw_confusion_matrix(
                counts, videos[present_classes], rows=list(map(shown, names)), columns=list(map(shown, columns))
            )
            figure.axes[0].set_title(f"top-1 {self.top1:.3f}, {len(self.sample_ids)} videos")
            figure.savefig(path, dpi=120, format="png")

    def _named_confusion(self) -> dict[str, dict[str, int]]:
        """Return the counts by true class and answer, without zeros: 400 classes would give 160,000 numbers."""
        named: dict[str, dict[str, int]] = {}
        for row, column in self.confusion.nonzero().tolist():
            named.setdefault(self.class_names[row], {})[self.class_names[column]] = int(self.confusion[row, column])
        return named

    def predictions(self) -> list[dict[str, Any]]:
        """Return the true class and the five best answers of each video."""
        best = self.probabilities.topk(min(5, len(self.class_names)), dim=1)
        lines = []
        for row, sample_id in enumerate(self.sample_ids):
            answers = [
                {"label": self.class_names[index], "score": score}
                for score, index in zip(best.values[row].tolist(), best.indices[row].tolist(), strict=True)
            ]
            label = self.class_names[int(self.labels[row])]
            lines.append({"id": sample_id, "label": label, "predictions": answers if self.decoded[row] else None})
        return lines


def worst_rows(rows: Sequence[_Row], key: Callable[[_Row], float], *, limit: int | None) -> Sequence[_Row]:
    """Return all rows in their order, or the `limit` rows with the lowest keys if there are more."""
    return rows if limit is None or len(rows) <= limit else sorted(rows, key=key)[:limit]


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def format_name(name: str) -> str:
    """Return the name of a class or output for a table or figure: on one line, cut if it is very long."""
    line = escape_to_one_line(redact_credentials(name))
    return line if len(line) <= _NAME_LENGTH else f"{line[: _NAME_LENGTH - 1]}…"


def _draw_confusion_matrix(counts: Tensor, videos: Tensor, *, rows: list[str], columns: list[str]) -> "Figure":
    """Draw a confusion matrix.

    Args:
        counts: (K, K), or (K, K + 1) with the failed videos; they are drawn as shares of the row's videos.
        videos: (K,) number of videos of each class.
        rows, columns: the names.
    """
    from matplotlib.figure import Figure

    size = min(5 + 0.3 * len(rows), 16)
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / videos[:, None].clamp(min=1)
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class's videos")
    axes.set(xlabel="answer", ylabel="true class")
    if len(rows) <= _MAX_NAMED_CLASSES:
        axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
        axes.set_yticks(range(len(rows)), rows)
    if len(rows) <= _MAX_NUMBERED_CLASSES:
        for row, column in counts.nonzero().tolist():
            dark = shares[row, column] > 0.5
            text = str(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    return figure
