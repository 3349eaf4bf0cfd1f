"""Average the weights of a model over the training steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of the trained parameters of a model, in float32.

    After each step, average = decay * average + (1 - decay) * weights, starting from the initial weights. It covers
    about the last 1 / (1 - decay) steps (0.9999: 10,000), so a run must be several times that long.

    Args:
        model: its parameters that require gradients are averaged.
        decay: in [0, 1), e.g. 0.9999.

    Attributes:
        tensors: parameter name -> average.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the average is {decay}; give a number from 0 to below 1, e.g. 0.9999")
        self.decay = decay
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.tensors = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average."""
        averages, weights = list(self.tensors.values()), [value.float() for value in self._parameters.values()]
        torch._foreach_lerp_(averages, weights, 1 - self.decay)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load saved averages."""
        if tensors.keys() != self.tensors.keys():
            different = sorted(tensors.keys() ^ self.tensors.keys())
            raise ValueError(
                f"the saved average is of another model: {different[0]} and {len(different) - 1} more differ"
            )
        for name, value in tensors.items():
            self.tensors[name].copy_(value)

    @contextmanager
    @torch.no_grad()
    def average_parameters(self) -> Iterator[None]:
        """Give the model the average as its weights inside the block."""
        current = {name: value.detach().clone() for name, value in self._parameters.items()}
        try:
            for name, value in self._parameters.items():
                value.copy_(self.tensors[name])
            yield
        finally:
            for name, value in self._parameters.items():
                value.copy_(current[name])
