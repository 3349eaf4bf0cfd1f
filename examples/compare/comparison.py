"""Compare several ways to train over several seeds: means, standard errors, a table and a figure."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_videomae.inference.figure_text import figure_fonts


@dataclass(frozen=True)
class ComparisonRow:
    """The accuracies of one way to train.

    Attributes:
        name: name of the way.
        values: one accuracy per seed, in [0, 1].
        is_baseline: whether it is drawn in another color, as nothing was pre-trained or fine-tuned for it.
    """

    name: str
    values: tuple[float, ...]
    is_baseline: bool = False

    def __post_init__(self) -> None:
        if not self.values or not all(0 <= value <= 1 for value in self.values):
            raise ValueError(f"{self.name} has the accuracies {self.values}; give one or more between 0 and 1")


def mean_and_standard_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error (sample deviation / square root of n); a single value has no error."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)


def paired_difference(first: ComparisonRow, second: ComparisonRow) -> tuple[float, float | None]:
    """Return by how much the first is above the second: the mean difference per seed, and its standard error.

    Raises:
        ValueError: for rows of different numbers of seeds.
    """
    if len(first.values) != len(second.values):
        raise ValueError(
            f"{first.name} has {len(first.values)} seeds and {second.name} {len(second.values)}; compare equal numbers"
        )
    return mean_and_standard_error([left - right for left, right in zip(first.values, second.values, strict=True)])


def binomial_standard_error(accuracy: float, count: int) -> float:
    """Return the standard error of an accuracy that comes from the number of test videos alone."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def format_mean_and_error(values: Sequence[float]) -> str:
    """Format values as `0.512 ± 0.013`, or one value as `0.512`."""
    mean, error = mean_and_standard_error(values)
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"


def markdown_table(entries: Sequence[ComparisonRow], *, seeds: Sequence[int], first_column: str = "") -> str:
    """Return a table of all rows: a column per seed, and the mean with its standard error if there are several."""
    several = len(seeds) > 1
    heads = [first_column, *(f"seed {seed}" for seed in seeds), *(["mean ± standard error"] if several else [])]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for entry in entries:
        # A deterministic baseline has one value for all seeds.
        values = entry.values if len(entry.values) == len(seeds) else entry.values[:1] * len(seeds)
        cells = [
            entry.name,
            *(f"{value:.3f}" for value in values),
            *([format_mean_and_error(entry.values)] if several else []),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_comparison(entries: Sequence[ComparisonRow], path: Path, *, title: str, chance: float) -> None:
    """Draw a bar for each row with its seeds as dots and its standard error, and a line at chance."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    with figure_fonts([title, *(entry.name for entry in entries)]) as show:
        figure = Figure(figsize=(8, 0.55 * len(entries) + 1.6), layout="constrained")
        axes = figure.subplots()
        for row, entry in enumerate(entries):
            mean, error = mean_and_standard_error(entry.values)
            color = "tab:gray" if entry.is_baseline else "tab:blue"
            axes.barh(row, mean, xerr=error, color=color, alpha=0.6, height=0.65, capsize=4)
            axes.plot(entry.values, [row] * len(entry.values), "o", color="black", markersize=3)
            axes.text(
                max(mean + (error or 0), *entry.values) + 0.015,
                row,
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
