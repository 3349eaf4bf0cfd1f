"""Describe how a run ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainResult:
    """Describe how a run ended.

    Attributes:
        step: the last step done.
        exit_code: 0, or 128 + the signal that stopped it.
        loss: the mean of the last logged losses.
        baseline: the mean of the task's baseline.
    """

    step: int
    exit_code: int
    loss: float | None = None
    baseline: float | None = None
