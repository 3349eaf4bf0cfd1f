"""Where a process stands before a step, so that a step which a signal interrupts leaves no trace."""

from typing import Any

from torch import Tensor

from .checkpoints import generator_state
from .preparation import Loader


class StepStart:
    """The position in the data and the generators of this process before a step.

    Attributes:
        stream: of the loader.
        generators: for `restore_generators`.
    """

    def __init__(self, loader: Loader) -> None:
        self.stream: dict[str, Any] = loader.state_dict()
        self.generators: tuple[dict[str, Tensor], dict[str, Any]] = generator_state()
