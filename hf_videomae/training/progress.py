"""Show the progress of a run, as a bar on a terminal or as plain lines, and measure its throughput."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..console import is_main_process, log_main
from ..data.stage_timer import bottleneck
from ..video import hdr
from .distributed import available_cores

# Fractions of time spent waiting for data from which on the slowest stage is named, and advice is given.
_MIN_NAMED_WAIT, _MIN_ADVICE_WAIT = 0.05, 0.1
_MIN_SHOWN_SECONDS = 0.05

_STAGE_NAMES = {
    "read": "reading the shards",
    "fetch": "fetching single videos",
    "decode": "decoding",
    "transform": "crops and augmentation",
    "collate": "putting batches together",
}
_REMEDIES = {
    "read": "--cache_dir keeps the shards of a Hub dataset on a disk here, from the second epoch on",
    "fetch": "{workers}; `hf-videomae prepare` makes shards of single files",
    "decode": "{workers}; `hf-videomae prepare` makes videos that decode faster",
    "transform": "{workers}",
    "collate": "{workers}",
}


class ThroughputStats(NamedTuple):
    """What a `ThroughputMeter` measured since the last reading.

    Attributes:
        seconds: that passed.
        clips_per_second: clips per second of this process.
        data_wait: fraction of the time that this process waited for data, in [0, 1].
        data_seconds: seconds of each loading stage, as `hf_videomae.data.Loader.seconds` counts them.
    """

    seconds: float
    clips_per_second: float
    data_wait: float
    data_seconds: dict[str, float]


class ThroughputMeter:
    """Measure clips per second, the fraction of time spent waiting for data, and the time of each loading stage."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0
        self._clips = 0
        self._data: dict[str, float] = {}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside the block as waiting for data."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time inside the block."""
        begun = time.perf_counter()
        yield
        self._start += time.perf_counter() - begun

    def count(self, clips: int) -> None:
        """Add the clips that a step used."""
        self._clips += clips

    def read(self, data: Mapping[str, float]) -> ThroughputStats:
        """Return what was measured in this process since the last reading; `data` is the current `Loader.seconds`."""
        passed = max(time.perf_counter() - self._start, 1e-9)
        parts = {part: value - self._data.get(part, 0.0) for part, value in data.items()}
        reading = ThroughputStats(passed, self._clips / passed, min(self._waited / passed, 1.0), parts)
        self._start, self._waited, self._clips = time.perf_counter(), 0.0, 0
        self._data = dict(data)
        return reading


class ProgressBar:
    """Show a bar, or one line per logged step, in the main process.

    Args:
        total: number of steps of the run.
        start: steps already done.
        bar: whether to show a bar that redraws itself; None: only if the error stream is a terminal.
    """

    def __init__(self, total: int, *, start: int = 0, bar: bool | None = None) -> None:
        self._total, self._start, self._start_time = total, start, time.perf_counter()
        self._bar: Any = None
        if is_main_process() and (sys.stderr.isatty() if bar is None else bar):
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, smoothing=0.05)

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update(1)

    def show(self, metrics: dict[str, Any]) -> None:
        """Show the metrics of a logged step (the keys of metrics.jsonl)."""
        if self._bar is not None:
            self._bar.set_postfix_str(_format_metrics(metrics))
        elif is_main_process():
            left = self._seconds_left(metrics["step"])
            place = f"step {metrics['step']}/{self._total}"
            log_main(f"{place}  {_format_metrics(metrics)}  lr {metrics['lr']:.2e}  left {_format_duration(left)}")

    def write(self, message: str) -> None:
        """Print a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(message)
        else:
            log_main(message)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _seconds_left(self, step: int) -> float:
        done = max(step - self._start, 1)
        return (time.perf_counter() - self._start_time) / done * (self._total - step)


def _format_metrics(metrics: dict[str, Any]) -> str:
    loss = "not finite" if metrics["loss"] is None else f"{metrics['loss']:.4f}"
    part = bottleneck(metrics.get("data_seconds", {})) if metrics["data_wait"] >= _MIN_NAMED_WAIT else None
    waited = f"data {100 * metrics['data_wait']:.0f} %{'' if part is None else f' ({part})'}"
    return f"loss {loss}  {metrics['clips_per_second']:.1f} clips/s  {waited}"


def describe_data_wait(data_wait: float, data_seconds: Mapping[str, float], *, num_workers: int) -> list[str]:
    """Return how long a run waited for its data and which stages took the time; if it waited long, what to do.

    Args:
        data_wait: fraction of the time, in [0, 1].
        data_seconds: seconds of each loading stage.
        num_workers: workers of each training process.
    """
    parts = ", ".join(f"{part} {value:.1f} s" for part, value in data_seconds.items() if value >= _MIN_SHOWN_SECONDS)
    lines = [f"waited for data {100 * data_wait:.0f} % of the time{f' ({parts})' if parts else ''}"]
    part = bottleneck(data_seconds)
    if data_wait > _MIN_ADVICE_WAIT and part is not None:
        workers = f"more --num_workers ({num_workers} now, {available_cores()} cores here)"
        lines.append(f"{_STAGE_NAMES[part]} took most of it: {_REMEDIES[part].format(workers=workers)}")
    return lines


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def hdr_video_notes() -> list[str]:
    """Return a line about the HDR videos that the run has read, if there were any."""
    names = hdr.hdr_counter.names()
    return [f"note: {hdr.describe_hdr_videos(names)}"] if names else []
