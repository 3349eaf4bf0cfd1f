"""The result for models that predict numbers: errors and correlation of each output.

A video that could not be decoded has no error: it is left out, and how many were is said.

Shapes: N videos, n of them decoded, K outputs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from ..cards.escaping import escape_to_one_line
from .results import BaseEvaluation


@dataclass(frozen=True, kw_only=True)
class OutputScore:
    """How near one output comes.

    Attributes:
        name: of the output.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        r2: share of the variance explained: 1 is perfect, 0 is what the mean of the true numbers gives, less is
            worse; None where all true numbers are the same.
        pearson: correlation; None where all true numbers or all answers are the same.
    """

    name: str
    mae: float
    rmse: float
    r2: float | None
    pearson: float | None


def score_output(values: Tensor, labels: Tensor, *, name: str) -> OutputScore:
    """The score of one output.

    Args:
        values: (n,) answers, 1 or more.
        labels: (n,) true numbers.
        name: of the output.
    """
    values, labels = values.double(), labels.double()
    error = values - labels
    answered, true = values - values.mean(), labels - labels.mean()
    # By the extremes: rounding leaves equal numbers a variance that is not quite 0.
    labels_vary = bool(labels.min() < labels.max())
    both_vary = labels_vary and bool(values.min() < values.max())
    return OutputScore(
        name=name,
        mae=float(error.abs().mean()),
        rmse=float(error.square().mean().sqrt()),
        r2=float(1 - error.square().sum() / true.square().sum()) if labels_vary else None,
        pearson=float((answered * true).sum() / (answered.norm() * true.norm())) if both_vary else None,
    )


@dataclass(frozen=True, kw_only=True)
class RegressionEvaluation(BaseEvaluation):
    """What a model of numbers answered.

    Attributes:
        labels: (N, K) true numbers.
        values: (N, K) the mean of the views' answers; zeros where the video was not decoded.
    """

    values: Tensor

    failed_count_as: ClassVar[str] = "left out"
    _failed_note: ClassVar[str] = "are left out, as they have no error"

    @cached_property
    def outputs(self) -> list[OutputScore]:
        """A row for each output."""
        values, labels = self.values[self.decoded], self.labels[self.decoded]
        return [
            score_output(values[:, number], labels[:, number], name=name)
            for number, name in enumerate(self.class_names)
        ]

    @property
    def metrics(self) -> dict[str, float | None]:
        """MAE, RMSE, R2 and Pearson's correlation; of several outputs the mean over those where each is defined."""
        names = ("mae", "rmse", "r2", "pearson")
        return {name: _mean_of_defined([getattr(row, name) for row in self.outputs]) for name in names}

    def details(self) -> dict[str, Any]:
        """Each output."""
        return {"per_output": [asdict(row) for row in self.outputs]}

    def table(self, *, limit: int | None = 20) -> str:
        """The outputs as text, those of the largest error where there are more than `limit`."""
        rows = self.outputs
        if limit is not None and len(rows) > limit:
            rows = sorted(rows, key=lambda row: -row.mae)[:limit]
        width = max(len("output"), *(len(escape_to_one_line(row.name)) for row in rows))
        lines = [f"{'output':{width}}  {'MAE':>10}  {'RMSE':>10}  {'R2':>10}  {'Pearson':>10}"]
        for row in rows:
            numbers = "  ".join(f"{_format_number(value):>10}" for value in (row.mae, row.rmse, row.r2, row.pearson))
            lines.append(f"{escape_to_one_line(row.name):{width}}  {numbers}")
        return "\n".join(lines)

    def headline(self) -> str:
        """The metrics in words."""
        found = self.metrics
        mean = "" if len(self.outputs) == 1 else f"mean of {len(self.outputs)} outputs: "
        return (
            f"{mean}MAE {_format_number(found['mae'])}, RMSE {_format_number(found['rmse'])}, R2 {_format_number(found['r2'])}, "
            f"Pearson {_format_number(found['pearson'])}"
        )

    def predictions(self) -> list[dict[str, Any]]:
        """The true numbers and the answers of each video."""
        lines = []
        for number, sample_id in enumerate(self.sample_ids):
            answer = self._by_output(self.values[number]) if self.decoded[number] else None
            lines.append({"id": sample_id, "label": self._by_output(self.labels[number]), "prediction": answer})
        return lines

    def _by_output(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self.class_names, values.tolist(), strict=True))


def _mean_of_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _format_number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5g}"
