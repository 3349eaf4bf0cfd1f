"""Where a process stands before a step, so that a step which a signal interrupts leaves no trace."""

import random
from typing import Any

import numpy as np
import torch

from .preparation import Loader


class StepStart:
    """The position in the data and the generators of this process before a step.

    Attributes:
        stream: position of the loader.
    """

    def __init__(self, loader: Loader) -> None:
        self.stream: dict[str, Any] = loader.state_dict()
        # As they are: this happens before every step.
        self._torch, self._numpy, self._python = torch.get_rng_state(), np.random.get_state(), random.getstate()
        uses_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._cuda = torch.cuda.get_rng_state() if uses_cuda else None

    def restore_generators(self) -> None:
        """Bring the generators back to where they were."""
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)
