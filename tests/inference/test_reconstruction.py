"""Test reconstructions: the clips, and the images drawn from them."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers.utils import logging

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, reconstruct
from hf_videomae.data import MotionSource
from hf_videomae.inference import save_reconstruction
from hf_videomae.ops.masking import tube_mask
from tests.helpers.models import save_model


def model(**fields) -> VideoMAEForPreTraining:
    return VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, **fields)).eval()


def clip(pixels: torch.Tensor, config: VideoMAEConfig) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.image_mean, config.image_std))
    return (pixels - mean) / std


def masked_pixels(mask: torch.Tensor) -> torch.Tensor:
    """Expand a mask (B, N) on the 4x4x4 grid to pixels (B, T, 1, H, W)."""
    return mask.view(-1, 4, 1, 4, 4).repeat_interleave(2, 1).repeat_interleave(16, 3).repeat_interleave(16, 4)


def test_visible_pixels_are_those_of_the_clip() -> None:
    network = model()
    pixels = torch.rand(2, 8, 3, 64, 64)
    mask = tube_mask((4, 4, 4), 0.75, batch_size=2)
    result = reconstruct(network, clip(pixels, network.config), bool_masked_pos=mask)
    masked = masked_pixels(mask).expand_as(pixels)
    torch.testing.assert_close(result.original, pixels, atol=1e-5, rtol=0)
    for picture in (result.masked, result.visible_statistics, result.true_statistics):
        torch.testing.assert_close(picture[~masked], pixels[~masked], atol=1e-5, rtol=0)
    assert (result.masked[masked] == 0.5).all()
    assert not torch.equal(result.true_statistics, result.visible_statistics)
    assert result.loss == pytest.approx(network(clip(pixels, network.config), mask).loss.item(), abs=1e-5)


def test_perfect_prediction_gives_back_the_clip() -> None:
    """Predict the true targets: with true statistics the result is the original, as the formulas are inverses."""
    network = model()
    pixels = torch.rand(1, 8, 3, 64, 64)
    values = clip(pixels, network.config)
    mask = tube_mask((4, 4, 4), 0.75)
    index = mask.nonzero()[:, 1].view(1, -1)
    network.decoder.forward = lambda masked, count: network.targets(values, index)
    result = reconstruct(network, values, bool_masked_pos=mask)
    torch.testing.assert_close(result.true_statistics, pixels, atol=1e-4, rtol=0)
    assert result.loss < 1e-6


def test_brightness_follows_nearby_visible_cubes() -> None:
    network = model()
    pixels = torch.rand(1, 8, 3, 64, 64) * 0.1
    pixels[..., 32:] += 0.9  # the right half is bright
    pixels.clamp_(0, 1)
    network.decoder.forward = lambda masked, count: torch.zeros(1, count, 1536)
    result = reconstruct(network, clip(pixels, network.config), mask_ratio=0.5, seed=1)
    masked = masked_pixels(result.bool_masked_pos).expand_as(pixels)
    left, right = masked.clone(), masked.clone()
    left[..., 16:], right[..., :48] = False, False
    assert result.visible_statistics[left].mean() < 0.45 < 0.6 < result.visible_statistics[right].mean()


def test_seed_and_ratio_choose_the_mask() -> None:
    network = model(norm_pix_loss=False)
    values = torch.randn(1, 8, 3, 64, 64)
    first, again, other = (reconstruct(network, values, seed=seed, mask_ratio=0.5) for seed in (1, 1, 2))
    assert torch.equal(first.bool_masked_pos, again.bool_masked_pos)
    assert not torch.equal(first.bool_masked_pos, other.bool_masked_pos)
    assert first.bool_masked_pos.float().mean() == 0.5
    assert not first.normalized and torch.equal(first.prediction, first.true_statistics)


def test_strip_and_animation_are_written(tmp_path: Path) -> None:
    network = model()
    result = reconstruct(network, torch.randn(1, 8, 3, 64, 64))
    strip, animation = save_reconstruction(result, tmp_path / "deep" / "strip")
    with Image.open(strip) as picture:
        assert picture.width >= 8 * 128 and picture.height >= 5 * 128
    with Image.open(animation) as picture:
        assert picture.n_frames == 8


def test_reconstruct_reads_a_file(clips_dir: Path) -> None:
    result = reconstruct(model(), clips_dir / "mma_demo.mp4")
    assert result.original.shape == (1, 8, 3, 64, 64)
    assert result.original.std() > 0.05


def test_model_without_decoder_is_refused(tmp_path: Path) -> None:
    classifier = save_model(tmp_path / "classifier")
    with pytest.raises(ValueError, match="no decoder .it is a VideoMAEForVideoClassification.*give a pre-trained"):
        reconstruct(classifier, "clip.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no config.json"):
        reconstruct(tmp_path / "empty", "clip.mp4")


def test_extension_of_the_stem_is_replaced(tmp_path: Path) -> None:
    result = reconstruct(model(), torch.zeros(1, 8, 3, 64, 64))
    for name in ("a", "a.png", "a.GIF"):
        assert save_reconstruction(result, tmp_path / name) == [tmp_path / "a.png", tmp_path / "a.gif"]
    assert save_reconstruction(result, tmp_path / "v1.5")[0] == tmp_path / "v1.5.png"


@pytest.mark.fault
def test_checkpoint_without_processor_is_reconstructed_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.get_logger("hf_videomae"), "propagate", True)
    model().save_pretrained(tmp_path / "model")
    (tmp_path / "video.mp4").write_bytes(MotionSource()[0].video)
    result = reconstruct(tmp_path / "model", tmp_path / "video.mp4")
    assert result.original.shape == (1, 8, 3, 64, 64)
    (message,) = [text for text in caplog.messages if "preprocessor_config.json" in text]
    assert "8 frames" in message and "dense" in message and "stride of 4" in message
