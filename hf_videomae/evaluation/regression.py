"""Hold the result for models that predict numbers: errors and correlation of each output.

A video that could not be decoded has no error: it is left out, and the result says how many were.

Shapes: N videos, n of them decoded, K outputs.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from .results import BaseEvaluation, format_name, mean_of_defined, worst_rows


@dataclass(frozen=True, kw_only=True)
class OutputScore:
    """The errors of one output.

    Attributes:
        name: the output.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        r2: share of the variance explained: 1 is perfect, 0 is as good as always answering the mean of the true
            numbers, less is worse; None if all true numbers are the same.
        pearson: correlation; None if all true numbers or all answers are the same.
    """

    name: str
    mae: float
    rmse: float
    r2: float | None
    pearson: float | None


def score_output(values: Tensor, labels: Tensor, *, name: str) -> OutputScore:
    """Return the errors of one output.

    Args:
        values: (n,) answers, 1 or more.
        labels: (n,) true numbers.
        name: the output.
    """
    values, labels = values.double(), labels.double()
    error = values - labels
    answered, true = values - values.mean(), labels - labels.mean()
    # Compare the extremes: rounding gives equal numbers a variance that is not quite 0.
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
    """The result of a model that predicts numbers.

    Attributes:
        labels: (N, K) true numbers.
        values: (N, K) the mean of the views' answers; zeros if the video was not decoded.
    """

    values: Tensor

    failed_count_as: ClassVar[str] = "left out"
    _failed_note: ClassVar[str] = "are left out, as they have no error"

    @cached_property
    def outputs(self) -> list[OutputScore]:
        """Return a row for each output."""
        values, labels = self.values[self.decoded], self.labels[self.decoded]
        return [
            score_output(values[:, index], labels[:, index], name=name) for index, name in enumerate(self.class_names)
        ]

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return MAE, RMSE, R2 and Pearson's correlation, each averaged over the outputs for which it is defined."""
        names = ("mae", "rmse", "r2", "pearson")
        return {name: mean_of_defined([getattr(row, name) for row in self.outputs]) for name in names}

    def details(self) -> dict[str, Any]:
        """Return the errors of each output."""
        return {"per_output": [asdict(row) for row in self.outputs]}

    def table(self, *, limit: int | None = 20) -> str:
        """Return the table of outputs as text, only those of the largest errors if there are more than `limit`."""
        rows = worst_rows(self.outputs, lambda row: -row.mae, limit=limit)
        width = max(len("output"), *(len(format_name(row.name)) for row in rows))
        lines = [f"{'output':{width}}  {'MAE':>10}  {'RMSE':>10}  {'R2':>10}  {'Pearson':>10}"]
        for row in rows:
            numbers = "  ".join(f"{_format_number(value):>10}" for value in (row.mae, row.rmse, row.r2, row.pearson))
            lines.append(f"{format_name(row.name):{width}}  {numbers}")
        return "\n".join(lines)

    def headline(self) -> str:
        """Return the metrics in words."""
        names = {"mae": "MAE", "rmse": "RMSE", "r2": "R2", "pearson": "Pearson"}
        mean = "" if len(self.outputs) == 1 else f"mean of {len(self.outputs)} outputs: "
        return mean + ", ".join(f"{names[name]} {_format_number(value)}" for name, value in self.metrics.items())

    def predictions(self) -> list[dict[str, Any]]:
        """Return the true numbers and the answers of each video."""
        lines = []
        for row, sample_id in enumerate(self.sample_ids):
            answer = self._by_output(self.values[row]) if self.decoded[row] else None
            lines.append({"id": sample_id, "label": self._by_output(self.labels[row]), "prediction": answer})
        return lines

    def _by_output(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self.class_names, values.tolist(), strict=True))


def _format_number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5g}"
