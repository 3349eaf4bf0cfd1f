"""Remember data position and random state before a step, so that a step without data can be rolled back.

A process that gets no batch, because a signal ended the wait for it or the data failed, must not leave at once: the
others would wait for it in the middle of their step. All processes learn about it when the losses are gathered, and
none applies that step. The checkpoint then holds the state before the step, so a resumed run draws the same samples
and random numbers as one that was never interrupted.
"""

import random
from typing import Any

import numpy as np
import torch


class StepSnapshot:
    """The position in the data and the random generators of this process before a step.

    Attributes:
        stream: position in the data, from `state_dict` of the loader.
    """

    def __init__(self, stream: dict[str, Any]) -> None:
        self.stream = stream
        # Not converted for a file (`capture_rng_state`), because this happens before every step.
        self._torch, self._numpy, self._python = torch.get_rng_state(), np.random.get_state(), random.getstate()
        uses_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._cuda = torch.cuda.get_rng_state() if uses_cuda else None

    def restore_rng_state(self) -> None:
        """Restore the random generators."""
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)
