"""Ctrl-C and SIGTERM ask for a stop; the run finishes its step, saves, and leaves."""

import os
import signal
from types import FrameType
from typing import Any

_LAUNCHER_MARKS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")


class StopSignal:
    """Remembers that a stop was asked for. A second Ctrl-C interrupts at once.

    A launcher that is gone counts as SIGTERM: `accelerate launch` does not hand signals on to a single process, which
    would train on without anybody knowing.
    """

    def __init__(self) -> None:
        self.number = 0
        self._previous: dict[int, Any] = {}
        self._launcher = os.getppid() if any(mark in os.environ for mark in _LAUNCHER_MARKS) else None

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def asked(self) -> int:
        """The signal that asked for a stop, or 0."""
        if not self.number and self._launcher is not None and os.getppid() != self._launcher:
            self.number = signal.SIGTERM
        return self.number

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number


def name_of(number: int) -> str:
    """What people call a signal."""
    return {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}.get(
        signal.Signals(number), signal.Signals(number).name
    )
