"""Test token saliency: its definition, where it points, and the figure."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from hf_videomae import VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data.motion import encode_clip
from hf_videomae.inference import draw_saliency, token_saliency
from tests.helpers.models import NAMES, save_model


@pytest.mark.parametrize("layer", [-2, 0])
def test_relevance_is_the_slope_of_the_logit_in_token_strength(model_dir: Path, video: Path, layer: int) -> None:
    network = VideoMAEForVideoClassification.from_pretrained(model_dir).double().eval()
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir)
    saliency = token_saliency(network, video, label="clapping", layer=layer, processor=processor)
    clip = processor(video)["pixel_values"].double()
    module = network.videomae.encoder.layer[1] if layer == -2 else network.videomae.embeddings
    for token in (0, 21, 63):

        def logit(factor: float, token: int = token) -> float:
            strength = torch.ones(64, 1, dtype=torch.float64)
            strength[token] = factor
            hook = module.register_forward_hook(lambda module, inputs, output: output * strength)
            try:
                with torch.no_grad():
                    return network(clip).logits[0, 1].item()
            finally:
                hook.remove()

        slope = (logit(1 + 1e-4) - logit(1 - 1e-4)) / 2e-4
        assert saliency.relevance.flatten()[token].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_relevance_peaks_at_the_cube_that_decides(tmp_path: Path) -> None:
    network = VideoMAEForVideoClassification.from_pretrained(save_model(tmp_path / "model")).eval()
    with torch.no_grad():  # the blocks pass tokens through, so only the bright cube can speak for its class
        for block in network.videomae.encoder.layer:
            for part in (block.attention.output.dense, block.output.dense):
                part.weight.zero_()
                part.bias.zero_()
        network.videomae.embeddings.position_table.zero_()
        network.videomae.embeddings.patch_embeddings.projection.bias.zero_()
        network.fc_norm.weight.fill_(1.0)
        bright = network.videomae.embeddings.patch_embeddings.projection.weight.sum((1, 2, 3, 4))
        network.classifier.weight[2] = bright
    frames = np.full((8, 3, 64, 64), 118, dtype=np.uint8)  # about the mean of the normalization: tokens near 0
    frames[4:6, :, 32:48, 16:32] = 255
    path = tmp_path / "bright.mp4"
    path.write_bytes(encode_clip(frames))
    saliency = token_saliency(network, path, label=2, frames=range(8))
    assert saliency.label == NAMES[2] and saliency.relevance.shape == (4, 4, 4)
    assert np.unravel_index(int(saliency.relevance.argmax()), (4, 4, 4)) == (2, 2, 1)


def test_model_does_not_change_and_stock_gives_the_same(model_dir: Path, video: Path) -> None:
    ours = VideoMAEForVideoClassification.from_pretrained(model_dir).train()
    processor = VideoMAEVideoProcessor.from_pretrained(model_dir)
    saliency = token_saliency(ours, video, processor=processor)
    assert ours.training and all(weight.grad is None for weight in ours.parameters())
    assert saliency.score == max(token_saliency(ours, video, label=n, processor=processor).score for n in range(3))
    stock = transformers.VideoMAEForVideoClassification.from_pretrained(model_dir)
    same = token_saliency(stock, video, processor=processor)
    torch.testing.assert_close(same.relevance, saliency.relevance, atol=1e-4, rtol=1e-3)


def test_figure_shows_frames_and_colors(model_dir: Path, video: Path) -> None:
    saliency = token_saliency(model_dir, video)
    torch.testing.assert_close(
        saliency.clip, VideoMAEVideoProcessor.from_pretrained(model_dir)(video, do_normalize=False)["pixel_values"][0]
    )
    pixels = np.asarray(draw_saliency(saliency, columns=4)).astype(int)
    assert pixels.shape[1] > 4 * 128
    lower = pixels[pixels.shape[0] // 2 :]
    assert (lower[..., 0] - lower[..., 2]).max() > 50 or (lower[..., 2] - lower[..., 0]).max() > 50


def test_invalid_labels_and_layers_are_refused(model_dir: Path, video: Path) -> None:
    for settings, fact in (({"label": "dancing"}, "boxing"), ({"label": 3}, "below 3"), ({"layer": 9}, "3 blocks")):
        with pytest.raises(ValueError, match=fact):
            token_saliency(model_dir, video, **settings)
