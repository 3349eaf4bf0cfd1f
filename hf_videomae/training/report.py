"""The files that tell what a run did: lines of JSON, run.json and the loss picture."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..inference.figure_text import figure_fonts
from ..records import command_line, hardware, now, read_json, readable, versions, write_json, write_whole
from ..storage import writing
from .errors import RunError, say

__all__ = [
    "JsonLines",
    "append_line",
    "command_line",
    "draw_loss",
    "hardware",
    "mean_of",
    "now",
    "read_lines",
    "read_run",
    "run_id_in",
    "running_mean",
    "status_of",
    "validations",
    "versions",
    "write_json",
]

METRICS_FILE = "metrics.jsonl"
RUN_FILE = "run.json"
PICTURE_FILE = "loss.png"
BAD_VIDEOS_FILE = "bad_videos.jsonl"
NOT_FINITE_FILE = "nonfinite.jsonl"
PUBLISHED_FILE = "published.jsonl"
ACCURACY = "eval_top1"
"""The accuracy of a validation in `metrics.jsonl`."""


class JsonLines:
    """A file of one JSON object per line, written through at once.

    A run that goes on from step n first drops the lines of later steps: it will write them again.
    """

    def __init__(self, path: Path, *, keep_until: int | None = None) -> None:
        self.path = path
        if keep_until is None:
            path.unlink(missing_ok=True)
        elif path.exists():
            kept = [json.dumps(line) + "\n" for line in read_lines(path) if line.get("step", 0) <= keep_until]
            with writing(path.name, path.parent, kind=RunError):
                write_whole(path, "".join(kept))

    def write(self, values: dict[str, Any]) -> None:
        """Append one object."""
        append_line(self.path, values)


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Append one object to a file of JSON lines, which another process may append to as well."""
    with writing(path.name, path.parent, kind=RunError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines; the last may have been cut by a kill and is then left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    result = []
    for number, line in enumerate(lines):
        try:
            result.append(json.loads(line))
        except ValueError:
            if number != len(lines) - 1:
                raise RunError(f"{path}, line {number + 1}, is not JSON; repair or move the file away") from None
    return result


def read_run(output_dir: Path) -> dict[str, Any]:
    """Read `run.json` of an output directory; it is empty where there is none.

    Raises:
        RunError: when it is damaged.
    """
    path = output_dir / RUN_FILE
    remedy = "remove it, or start anew with --overwrite"
    return read_json(path, remedy=remedy, kind=RunError) if path.exists() else {}


def status_of(output_dir: Path) -> str | None:
    """What `run.json` says of a run: running, stopped, finished or failed."""
    status = read_run(output_dir).get("status")
    return status if isinstance(status, str) else None


def run_id_in(output_dir: Path) -> str | None:
    """The id of the run whose `run.json` lies in a directory."""
    found = read_run(output_dir).get("run_id")
    return found if isinstance(found, str) else None


def validations(lines: Iterable[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, top-1 accuracy) of the lines of `metrics.jsonl` that hold a validation."""
    return [(line["step"], line[ACCURACY]) for line in lines if ACCURACY in line]


# The loss picture.


def draw_loss(output_dir: Path, *, title: str, baseline_name: str | None) -> None:
    """loss.png from metrics.jsonl: each logged loss, a running mean, and the loss of the simplest prediction.

    Validations have an axis of their own, on the right.

    Args:
        output_dir: of the run.
        title: headline.
        baseline_name: what the metric `baseline` is, e.g. "predict the mean of each cube"; None: no line.
    """
    logged = read_lines(output_dir / METRICS_FILE)
    lines = [line for line in logged if line["loss"] is not None]
    if not lines:
        return
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    with figure_fonts([readable(title)]) as show:
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=1, label="loss of a step")
        axes.plot(steps, running_mean(losses), color="tab:blue", linewidth=2, label="running mean")
        baseline = mean_of(line.get("baseline") for line in lines)
        if baseline is not None and baseline_name is not None:
            axes.axhline(baseline, color="tab:red", linestyle="--", label=f"{baseline_name}: {baseline:.3f}")
        axes.set(xlabel="step", ylabel="loss", title=show(readable(title)))
        axes.set_ylim(bottom=0, top=1.05 * axes.get_ylim()[1])  # from 0 on, the margin around a flat line is none
        axes.grid(alpha=0.3)
        _draw_validations(axes, validations(logged))
        axes.legend()
        temporary = output_dir / f".unfinished-{PICTURE_FILE}"
        try:
            with writing(PICTURE_FILE, output_dir, kind=RunError):
                figure.savefig(temporary, dpi=120, format="png")
                os.replace(temporary, output_dir / PICTURE_FILE)
        except RunError as error:  # the numbers are in metrics.jsonl
            temporary.unlink(missing_ok=True)
            say(f"warning: {error}")


def _draw_validations(axes: Any, found: list[tuple[int, float]]) -> None:
    """The accuracy over the steps, on an axis on the right; its name is in the legend of the left."""
    if not found:
        return
    right, style = axes.twinx(), {"color": "tab:green", "marker": "o", "markersize": 4}
    right.plot(*zip(*found, strict=True), **style)
    right.set(ylabel="top-1 accuracy", ylim=(0, 1))
    axes.plot([], [], **style, label="validation (right)")


def running_mean(values: list[float], share: float = 0.05) -> list[float]:
    """The mean over the last few values (a share of all), shorter at the start."""
    width = max(1, round(len(values) * share))
    return [sum(window := values[max(0, end - width) : end]) / len(window) for end in range(1, len(values) + 1)]


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers among some values."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
