"""Test the configuration: presets, refusals, overrides."""

import json
from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, predict
from hf_videomae.evaluation.class_matching import match_classes
from tests.helpers.models import save_model, write_video


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
def test_invalid_values_are_refused(fields: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        VideoMAEConfig(**fields)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(Exception, match="hidden_size"):
        VideoMAEConfig(hidden_size="wide")


def test_defaults_match_stock() -> None:
    import transformers

    stock, ours = transformers.VideoMAEConfig().to_dict(), VideoMAEConfig().to_dict()
    if "qkv_bias" in stock:  # its name before 5.18
        stock["qv_bias"] = stock.pop("qkv_bias")
    assert {name: ours[name] for name in stock} == stock


def test_normalization_follows_the_channels() -> None:
    assert VideoMAEConfig().image_mean == [0.485, 0.456, 0.406]
    assert VideoMAEConfig(num_channels=5).image_std == [0.5] * 5


def test_presets_have_their_sizes() -> None:
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


def test_configuration_of_another_model_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'vit' model, not of a VideoMAE"):
        VideoMAEConfig.from_pretrained(tmp_path)


def test_rectangular_frames_and_patches() -> None:
    config = VideoMAEConfig(image_size=(160, 256), patch_size=(16, 32))
    assert config.grid == (8, 10, 8) and config.cube == (2, 16, 32)


TWELVE = {number: f"class {number}" for number in range(12)}


def read(folder: Path, overrides: dict | None = None, **fields: object) -> VideoMAEConfig:
    """Read a configuration from a file with these fields."""
    known = VideoMAEConfig.from_preset("tiny").to_dict()
    known = {name: value for name, value in known.items() if name not in ("id2label", "label2id")}
    (folder / "config.json").write_text(json.dumps({**known, **fields}))
    return VideoMAEConfig.from_pretrained(folder, **(overrides or {}))


@pytest.mark.fault
class TestClassNames:
    def test_id2label_keys_become_ordered_numbers(self, tmp_path: Path) -> None:
        texts = {key: TWELVE[int(key)] for key in sorted(map(str, TWELVE))}
        assert list(texts)[:3] == ["0", "1", "10"]
        changed = VideoMAEConfig()
        changed.id2label = texts
        for config in (
            VideoMAEConfig(id2label=texts),
            VideoMAEConfig.from_preset("tiny", id2label=texts),
            changed,
            read(tmp_path, id2label=texts),
            read(tmp_path, {"id2label": texts}),
            read(tmp_path, {"id2label": texts}, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}),
        ):
            assert list(config.id2label.items()) == list(TWELVE.items())
            assert list(config.label2id.items()) == [(name, number) for number, name in TWELVE.items()]
            assert config.num_labels == 12

    @pytest.mark.parametrize(
        ("id2label", "words"),
        [
            ({"0": "a", "2": "b"}, ["class 1", "has 2"]),
            ({"1": "a", "2": "b"}, ["class 0", "0 to 1"]),
            ({"0": "a", "00": "b"}, ["class 1", "twice"]),
            ({"-1": "a", "0": "b"}, ["class 1", "has -1"]),
            ({"a": "0", "b": "1"}, ["'a'", "whole number"]),
            ({"0": None, "1": "b"}, ["class 0 None"]),
        ],
    )
    def test_missing_class_numbers_are_refused(self, id2label: dict, words: list[str], tmp_path: Path) -> None:
        with pytest.raises(ValueError) as error:
            read(tmp_path, id2label=id2label)
        assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)

    def test_label2id_follows_id2label(self, tmp_path: Path) -> None:
        names = {"0": "a", "1": "b"}
        assert read(tmp_path, id2label=names, label2id={"b": "1"}).label2id == {"a": 0, "b": 1}
        assert read(tmp_path, label2id={"b": 0, "a": 1}).id2label == {0: "b", 1: "a"}
        assert read(tmp_path, {"id2label": ["x", "y", "z"]}, id2label=names).label2id == {"x": 0, "y": 1, "z": 2}
        both = {"label2id": {"b": 0, "a": 1}, "id2label": {"0": "b", "1": "a"}}
        assert read(tmp_path, both, id2label=names, label2id={"a": 0, "b": 1}).id2label == {0: "b", 1: "a"}
        with pytest.raises(ValueError, match=r"'a' is class 1.*class 1 is 'b'"):
            read(tmp_path, id2label=names, label2id={"a": 1, "b": 0})

    def test_saved_labels_round_trip(self, tmp_path: Path) -> None:
        VideoMAEConfig(id2label=TWELVE).save_pretrained(tmp_path)
        written = json.loads((tmp_path / "config.json").read_text())
        assert list(written["id2label"]) == [str(number) for number in TWELVE]
        assert VideoMAEConfig.from_pretrained(tmp_path).id2label == TWELVE
        assert VideoMAEConfig(num_labels=3).label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}

    def test_predict_and_evaluation_use_the_labels(self, tmp_path: Path) -> None:
        folder = save_model(tmp_path / "model", id2label=TWELVE)
        video = write_video(tmp_path / "video.mp4")
        (expected,) = predict(folder, video, top_k=12)
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {key: TWELVE[int(key)] for key in sorted(map(str, TWELVE))}
        (folder / "config.json").write_text(json.dumps(config))
        (found,) = predict(folder, video, top_k=12)
        assert (found.labels, found.scores) == (expected.labels, expected.scores)
        names = VideoMAEConfig.from_pretrained(folder).id2label
        assert match_classes([f"Class_{number}" for number in (11, 2)], names) == [11, 2]
