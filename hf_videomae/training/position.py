"""Where a process stands before a step, so that a step without data leaves no trace.

A process that gets no batch, because a signal ended the wait for it or the data failed, must not leave at once: the
others would wait for it in the middle of their step. All learn of it with the losses, and none applies that step. What
is saved then is the state before the step, so a resumed run draws the same samples and numbers as one that was never
interrupted.
"""

from typing import Any

from torch import Tensor

from .checkpoints import generator_state


class StepStart:
    """The position in the data and the generators of this process before a step.

    Attributes:
        stream: position in the data, by the loader's `state_dict`.
        generators: for `restore_generators`.
    """

    def __init__(self, stream: dict[str, Any]) -> None:
        self.stream = stream
        self.generators: tuple[dict[str, Tensor], dict[str, Any]] = generator_state()
