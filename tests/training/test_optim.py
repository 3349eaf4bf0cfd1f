"""Test the schedule and the parameter groups against the numbers of the paper's code."""

import math

import numpy as np
import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining
from hf_videomae.errors import RunError
from hf_videomae.training.optim import (
    CosineSchedule,
    build_optimizer,
    build_param_groups,
    has_weight_decay,
    scale_lr,
    set_learning_rate,
)


def learning_rates(schedule: CosineSchedule) -> list[float]:
    return [schedule(step) for step in range(schedule.total_steps)]


def test_schedule_equals_literal_values() -> None:
    # linspace(0, 1, 4), then 0.1 + 0.45 (1 + cos(pi i / 6)) for i = 0..5: the peak twice, the floor never.
    expected = [
        0.0,
        0.3333333333333333,
        0.6666666666666666,
        1.0,
        1.0,
        0.9397114317029974,
        0.775,
        0.55,
        0.32500000000000007,
        0.1602885682970026,
    ]
    values = learning_rates(CosineSchedule(peak=1.0, floor=0.1, total_steps=10, warmup_steps=4))
    assert values == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("total", "warmup"), [(800, 40), (97, 13), (10, 1), (12, 0), (5, 5), (3, 2)])
def test_schedule_equals_linspace_and_cosine(total: int, warmup: int) -> None:
    peak, floor = 1.2e-3, 8e-5
    length = total - warmup
    cosine = [floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * i / length)) for i in range(length)]
    expected = np.concatenate((np.linspace(0, peak, warmup), cosine))
    values = learning_rates(CosineSchedule(peak=peak, floor=floor, total_steps=total, warmup_steps=warmup))
    assert np.abs(np.array(values) - expected).max() < 1e-18


def test_learning_rate_and_floor_scale_with_batch() -> None:
    # Kinetics-400 base: 64 GPUs x 32 clips: 1.2e-3, and a floor of 8e-5, not 1e-5.
    assert scale_lr(1.5e-4, 2048) == pytest.approx(1.2e-3)
    assert scale_lr(1e-5, 2048) == pytest.approx(8e-5)


def test_warmup_longer_than_run_is_refused() -> None:
    with pytest.raises(RunError, match="warm-up of 11 steps does not fit a run of 10 steps"):
        CosineSchedule(peak=1.0, floor=0.0, total_steps=10, warmup_steps=11)


def test_weight_decay_applies_to_weight_matrices_only() -> None:
    model = VideoMAEForPreTraining(
        VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, decoder_num_hidden_layers=1)
    )
    decaying = {name for name, parameter in model.named_parameters() if has_weight_decay(name, parameter)}
    names = {name for name, _ in model.named_parameters()}
    assert "mask_token" in names and "mask_token" not in decaying
    assert not [name for name in decaying if "bias" in name or "norm" in name]
    assert {"encoder_to_decoder.weight", "decoder.head.weight"} <= decaying
    assert "videomae.embeddings.patch_embeddings.projection.weight" in decaying
    assert all(dict(model.named_parameters())[name].ndim > 1 for name in decaying)


def test_param_groups_hold_every_trained_parameter_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    model[1].bias.requires_grad_(False)
    groups = build_param_groups(model, weight_decay=0.05)
    assert {tuple(group["names"]): group["weight_decay"] for group in groups} == {
        ("0.weight",): 0.05,
        ("0.bias", "1.weight"): 0.0,
    }


def test_lr_scale_multiplies_the_schedule() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    groups = build_param_groups(model, weight_decay=0.0, lr_scale=lambda name: 0.5 if name.startswith("0") else 1.0)
    optimizer = build_optimizer(groups, betas=(0.9, 0.95), eps=1e-8)
    for value in (0.2, 0.4):  # scaled from the schedule each time, not from the last value
        set_learning_rate(optimizer, value)
    assert {group["names"][0]: group["lr"] for group in optimizer.param_groups} == {"0.weight": 0.2, "1.weight": 0.4}
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
