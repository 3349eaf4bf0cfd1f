"""Count what a run has done, and gather what one step did in all processes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass
class TrainState:
    """How far a run is, the same in all processes. Checkpoints store it.

    Attributes:
        step: steps done, including the ones that were not applied.
        clips: clips seen by all processes; with `--on_bad_video skip` batches may be smaller than `--batch_size`.
        skipped_steps: steps that were not applied because the loss or the gradient was not finite.
        skipped_in_a_row: how many of them came in a row, up to now.
        seconds: training time before this process started.
    """

    step: int = 0
    clips: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any]) -> "TrainState":
        """Read the counters from the content of `run_state.json`."""
        return cls(**{field.name: saved[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class StepStats:
    """What one step did, over all processes.

    Attributes:
        losses: the loss of each process.
        grad_norm: the mean gradient norm.
        clips: clips of all processes.
        signal_number: the signal that asked a process to stop, or 0.
        all_have_batch: whether every process got all batches of the step; otherwise the step must be rolled back.
    """

    losses: list[float]
    grad_norm: float
    clips: int
    signal_number: int
    all_have_batch: bool

    @property
    def loss(self) -> float:
        """Return the mean loss over the processes."""
        return sum(self.losses) / len(self.losses)

    @property
    def is_finite(self) -> bool:
        """Return whether loss and gradient are finite, so that the step may be applied."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def gather_step_stats(
    accelerator: Accelerator, loss: Tensor, *, grad_norm: float, clips: int, signal_number: int, has_batch: bool
) -> StepStats:
    """Combine what this process saw in a step with what the others saw. Called in all processes.

    Args:
        accelerator: of the run.
        loss: mean loss of this process, a scalar on its device.
        grad_norm: gradient norm in this process.
        clips: clips that this process used.
        signal_number: the signal that this process got, or 0.
        has_batch: whether this process got all its batches.
    """
    mine = torch.stack((loss, *loss.new_tensor([signal_number, grad_norm, clips, has_batch])))
    losses, signals, norms, counts, have_batch = zip(*accelerator.gather(mine[None]).tolist(), strict=True)
    return StepStats(
        losses=list(losses),
        grad_norm=sum(norms) / len(norms),
        clips=int(sum(counts)),
        signal_number=int(max(signals)),
        all_have_batch=all(have_batch),
    )
