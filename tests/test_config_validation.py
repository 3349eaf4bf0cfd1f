"""Test model folders from anyone: odd configurations and damaged weights are refused in one line, and quickly."""

import json
import os
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VideoMAEVideoProcessor,
    extract_features,
    predict,
)
from hf_videomae.cli import main
from hf_videomae.configuration_videomae import PRESETS
from hf_videomae.convert import load_original_checkpoint
from hf_videomae.training.model_source import ensure_model
from tests.helpers.models import save_model

pytestmark = pytest.mark.fault

FRAMES = torch.zeros(8, 3, 64, 64, dtype=torch.uint8)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "sound")


def odd(sound: Path, folder: Path, **fields: Any) -> Path:
    target = Path(shutil.copytree(sound, folder / "odd"))
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **fields}))
    return target


ODD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"_attn_implementation": "org/kernels"}, "attn_implementation"),
    ({"attn_implementation": {"": "org/kernels@main"}}, "attn_implementation"),
    ({"quantization_config": "x"}, "quantization_config"),
    ({"output_hidden_states": "yes"}, "output_hidden_states"),
    ({"__class__": "x"}, "__class__"),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
    ({"num_hidden_layers": 1000}, "do not belong together"),
    ({"num_hidden_layers": 4}, "Not in the file"),
    ({"num_hidden_layers": -1}, "num_hidden_layers"),
    ({"num_hidden_layers": "3"}, "num_hidden_layers"),
    ({"num_hidden_layers": 10**30}, "num_hidden_layers"),
    ({"num_hidden_layers": True}, "num_hidden_layers"),
    ({"id2label": None, "num_labels": 10**9}, "num_labels"),
    ({"id2label": None, "num_labels": -3}, "num_labels"),
    ({"id2label": None, "num_labels": "three"}, "num_labels"),
    ({"hidden_size": 0}, "hidden_size"),
    ({"hidden_size": -128}, "hidden_size"),
    ({"hidden_size": "128"}, "hidden_size"),
    ({"hidden_size": float("nan")}, "hidden_size"),
    ({"hidden_size": 65536, "num_attention_heads": 4}, "do not belong together"),
    ({"hidden_size": 132, "num_attention_heads": 4}, "patch_embed|shapes"),
    ({"intermediate_size": 10**12}, "intermediate_size"),
    ({"intermediate_size": 0}, "intermediate_size"),
    ({"num_attention_heads": 0}, "num_attention_heads"),
    ({"patch_size": 0}, "patch_size"),
    ({"patch_size": [16, 0]}, "patch_size"),
    ({"patch_size": [[16]]}, "patch_size"),
    ({"image_size": 2**31}, "clip"),
    ({"image_size": 10**9 * 16}, "clip"),
    ({"image_size": []}, "neither one number"),
    ({"image_size": 16 * 1024, "num_frames": 2}, "tokens|clip"),
    ({"tubelet_size": 0}, "tubelet_size"),
    ({"num_frames": 10**9}, "num_frames"),
    ({"num_frames": 0}, "num_frames"),
    ({"num_channels": 10**9}, "num_channels|clip"),
    ({"num_channels": 0}, "num_channels"),
    ({"position_grid": [10**6, 10**6, 10**6]}, "tokens"),
    ({"position_grid": "x"}, "position_grid"),
    ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
    ({"layer_norm_eps": float("inf")}, "layer_norm_eps"),
    ({"layer_norm_eps": "1e-6"}, "layer_norm_eps"),
    ({"initializer_range": -1.0}, "initializer_range"),
    ({"image_std": [float("nan")] * 3}, "image_std"),
    ({"image_mean": ["a", "b", "c"]}, "image_mean"),
    ({"image_mean": []}, "image_mean"),
    ({"mask_ratio": float("nan")}, "mask ratio"),
    ({"hidden_act": "no_such"}, "hidden_act"),
    ({"hidden_act": ["gelu"]}, "hidden_act"),
    ({"id2label": {"x": "y"}}, "id2label"),
    ({"id2label": {"-1": "y"}}, "id2label"),
    ({"id2label": {"0": ["y"]}}, "id2label"),
    ({"id2label": 7}, "id2label"),
    ({"label2id": "x"}, "label2id"),
    ({"architectures": 7}, "architectures"),
    ({"architectures": [None]}, "architectures"),
    ({"dtype": 3}, "dtype"),
    ({"dtype": "no_such"}, "dtype"),
    ({"dtype": "load"}, "dtype"),
    ({"dtype": "int64"}, "dtype"),
    ({"problem_type": "x"}, "problem_type"),
    ({"norm_pix_loss": None}, "norm_pix_loss"),
    ({"use_mean_pooling": "x" * 10**6}, "use_mean_pooling"),
    ({"model_type": ["videomae"]}, "videomae"),
]


@pytest.mark.parametrize(("fields", "words"), ODD_FIELDS, ids=[str(fields)[:60] for fields, _ in ODD_FIELDS])
def test_odd_configurations_are_refused_in_one_line(
    sound: Path, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    folder = odd(sound, tmp_path, **fields)
    start = time.monotonic()
    with pytest.raises(ValueError, match=words) as caught:
        predict(folder, FRAMES)
    assert time.monotonic() - start < 5
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"3", b'"x"', b"{", b"\xff\xfe{}", b"[" * 10**5, b'{"a":' * 10**5,
        b'{"num_frames": 1' + b"0" * 5000 + b"}",
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_config_that_is_no_json_object_is_refused(sound: Path, tmp_path: Path, text: bytes) -> None:
    folder = odd(sound, tmp_path)
    (folder / "config.json").write_bytes(text)
    for use in (predict, extract_features):
        with pytest.raises((ValueError, OSError), match=r"config|JSON"):
            use(folder, FRAMES)


@pytest.mark.parametrize("kind", ["cut", "empty", "header", "length", "text", "nested", "offsets"])
def test_damaged_weights_are_refused_in_one_line(sound: Path, tmp_path: Path, kind: str) -> None:
    folder = odd(sound, tmp_path)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "header": whole[:20] + b"\xff" * 40 + whole[60:],
            "length": struct.pack("<Q", 2**63) + whole[8:],
            "text": b"version https://git-lfs.github.com/spec/v1\n",
            "nested": struct.pack("<Q", 20_000) + b"[" * 20_000,
            "offsets": whole.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        }[kind]
    )
    for load in (VideoMAEForVideoClassification, VideoMAEModel):
        with pytest.raises((ValueError, OSError)) as caught:
            load.from_pretrained(folder)
        assert len(str(caught.value)) < 600


def test_command_reports_odd_configuration_in_one_line(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = odd(sound, tmp_path, num_labels=10**9, id2label=None)
    for command in ("predict", "features"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--model", str(folder), str(tmp_path / "a.mp4"), *_output(command, tmp_path)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert ended.value.code == 2 and "num_labels" in lines[-1] and len(lines) <= 2


def _output(command: str, folder: Path) -> list[str]:
    return ["--output_dir", str(folder / "out")] if command == "features" else []


def test_large_research_models_are_within_the_limits() -> None:
    for name in PRESETS:
        VideoMAEConfig.from_preset(name)
    config = VideoMAEConfig(
        hidden_size=6144, num_hidden_layers=48, num_attention_heads=48, intermediate_size=24576, image_size=512,
        num_frames=64, id2label={number: f"class {number}" for number in range(21_841)},
    )  # fmt: skip
    assert config.num_labels == 21_841 and config.grid == (32, 32, 32)
    VideoMAEConfig(num_hidden_layers=1000, image_size=(1024, 1024), num_frames=64)
    VideoMAEConfig(num_channels=224, image_size=224)


def test_fresh_decoder_is_not_counted_against_the_file(sound: Path, tmp_path: Path) -> None:
    folder = odd(sound, tmp_path, decoder_num_hidden_layers=40, decoder_hidden_size=384, decoder_num_attention_heads=6)
    with pytest.raises(ValueError, match="do not belong together"):
        VideoMAEForPreTraining.from_pretrained(folder)
    model = VideoMAEForPreTraining.from_pretrained(folder, new_decoder=True)
    assert model.config.decoder_num_hidden_layers == 40


def test_weights_of_other_shapes_are_named(sound: Path, tmp_path: Path) -> None:
    folder = odd(sound, tmp_path, intermediate_size=256)
    with pytest.raises(ValueError, match=r"\[512, 128\] in the file and \[256, 128\] in the model") as caught:
        VideoMAEModel.from_pretrained(folder)
    assert "intermediate.dense" in str(caught.value)
    with pytest.raises(ValueError, match=r"classifier"):
        VideoMAEForVideoClassification.from_pretrained(sound, num_labels=5)
    model = VideoMAEForVideoClassification.from_pretrained(sound, num_labels=5, ignore_mismatched_sizes=True)
    assert model.classifier.out_features == 5


ODD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"size": 0.5}, "size"), ({"size": {"shortest_edge": 10**9}}, "size"), ({"size": list(range(2000))}, "size"),
    ({"size": {"height": [64], "width": 64}}, "size"), ({"crop_size": {"height": 2**63, "width": 64}}, "crop_size"),
    ({"crop_size": "x"}, "crop_size"), ({"resample": [2]}, "resample"), ({"rescale_factor": [1]}, "rescale_factor"),
    ({"rescale_factor": float("nan")}, "rescale_factor"), ({"num_frames": 10**9}, "num_frames"),
    ({"num_frames": "8"}, "num_frames"), ({"frame_stride": 0}, "frame_stride"), ({"num_views": 10**9}, "num_views"),
    ({"frame_seconds": "x"}, "frame_seconds"), ({"image_mean": {}}, "image_mean"),
    ({"image_std": [None]}, "image_std"),
    ({"do_resize": "yes"}, "do_resize"), ({"sampling_mode": 3.5}, "sampling_mode"), ({"sampling_mode": "x"}, "mode"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), ODD_SETTINGS, ids=[str(odd)[:50] for odd, _ in ODD_SETTINGS])
def test_odd_processors_are_refused_in_one_line(
    sound: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    path = Path(shutil.copytree(sound, tmp_path / "odd")) / "video_preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    with pytest.raises(ValueError, match=words) as caught:
        VideoMAEVideoProcessor.from_pretrained(path.parent)
    assert len(str(caught.value)) < 400


def test_nested_or_non_object_processor_file_is_refused(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(sound, tmp_path / "odd")) / "video_preprocessor_config.json"
    for text in (b"[" * 10**5, b"[]", b"3", b"{", b"\xff"):
        path.write_bytes(text)
        with pytest.raises((ValueError, OSError), match=r"config|JSON"):
            predict(path.parent, FRAMES)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "weight_map"),
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ("{}", "weight_map"),
        (json.dumps({"metadata": {}, "weight_map": ["a"]}), "weight_map"),
        (json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}), "metadata"),
        (json.dumps({"metadata": {}, "weight_map": {"a": 5}}), "names 5"),
        (json.dumps({"metadata": {}, "weight_map": {"a": "../sound/model.safetensors"}}), r"\.\./sound"),
        (json.dumps({"metadata": {}, "weight_map": {"a": "/etc/passwd"}}), "/etc/passwd"),
        (json.dumps({"metadata": {}, "weight_map": {"a": "x" * 10**5}}), "file of weights in its folder"),
    ],
)
def test_weight_index_must_name_files_in_its_folder(sound: Path, tmp_path: Path, text: str, named: str) -> None:
    folder = odd(sound, tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=named) as caught:
        VideoMAEForVideoClassification.from_pretrained(folder)
    assert "index.json" in str(caught.value) and len(str(caught.value)) < 500


def test_sharded_weights_are_read(sound: Path, tmp_path: Path) -> None:
    model = VideoMAEForVideoClassification.from_pretrained(sound)
    model.save_pretrained(tmp_path, max_shard_size="500KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    read = VideoMAEForVideoClassification.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), read.parameters(), strict=True))


@pytest.mark.parametrize(
    "settings", [{"num_frames": 65000}, {"crop_size": {"height": 16000, "width": 16000}}, {"crop_size": 16000}]
)
def test_processor_clips_beyond_memory_are_refused(sound: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = odd(sound, tmp_path)
    file = next(folder.glob("*preprocessor_config.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    with pytest.raises(ValueError, match="values"):
        predict(folder, FRAMES)


def test_long_class_names_are_cut_in_messages(sound: Path, tmp_path: Path) -> None:
    folder = odd(sound, tmp_path, id2label={"0": "x" * 10**5, "1": "b", "2": "c"})
    with pytest.raises(ValueError, match="contradict") as caught:
        VideoMAEConfig.from_pretrained(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("file", "field", "value", "word"),
    [
        ("config.json", "position_grid", list(range(3000)), "3000 entries"),
        ("config.json", "patch_size", list(range(3000)), "3000 entries"),
        ("config.json", "mask_type", "x" * 10_000, "10000 characters"),
        ("config.json", "model_type", "x" * 10_000, "10000 characters"),
        ("config.json", "label2id", ["a", "b"], "label2id is a list"),
        ("video_preprocessor_config.json", "resample", "x" * 10_000, "10000 characters"),
        ("video_preprocessor_config.json", "crop_size", 40.5, "40.5"),
    ],
)
def test_long_or_odd_values_are_refused_in_a_short_line(
    tmp_path: Path, file: str, field: str, value: Any, word: str
) -> None:
    config = VideoMAEConfig.from_preset("tiny")
    config.save_pretrained(tmp_path)
    VideoMAEVideoProcessor.from_config(config).save_pretrained(tmp_path)
    values = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**values, field: value}))
    read = VideoMAEConfig if file == "config.json" else VideoMAEVideoProcessor
    with pytest.raises(ValueError, match=word) as error:
        read.from_pretrained(tmp_path)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_models_that_return_attentions_are_saved(sound: Path, tmp_path: Path) -> None:
    model = VideoMAEForVideoClassification.from_pretrained(odd(sound, tmp_path, output_attentions=True))
    assert model.config._attn_implementation == "sdpa"
    model.save_pretrained(tmp_path / "saved")
    read = VideoMAEForVideoClassification.from_pretrained(tmp_path / "saved")
    assert len(read(torch.zeros(1, 8, 3, 64, 64)).attentions) == 3


def test_named_pipe_is_no_checkpoint(sound: Path, tmp_path: Path) -> None:
    folder = odd(sound, tmp_path)
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(ValueError, match="regular file"):
        load_original_checkpoint(str(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("text", "named"), [("", "config.json"), ("[]", "JSON object"), ("[" * 100_000, "config.json")]
)
def test_run_names_the_configuration_that_it_cannot_read(sound: Path, tmp_path: Path, text: str, named: str) -> None:
    folder = odd(sound, tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=named):
        ensure_model(str(folder))
