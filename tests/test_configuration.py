"""The configuration: presets, refusals, overrides."""

from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"hidden_size": 100, "num_attention_heads": 3}, "hidden_size=100 is not divisible"),
        ({"decoder_hidden_size": 100, "decoder_num_attention_heads": 3}, "decoder_hidden_size=100"),
        ({"num_frames": 15}, "frames = 15"),
        ({"image_size": [224, 230]}, "width = 230"),
        ({"mask_ratio": 1.0}, "outside"),
        ({"mask_ratio": -0.1}, "outside"),
        ({"image_size": 32, "mask_ratio": 0.2}, "hides 0 of 4"),
        ({"mask_type": "block"}, "choose one of tube"),
        ({"decoder_mask_type": "running_cell", "decoder_mask_ratio": 0.1}, "running_cell"),
        ({"reconstruction_loss": "l3"}, "choose one of mse"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"image_mean": [0.5]}, "image_mean has 1 values"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std"),
        ({"position_grid": [8, 14]}, "position_grid"),
        ({"mask_ration": 0.5}, "did you mean 'mask_ratio'"),
        ({"patch_size": [16, 16, 16]}, "neither one number"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        VideoMAEConfig(**fields)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(Exception, match="hidden_size"):
        VideoMAEConfig(hidden_size="wide")


def test_defaults_are_those_of_stock() -> None:
    import transformers

    stock, ours = transformers.VideoMAEConfig().to_dict(), VideoMAEConfig().to_dict()
    if "qkv_bias" in stock:  # its name before 5.18
        stock["qv_bias"] = stock.pop("qkv_bias")
    assert {name: ours[name] for name in stock} == stock


def test_normalisation_follows_the_channels() -> None:
    assert VideoMAEConfig().image_mean == [0.485, 0.456, 0.406]
    assert VideoMAEConfig(num_channels=5).image_std == [0.5] * 5


def test_presets() -> None:
    assert VideoMAEConfig.from_preset("base").use_mean_pooling is False
    assert VideoMAEConfig.from_preset("base", task="classification").use_mean_pooling is True
    assert VideoMAEConfig.from_preset("giant").grid == (8, 16, 16)
    assert VideoMAEConfig.from_preset("tiny", mask_ratio=0.5).mask_ratio == 0.5
    with pytest.raises(ValueError, match="choose one of tiny"):
        VideoMAEConfig.from_preset("medium")


def test_overrides_at_load_keep_the_trained_grid(tmp_path: Path) -> None:
    VideoMAEConfig.from_preset("tiny").save_pretrained(tmp_path)
    longer = VideoMAEConfig.from_pretrained(tmp_path, num_frames=16)
    assert longer.grid == (8, 4, 4) and longer.table_grid == (4, 4, 4)
    longer.save_pretrained(tmp_path / "longer")
    assert VideoMAEConfig.from_pretrained(tmp_path / "longer").table_grid == (4, 4, 4)
    assert VideoMAEConfig.from_pretrained(tmp_path, mask_ratio=0.5).position_grid is None
    with pytest.raises(ValueError, match="frames = 7"):
        VideoMAEConfig.from_pretrained(tmp_path, num_frames=7)


def test_a_configuration_of_another_model_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'vit' model, not of a VideoMAE"):
        VideoMAEConfig.from_pretrained(tmp_path)


def test_rectangular_frames_and_patches() -> None:
    config = VideoMAEConfig(image_size=(160, 256), patch_size=(16, 32))
    assert config.grid == (8, 10, 8) and config.cube == (2, 16, 32)
