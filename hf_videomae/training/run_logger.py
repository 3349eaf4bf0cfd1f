"""Write the lines of JSON of a run while it trains."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from .. import run_files
from ..video import hdr


class RunLogger:
    """Write metrics.jsonl, nonfinite.jsonl and bad_videos.jsonl (main process), and samples-RANK.jsonl (each process).

    Args:
        output_dir: output folder of the run; it exists.
        rank: rank of this process.
        log_samples: whether to write the sample ids of every step.
        truncate_after: the step to resume from: lines of later steps are dropped. None: start with empty files.
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
        """Write what this process trained on in a step, if `log_samples` is set."""
        if self._samples is not None:
            self._samples.write({"step": step, "sample_ids": sample_ids})

    def write_metrics(self, values: dict[str, Any]) -> None:
        """Write a logged step."""
        if self.is_main:
            self._metrics.write(values)

    def write_nonfinite(self, values: dict[str, Any]) -> None:
        """Write a step that was not applied, with its samples."""
        if self.is_main:
            self._nonfinite_lines.write(values)

    def write_bad_videos(self, step: int, lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write videos that could not be decoded, each one once; return the new ones."""
        new: list[dict[str, Any]] = []
        for line in lines if self.is_main else ():
            if line["path"] not in self.bad_video_paths:
                self.bad_video_paths.add(line["path"])
                self._bad_videos.write({"step": step, **line})
                new.append(line)
        return new

    def flush_bad_videos(self, step: int, lines: Iterable[dict[str, Any]]) -> None:
        """Write the bad videos of a process that fails, because the main process can no longer gather them."""
        if self.is_main:
            self.write_bad_videos(step, lines)
            return
        path = self._output_dir / run_files.BAD_VIDEOS_FILE
        known = {line["path"] for line in run_files.read_jsonl(path)}
        for line in lines:
            if line["path"] not in known:
                known.add(line["path"])
                run_files.append_jsonl(path, {"step": step, **line})


def gather_bad_videos(bad_videos: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the bad videos of all processes, and count their HDR videos in this process too."""
    for names in gather_object([hdr.hdr_counter.names()]):
        hdr.hdr_counter.add(names)
    gathered: list[dict[str, str]] = gather_object(list(bad_videos))
    return gathered
