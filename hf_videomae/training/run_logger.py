"""The lines of JSON that a run writes while it goes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import run_files
from ..video import hdr
from . import loss_curve


class RunLogger:
    """metrics.jsonl, nonfinite.jsonl and bad_videos.jsonl of the first process, samples-RANK.jsonl of each.

    Args:
        output_dir: of the run; it exists.
        rank: of this process.
        log_samples: write the ids of every step's samples.
        truncate_after: the step that the run goes on from: lines of later steps are dropped. None: start anew.
    """

    def __init__(self, output_dir: Path, *, rank: int, log_samples: bool, truncate_after: int | None) -> None:
        def open_lines(name: str) -> run_files.JsonlWriter:
            return run_files.JsonlWriter(output_dir / name, truncate_after=truncate_after)

        self.is_main, self._output_dir = rank == 0, output_dir
        self._samples = open_lines(f"samples-{rank}.jsonl") if log_samples else None
        self.bad_video_paths: set[str] = set()
        if self.is_main:
            self._metrics = open_lines(run_files.METRICS_FILE)
            self._nonfinite_lines = open_lines(run_files.NONFINITE_FILE)
            self._bad_videos = open_lines(run_files.BAD_VIDEOS_FILE)
            self.bad_video_paths = {line["path"] for line in run_files.read_jsonl(self._bad_videos.path)}

    def write_samples(self, step: int, sample_ids: list[str]) -> None:
        """What a step was trained on in this process, where that was asked for."""
        if self._samples is not None:
            self._samples.write({"step": step, "sample_ids": sample_ids})

    def metrics(self, values: dict[str, Any]) -> None:
        """A logged step."""
        if self.is_main:
            self._metrics.write(values)

    def write_nonfinite(self, values: dict[str, Any]) -> None:
        """A step that was not applied, and the samples it saw."""
        if self.is_main:
            self._nonfinite_lines.write(values)

    def bad_videos(self, step: int, lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Videos that could not be decoded; each is written once. Returns those that are new."""
        new: list[dict[str, Any]] = []
        for line in lines if self.is_main else ():
            if line["path"] not in self.bad_video_paths:
                self.bad_video_paths.add(line["path"])
                self._bad_videos.write({"step": step, **line})
                new.append(line)
        return new

    def flush_bad_videos(self, step: int, lines: Iterable[dict[str, Any]]) -> None:
        """The bad videos of a process that fails: the first one cannot gather them any more."""
        if self.is_main:
            self.bad_videos(step, lines)
            return
        path = self._output_dir / run_files.BAD_VIDEOS_FILE
        known = {line["path"] for line in run_files.read_jsonl(path)}
        for line in lines:
            if line["path"] not in known:
                known.add(line["path"])
                run_files.append_jsonl(path, {"step": step, **line})


def summary(output_dir: Path) -> tuple[float | None, float | None]:
    """The loss of a run, the mean over the last twentieth of its logged steps, and the mean of its baseline."""
    lines = run_files.read_jsonl(output_dir / run_files.METRICS_FILE)
    last = lines[-max(1, len(lines) // 20) :]
    return loss_curve.mean_ignoring_none(line["loss"] for line in last), loss_curve.mean_ignoring_none(
        line.get("baseline") for line in lines
    )


def data_loading_times(output_dir: Path) -> tuple[float, dict[str, float]]:
    """Of a whole run, over its interruptions: the share of time that its first process waited for data, and the
    seconds that this data took, by part."""
    lines = [line for line in run_files.read_jsonl(output_dir / run_files.METRICS_FILE) if "data_seconds" in line]
    seconds = sum(line["seconds"] for line in lines)
    waited = sum(line["seconds"] * line["data_wait"] for line in lines)
    parts: dict[str, float] = {}
    for line in lines:
        parts.update({part: parts.get(part, 0.0) + value for part, value in line["data_seconds"].items()})
    return round(waited / max(seconds, 1e-9), 4), {part: round(value, 3) for part, value in parts.items()}


def best_validation(output_dir: Path) -> dict[str, Any] | None:
    """The validation of the highest top-1 accuracy, the last of equals; None where there was none."""
    found = run_files.validation_history(run_files.read_jsonl(output_dir / run_files.METRICS_FILE))
    if not found:
        return None
    step, accuracy = max(reversed(found), key=lambda pair: pair[1])
    return {"step": step, "top1": accuracy}


def gather_bad_videos(bad_videos: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the bad videos of all processes; HDR videos that other processes met are counted in this one too."""
    from accelerate.utils import gather_object

    for found in gather_object([hdr.hdr_counter.names()]):
        hdr.hdr_counter.add(found)
    gathered: list[dict[str, str]] = gather_object(list(bad_videos))
    return gathered
