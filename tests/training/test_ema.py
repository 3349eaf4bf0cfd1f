"""Test the moving average of the weights against one computed by hand."""

import pytest
import torch
from torch import nn

from hf_videomae.training.ema import EMA


def model() -> nn.Linear:
    linear = nn.Linear(1, 1)
    with torch.no_grad():
        linear.weight.fill_(1.0)
        linear.bias.fill_(5.0)
    linear.bias.requires_grad_(False)
    return linear


def test_ema_matches_hand_computation() -> None:
    linear = model()
    average = EMA(linear, decay=0.9)
    for value in (2.0, 3.0):
        with torch.no_grad():
            linear.weight.fill_(value)
        average.update()
    # 0.9 x (0.9 x 1 + 0.1 x 2) + 0.1 x 3
    assert average.tensors["weight"].item() == pytest.approx(1.29)
    assert average.tensors.keys() == {"weight"}


def test_average_parameters_restores_weights() -> None:
    linear = model()
    average = EMA(linear, decay=0.5)
    with torch.no_grad():
        linear.weight.fill_(3.0)
    average.update()
    with pytest.raises(RuntimeError), average.average_parameters():
        assert linear.weight.item() == 2.0
        raise RuntimeError
    assert linear.weight.item() == 3.0 and linear.weight.requires_grad


def test_load_refuses_average_of_another_model() -> None:
    average = EMA(model(), decay=0.5)
    average.load({"weight": torch.tensor([[7.0]])})
    assert average.tensors["weight"].item() == 7.0
    with pytest.raises(ValueError, match="another model: other"):
        average.load({"weight": torch.zeros(1, 1), "other": torch.zeros(1)})
    with pytest.raises(ValueError, match="decay"):
        EMA(model(), decay=1.0)
