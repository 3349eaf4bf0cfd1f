"""Test that clips that were never normalized are refused or warned about, once and at no cost."""

import logging
import re

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification
from hf_videomae.ops.normalization_check import NormalizationCheck

pytestmark = pytest.mark.fault


def classifier(**fields: object) -> VideoMAEForVideoClassification:
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_hidden_layers=1, **fields)
    return VideoMAEForVideoClassification(config).eval()


def pixels(*, top: float = 255.0) -> torch.Tensor:
    return torch.rand(2, 8, 3, 64, 64) * top


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_whole_numbers_are_refused(dtype: torch.dtype) -> None:
    for model in (classifier(), VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", num_hidden_layers=1))):
        with pytest.raises(ValueError, match=rf"{dtype}.*VideoMAEVideoProcessor"):
            model(pixels().to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("top", "word"), [(255.0, "to 25[0-9]"), (1.0, "to (1|0.99)")])
def test_raw_floats_warn_once(top: float, word: str, dtype: torch.dtype, caplog) -> None:
    model = classifier().to(dtype)
    with caplog.at_level(logging.WARNING, logger="hf_videomae"):
        for _ in range(4):
            model(pixels(top=top).to(dtype))
    (found,) = [record.getMessage() for record in caplog.records]
    assert "never normalized" in found and "2.64" in found
    assert re.search(word, found)


def test_normalized_clips_do_not_warn(caplog) -> None:
    clip = (pixels(top=1.0) - 0.45) / 0.225
    with caplog.at_level(logging.WARNING, logger="hf_videomae"):
        model = classifier()
        for values in (clip, torch.randn_like(clip), torch.zeros_like(clip), 2 * torch.randn_like(clip)):
            model(values)
        classifier(image_mean=[0.0] * 3, image_std=[1.0] * 3)(pixels(top=1.0))  # is normalized by its own config
        classifier(image_mean=[0.5] * 3, image_std=[0.01] * 3)(100 * (pixels(top=1.0) - 0.5))
    assert not caplog.records


def test_raw_clips_after_normalized_ones_warn(caplog) -> None:
    model = classifier()
    with caplog.at_level(logging.WARNING, logger="hf_videomae"):
        for _ in range(3):
            model(torch.randn(1, 8, 3, 64, 64))
        for _ in range(5):
            model(pixels())
    assert len(caplog.records) == 1


def test_few_calls_read_values(monkeypatch: pytest.MonkeyPatch) -> None:
    check, read = NormalizationCheck([0.5], [0.5]), []
    monkeypatch.setattr(torch, "aminmax", lambda clips: read.append(clips) or (torch.tensor(-1.0), torch.tensor(1.0)))
    for _ in range(1000):
        check(torch.zeros(1, 1, 1, 1, 1))
    assert len(read) == 10  # 1, 2, 4, ..., 512


def test_tensors_without_values_are_not_read() -> None:
    with torch.device("meta"):
        clips = torch.empty(2, 8, 3, 64, 64)
        assert classifier()(clips).logits.is_meta
    model = classifier()
    exported = torch.export.export(model, (torch.randn(2, 8, 3, 64, 64),), strict=False).module()
    assert exported(pixels()).logits.shape == (2, 2)
    single = torch.func.vmap(lambda clip: model(clip[None]).logits[0])(torch.randn(2, 8, 3, 64, 64))
    assert single.shape == (2, 2)
