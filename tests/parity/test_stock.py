"""Test interchange with stock transformers: each loads what the other saves, with the same numbers."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from hf_videomae.ops.masking import tube_mask
from tests.helpers.models import SMALL_SIZES, loads_in_stock

pytestmark = loads_in_stock

TINY = {
    **SMALL_SIZES,
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 3,
    "decoder_intermediate_size": 48,
}
# The configurations that the published repositories hold (the S models with their wrong 16 heads and 12 decoder
# layers).
PUBLISHED = {
    "base": {"use_mean_pooling": False},
    "base-finetuned-kinetics": {"use_mean_pooling": True, "num_labels": 400},
    "base-ssv2": {"use_mean_pooling": False, "norm_pix_loss": True},
    "small": {
        "hidden_size": 384,
        "num_attention_heads": 16,
        "intermediate_size": 1536,
        "decoder_hidden_size": 192,
        "decoder_num_attention_heads": 3,
        "decoder_intermediate_size": 768,
        "decoder_num_hidden_layers": 12,
        "use_mean_pooling": False,
    },
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "decoder_hidden_size": 512,
        "decoder_num_attention_heads": 8,
        "decoder_intermediate_size": 2048,
        "decoder_num_hidden_layers": 12,
        "use_mean_pooling": False,
    },
}


def scattered(model: torch.nn.Module) -> torch.nn.Module:
    """Return a model with weights far from their initial values, biases and norms too, so that a lost one shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def clip_and_mask(config: transformers.PreTrainedConfig) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    size = config.image_size
    clip = torch.randn(2, config.num_frames, 3, size, size, generator=generator)
    grid = (config.num_frames // 2, size // config.patch_size, size // config.patch_size)
    return clip, tube_mask(grid, 0.75, batch_size=2, generator=generator)


def check_same(first: torch.Tensor, second: torch.Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def check_nothing_lost(info: dict) -> None:
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]


@pytest.mark.integration
@pytest.mark.parametrize("fields", [TINY, {**TINY, "use_mean_pooling": False}, {**TINY, "norm_pix_loss": False}, {}])
def test_pretraining_models_load_both_ways_with_equal_numbers(fields: dict, tmp_path: Path) -> None:
    stock = scattered(transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(**fields)))
    clip, mask = clip_and_mask(stock.config)
    with torch.no_grad():
        expected = stock(clip, mask)
        stock.save_pretrained(tmp_path / "stock")
        ours, info = VideoMAEForPreTraining.from_pretrained(tmp_path / "stock", output_loading_info=True)
        check_nothing_lost(info)
        found = ours(clip, mask)
        check_same(found.logits, expected.logits)
        assert abs(found.loss - expected.loss) < 1e-6

        ours.save_pretrained(tmp_path / "ours")
        again, info = transformers.VideoMAEForPreTraining.from_pretrained(tmp_path / "ours", output_loading_info=True)
        check_nothing_lost(info)
        check_same(again.eval()(clip, mask).logits, expected.logits)
    saved = load_file(tmp_path / "ours" / "model.safetensors")
    assert saved.keys() == load_file(tmp_path / "stock" / "model.safetensors").keys()
    assert "videomae.encoder.layer.0.attention.attention.q_bias" in saved
    assert "decoder.decoder_layers.0.attention.attention.v_bias" in saved


@pytest.mark.integration
@pytest.mark.parametrize("fields", [TINY, {**TINY, "use_mean_pooling": False}, {}])
def test_classifiers_load_both_ways_with_equal_numbers(fields: dict, tmp_path: Path) -> None:
    stock = scattered(transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**fields, num_labels=7)))
    clip, _ = clip_and_mask(stock.config)
    labels = torch.tensor([3, 6])
    with torch.no_grad():
        expected = stock(clip, labels=labels)
        stock.save_pretrained(tmp_path / "stock")
        ours, info = VideoMAEForVideoClassification.from_pretrained(tmp_path / "stock", output_loading_info=True)
        check_nothing_lost(info)
        found = ours(clip, labels=labels)
        check_same(found.logits, expected.logits)
        assert abs(found.loss - expected.loss) < 1e-5
        ours.save_pretrained(tmp_path / "ours")
        again, info = transformers.VideoMAEForVideoClassification.from_pretrained(
            tmp_path / "ours", output_loading_info=True
        )
        check_nothing_lost(info)
        check_same(again.eval()(clip).logits, expected.logits)


def test_stock_loads_a_model_built_here(tmp_path: Path) -> None:
    ours = scattered(VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny")))
    clip, mask = clip_and_mask(ours.config)
    ours.save_pretrained(tmp_path)
    stock, info = transformers.VideoMAEForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    check_nothing_lost(info)
    with torch.no_grad():
        check_same(stock.eval()(clip, mask).logits, ours(clip, mask).logits)


def test_parameter_names_match_stock() -> None:
    stock = scattered(transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(**TINY)))
    ours = VideoMAEForPreTraining(VideoMAEConfig(**TINY))
    assert list(ours.state_dict()) == list(stock.state_dict())
    ours.load_state_dict(stock.state_dict())


@pytest.mark.integration
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_load(name: str) -> None:
    """Use random weights in the published shapes, with two layers a side so that the test is fast."""
    fields = {**PUBLISHED[name], "num_hidden_layers": 2}
    fields["decoder_num_hidden_layers"] = min(2, fields.get("decoder_num_hidden_layers", 2))
    config = transformers.VideoMAEConfig(**fields)
    pairs = [(transformers.VideoMAEForPreTraining, VideoMAEForPreTraining)]
    pairs.append((transformers.VideoMAEForVideoClassification, VideoMAEForVideoClassification))
    clip, mask = clip_and_mask(config)
    for stock_class, our_class in pairs:
        stock = scattered(stock_class(config))
        ours = our_class(VideoMAEConfig(**fields)).eval()
        ours.load_state_dict(stock.state_dict())
        inputs = (clip[:1], mask[:1]) if our_class is VideoMAEForPreTraining else (clip[:1],)
        with torch.no_grad():
            check_same(ours(*inputs).logits, stock(*inputs).logits)


def test_our_fields_survive_stock(tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny", mask_type="random", drop_path_rate=0.1, position_grid=[4, 8, 8])
    config.save_pretrained(tmp_path / "ours")
    transformers.VideoMAEConfig.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "stock")
    assert VideoMAEConfig.from_pretrained(tmp_path / "stock").to_dict() == config.to_dict()


def test_position_table_equals_stock() -> None:
    from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

    from hf_videomae.ops.patches import sinusoid_table

    assert torch.equal(sinusoid_table(200, 48), get_sinusoid_encoding_table(200, 48)[0])
    assert torch.equal(sinusoid_table(100, 1408), get_sinusoid_encoding_table(100, 1408)[0])


def test_backbone_loads_from_either_head(tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_labels=3)
    classifier = scattered(VideoMAEForVideoClassification(config))
    classifier.save_pretrained(tmp_path)
    clip, _ = clip_and_mask(config)
    with torch.no_grad():
        backbone = VideoMAEModel.from_pretrained(tmp_path)
        check_same(backbone(clip).last_hidden_state, classifier.videomae(clip).last_hidden_state)


@pytest.mark.skipif("not __import__('os').environ.get('HF_NETWORK')", reason="needs the Hub: set HF_NETWORK=1")
@pytest.mark.parametrize(
    ("name", "anchor"),
    [
        ("MCG-NJU/videomae-base-finetuned-kinetics", [0.3669, -0.0688, -0.2421]),
        ("MCG-NJU/videomae-large-finetuned-kinetics", [0.0771, 0.0011, -0.3625]),
        ("MCG-NJU/videomae-base-finetuned-ssv2", [0.1961, -0.8337, -0.6389]),
    ],
)
def test_published_checkpoints_reproduce_their_numbers(name: str, anchor: list[float]) -> None:
    """Compare with the conversion script of transformers: mean and deviation 0.5, on `eating_spaghetti.npy`."""
    import numpy
    from huggingface_hub import hf_hub_download

    path = hf_hub_download("hf-internal-testing/spaghetti-video", "eating_spaghetti.npy", repo_type="dataset")
    frames = torch.from_numpy(numpy.load(path)).permute(0, 3, 1, 2).float() / 255
    size = [round(224 * side / min(frames.shape[-2:])) for side in frames.shape[-2:]]
    frames = torch.nn.functional.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    clip = (frames[None, :, :, top : top + 224, left : left + 224] - 0.5) / 0.5
    with torch.no_grad():
        logits = VideoMAEForVideoClassification.from_pretrained(name)(clip).logits
    torch.testing.assert_close(logits[0, :3], torch.tensor(anchor), atol=2e-2, rtol=0)
