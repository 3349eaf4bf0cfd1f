"""Plot the loss of a run over its steps, with validations, as `loss.png`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..console import log_main
from ..errors import RunError
from ..filesystem import wrap_write_errors
from ..inference.figure_text import figure_fonts
from ..run_files import LOSS_CURVE_FILE, METRICS_FILE, read_jsonl, validation_history
from ..text import escape_non_utf8


def plot_loss_curve(output_dir: Path, *, title: str, baseline_name: str | None) -> None:
    """Draw loss.png from metrics.jsonl: each logged loss, a running mean, the baseline, and the validations.

    Args:
        output_dir: output folder of the run.
        title: title of the figure.
        baseline_name: what the metric `baseline` is, e.g. "predict the mean of each cube"; None: no line.
    """
    logged = read_jsonl(output_dir / METRICS_FILE)
    lines = [line for line in logged if line["loss"] is not None]
    if not lines:
        return
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    with figure_fonts([escape_non_utf8(title)]) as show:
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=1, label="loss of a step")
        axes.plot(steps, moving_average(losses), color="tab:blue", linewidth=2, label="running mean")
        baseline = mean_ignoring_none(line.get("baseline") for line in lines)
        if baseline is not None and baseline_name is not None:
            axes.axhline(baseline, color="tab:red", linestyle="--", label=f"{baseline_name}: {baseline:.3f}")
        axes.set(xlabel="step", ylabel="loss", title=show(escape_non_utf8(title)))
        axes.set_ylim(bottom=0, top=1.05 * axes.get_ylim()[1])  # from 0 on, a flat line has no margin
        axes.grid(alpha=0.3)
        _plot_validations(axes, validation_history(logged))
        axes.legend()
        temporary = output_dir / f".unfinished-{LOSS_CURVE_FILE}"
        try:
            with wrap_write_errors(LOSS_CURVE_FILE, output_dir, kind=RunError):
                figure.savefig(temporary, dpi=120, format="png")
                os.replace(temporary, output_dir / LOSS_CURVE_FILE)
        except RunError as error:  # the numbers are in metrics.jsonl
            temporary.unlink(missing_ok=True)
            log_main(f"warning: {error}")


def _plot_validations(axes: Any, history: list[tuple[int, float]]) -> None:
    """Plot the accuracy on a second axis on the right, and name it in the legend of the first axis."""
    if not history:
        return
    right, style = axes.twinx(), {"color": "tab:green", "marker": "o", "markersize": 4}
    right.plot(*zip(*history, strict=True), **style)
    right.set(ylabel="top-1 accuracy", ylim=(0, 1))
    axes.plot([], [], **style, label="validation (right)")


def moving_average(values: list[float], fraction: float = 0.05) -> list[float]:
    """Return the running mean over the last values (a fraction of all), over fewer at the start."""
    width = max(1, round(len(values) * fraction))
    return [sum(window := values[max(0, end - width) : end]) / len(window) for end in range(1, len(values) + 1)]


def mean_ignoring_none(values: Iterable[float | None]) -> float | None:
    """Return the mean of the numbers among some values, or None if there are none."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
