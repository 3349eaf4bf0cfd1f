"""What a person sees while training: a bar on a terminal, plain lines elsewhere; and the clock behind its numbers."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import is_main_process


class Clock:
    """Clips per second and the share of time spent waiting for data, since the last reading."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0
        self._clips = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for data."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time inside counts for nothing."""
        begun = time.perf_counter()
        yield
        self._start += time.perf_counter() - begun

    def count(self, clips: int) -> None:
        """Clips that a step used."""
        self._clips += clips

    def read(self) -> tuple[float, float]:
        """(clips per second, share of waiting in [0, 1]) of this process, and start anew."""
        passed = max(time.perf_counter() - self._start, 1e-9)
        result = self._clips / passed, min(self._waited / passed, 1.0)
        self._start, self._waited, self._clips = time.perf_counter(), 0.0, 0
        return result


class Progress:
    """One bar or one line per logged step, from the first process.

    Args:
        total: steps of the run.
        start: steps already done.
        bar: a bar that redraws itself; None: where the error stream is a terminal.
    """

    def __init__(self, total: int, *, start: int = 0, bar: bool | None = None) -> None:
        self._total, self._start, self._begun = total, start, time.perf_counter()
        self._bar: Any = None
        if is_main_process() and (sys.stderr.isatty() if bar is None else bar):
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, smoothing=0.05)

    def advance(self) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.update(1)

    def show(self, metrics: dict[str, Any]) -> None:
        """The numbers of a logged step (the keys of metrics.jsonl)."""
        if self._bar is not None:
            self._bar.set_postfix_str(_numbers(metrics))
        elif is_main_process():
            left = self._seconds_left(metrics["step"])
            place = f"step {metrics['step']}/{self._total}"
            print(f"{place}  {_numbers(metrics)}  lr {metrics['lr']:.2e}  left {_clock(left)}", flush=True)

    def say(self, message: str) -> None:
        """A line that does not break the bar."""
        if self._bar is not None:
            self._bar.write(message)
        elif is_main_process():
            print(message, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _seconds_left(self, step: int) -> float:
        done = max(step - self._start, 1)
        return (time.perf_counter() - self._begun) / done * (self._total - step)


def _numbers(metrics: dict[str, Any]) -> str:
    loss = "not finite" if metrics["loss"] is None else f"{metrics['loss']:.4f}"
    return f"loss {loss}  {metrics['clips_per_second']:.1f} clips/s  data {100 * metrics['data_wait']:.0f} %"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
