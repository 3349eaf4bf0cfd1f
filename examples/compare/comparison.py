"""Several ways to train, several seeds: means, standard errors, one table and one picture."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_videomae.inference.figure_text import figure_fonts


@dataclass(frozen=True)
class ComparisonRow:
    """One way to do it.

    Attributes:
        name: of the row.
        values: one accuracy per seed, in [0, 1].
        is_baseline: drawn apart, because nothing was pre-trained or fine-tuned for it.
    """

    name: str
    values: tuple[float, ...]
    is_baseline: bool = False

    def __post_init__(self) -> None:
        if not self.values or not all(0 <= value <= 1 for value in self.values):
            raise ValueError(f"{self.name} has the accuracies {self.values}; give one or more between 0 and 1")


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error (sample deviation / square root of n); no error of a single value."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)


def paired_difference(first: ComparisonRow, second: ComparisonRow) -> tuple[float, float | None]:
    """How much the first is above the second: mean of the differences seed by seed, and its standard error.

    Raises:
        ValueError: for rows of different seeds.
    """
    if len(first.values) != len(second.values):
        raise ValueError(
            f"{first.name} has {len(first.values)} seeds and {second.name} {len(second.values)}; compare equal numbers"
        )
    return mean_and_standard_error([left - right for left, right in zip(first.values, second.values, strict=True)])


def binomial_standard_error(accuracy: float, count: int) -> float:
    """The standard error that the number of test videos alone gives."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def format_mean_and_error(values: Sequence[float]) -> str:
    """`0.512 ± 0.013`, or `0.512` of one value."""
    mean, error = mean_and_standard_error(values)
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"


def markdown_table(entries: Sequence[ComparisonRow], *, seeds: Sequence[int], first_column: str = "") -> str:
    """A table of all rows: a column per seed, and the mean with its standard error where there are several."""
    several = len(seeds) > 1
    heads = [first_column, *(f"seed {seed}" for seed in seeds), *(["mean ± standard error"] if several else [])]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for entry in entries:
        # A baseline without chance in it has one value for all seeds.
        values = entry.values if len(entry.values) == len(seeds) else entry.values[:1] * len(seeds)
        cells = [
            entry.name,
            *(f"{value:.3f}" for value in values),
            *([format_mean_and_error(entry.values)] if several else []),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_comparison(entries: Sequence[ComparisonRow], path: Path, *, title: str, chance: float) -> None:
    """A bar for each row with its seeds as dots and its standard error, and a line at chance."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    with figure_fonts([title, *(entry.name for entry in entries)]) as show:
        figure = Figure(figsize=(8, 0.55 * len(entries) + 1.6), layout="constrained")
        axes = figure.subplots()
        for place, entry in enumerate(entries):
            mean, error = mean_and_standard_error(entry.values)
            color = "tab:gray" if entry.is_baseline else "tab:blue"
            axes.barh(place, mean, xerr=error, color=color, alpha=0.6, height=0.65, capsize=4)
            axes.plot(entry.values, [place] * len(entry.values), "o", color="black", markersize=3)
            axes.text(
                max(mean + (error or 0), *entry.values) + 0.015,
                place,
                format_mean_and_error(entry.values),
                va="center",
            )
        axes.axvline(chance, color="tab:red", linestyle="--", linewidth=1, label=f"chance: {chance:.3f}")
        axes.set_yticks(range(len(entries)), [show(entry.name) for entry in entries])
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.15), xlabel="accuracy on test videos (top-1)", title=show(title))
        axes.set_xticks([tick / 5 for tick in range(6)])
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="lower right")
        temporary = path.with_name(f".unfinished-{path.name}")
        figure.savefig(temporary, dpi=120, format="png")
    os.replace(temporary, path)


__all__ = [
    "ComparisonRow",
    "paired_difference",
    "binomial_standard_error",
    "draw_comparison",
    "markdown_table",
    "mean_and_standard_error",
    "format_mean_and_error",
]
