"""Test that converted models sample clips as they were trained, and that a missing weight is named as in the file."""

import argparse
import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_videomae import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEVideoProcessor, predict
from hf_videomae.cli import main
from hf_videomae.convert import convert_checkpoint, load_original_checkpoint
from hf_videomae.evaluation import find_sampling_mismatches
from hf_videomae.video.sampling import ClipSampler
from hf_videomae.video.sampling_protocols import find_sampling_protocol
from tests.helpers.models import save_model, write_video

pytestmark = pytest.mark.fault

FIELDS = {"image_size": 32, "num_attention_heads": 3}
PRETRAINED = {**FIELDS, "decoder_num_attention_heads": 3}
TEMPLATES = [f"Pushing something from {side} {n}" for n in range(60) for side in ("left", "right")]


def fine_tuned(folder: Path, *, classes: int = 5) -> dict[str, Tensor]:
    weights = torch.load(folder / "original_finetune.pth", weights_only=True)["module"]
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name].repeat(classes // 5 + 1, *[1] * (weights[name].dim() - 1))[:classes]
    return weights


def write(path: Path, weights: dict[str, Tensor], **arguments: object) -> Path:
    content: dict = {"model": weights}
    if arguments:
        content["args"] = argparse.Namespace(**arguments)
    path.parent.mkdir(exist_ok=True, parents=True)
    torch.save(content, path)
    return path


class TestTrainingArguments:
    @pytest.mark.parametrize(
        ("arguments", "mode", "stride", "views"),
        [
            ({"data_set": "SSV2", "sampling_rate": 4, "test_num_segment": 2, "test_num_crop": 3}, "uniform", 4, "2x3"),
            ({"data_set": "Kinetics-400", "sampling_rate": 4, "sparse_sample": False}, "dense", 4, None),
            ({"data_set": "Kinetics-400", "sampling_rate": 4, "sparse_sample": True}, "uniform", 4, None),
            (
                {"data_set": "HMDB51", "sampling_rate": 2, "test_num_segment": 10, "test_num_crop": 3},
                "dense",
                2,
                "10x3",
            ),
            ({"data_set": "UCF101", "sampling_rate": 8, "sparse_sample": True}, "dense", 8, None),
            ({"data_set": "MIT", "sampling_rate": 3, "sparse_sample": True}, "uniform", 3, None),
        ],
    )
    def test_set_the_sampling_of_a_classifier(
        self, arguments: dict, mode: str, stride: int, views: str | None, tmp_path: Path, fixtures_dir: Path
    ) -> None:
        file = write(tmp_path / "file.pth", fine_tuned(fixtures_dir), num_frames=16, **arguments)
        done = convert_checkpoint(file, check=False, **FIELDS)
        assert (done.processor.sampling_mode, done.processor.frame_stride) == (mode, stride)
        assert done.report.sampling["views"] == views and not done.report.sampling["assumed"]
        assert not any("sampled" in line for line in done.report.assumed)
        assert any(str(arguments["data_set"]) in line for line in done.report.lines())
        done.save(tmp_path / "out")
        saved = VideoMAEVideoProcessor.from_pretrained(tmp_path / "out")
        assert (saved.sampling_mode, saved.frame_stride) == (mode, stride)
        assert json.loads((tmp_path / "out" / "conversion.json").read_text())["sampling"]["mode"] == mode

    def test_set_the_sampling_of_a_pretrained_model(self, tmp_path: Path, fixtures_dir: Path) -> None:
        weights = torch.load(fixtures_dir / "original_pretrain_tube90.pth", weights_only=True)["model"]
        file = write(tmp_path / "file.pth", weights, sampling_rate=2, num_frames=16, mask_ratio=0.9)
        assert convert_checkpoint(file, check=False, **PRETRAINED).processor.frame_stride == 2

    def test_segments_multiply_the_frames(self, tmp_path: Path, fixtures_dir: Path) -> None:
        file = write(tmp_path / "file.pth", fine_tuned(fixtures_dir), num_frames=8, num_segments=4, data_set="SSV2")
        done = convert_checkpoint(file, check=False, **FIELDS)
        assert done.model.config.num_frames == done.processor.num_frames == 32

    @pytest.mark.parametrize("ratio", [0.0, 0, None])
    def test_empty_decoder_mask_is_none(self, ratio: float | None, tmp_path: Path, fixtures_dir: Path) -> None:
        weights = torch.load(fixtures_dir / "original_pretrain_tube90.pth", weights_only=True)["model"]
        arguments = {"decoder_mask_type": "run_cell", "decoder_mask_ratio": ratio, "mask_ratio": 0.9}
        file = write(tmp_path / "file.pth", weights, **arguments)
        assert convert_checkpoint(file, check=False, **PRETRAINED).model.config.decoder_mask_type is None
        file = write(tmp_path / "file.pth", weights, **{**arguments, "decoder_mask_ratio": 0.5})
        config = convert_checkpoint(file, check=False, **PRETRAINED).model.config
        assert (config.decoder_mask_type, config.decoder_mask_ratio) == ("running_cell", 0.5)

    def test_warn_if_no_processor_is_made(self, tmp_path: Path, fixtures_dir: Path, caplog) -> None:
        file = write(tmp_path / "file.pth", fine_tuned(fixtures_dir), data_set="SSV2")
        with caplog.at_level(logging.WARNING, logger="hf_videomae"):
            load_original_checkpoint(file, **FIELDS)
        assert "sampling_mode='uniform'" in caplog.text
        caplog.clear()
        file = write(tmp_path / "file.pth", fine_tuned(fixtures_dir), data_set="Kinetics-400")
        with caplog.at_level(logging.WARNING, logger="hf_videomae"):
            load_original_checkpoint(file, **FIELDS)
        assert not caplog.records


class TestAssumptions:
    @pytest.mark.parametrize(
        ("name", "classes", "mode", "stride", "word"),
        [
            ("file.pth", 5, "dense", 4, "Kinetics"),
            ("file.pth", 174, "uniform", 4, "174 classes"),
            ("file.pth", 51, "dense", 2, "51 classes"),
            ("vit_b_ssv2_ft.pth", 5, "uniform", 4, "Something-Something"),
            ("videomae-SSv2/checkpoint-best.pth", 5, "uniform", 4, "Something-Something"),
        ],
    )
    def test_are_in_the_report(
        self, name: str, classes: int, mode: str, stride: int, word: str, tmp_path: Path, fixtures_dir: Path
    ) -> None:
        file = write(tmp_path / "models" / name, fine_tuned(fixtures_dir, classes=classes))
        done = convert_checkpoint(file, check=False, **FIELDS)
        assert (done.processor.sampling_mode, done.processor.frame_stride) == (mode, stride)
        (line,) = [line for line in done.report.assumed if "sampled" in line]
        assert mode in line and word in line and "--sampling" in line

    def test_are_overridden_by_the_user(self, tmp_path: Path, fixtures_dir: Path, capsys) -> None:
        file = write(tmp_path / "file.pth", fine_tuned(fixtures_dir), data_set="Kinetics-400", sampling_rate=4)
        fields = ["--image_size", "32", "--num_attention_heads", "3"]
        words = ["--sampling", "uniform", "--frame_stride", "2", "--no_check"]
        assert main(["convert", str(file), str(tmp_path / "out"), *words, *fields]) == 0
        saved = VideoMAEVideoProcessor.from_pretrained(tmp_path / "out")
        assert (saved.sampling_mode, saved.frame_stride) == ("uniform", 2)
        assert "as requested" in capsys.readouterr().out

    def test_follow_class_names_unless_processor_says(self, tmp_path: Path) -> None:
        fields = {"id2label": dict(enumerate(TEMPLATES)), "num_hidden_layers": 1}
        config = VideoMAEConfig.from_preset("tiny", task="classification", **fields)
        VideoMAEForVideoClassification(config).save_pretrained(tmp_path / "in")
        stock = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}, "num_frames": 8}
        (tmp_path / "in" / "preprocessor_config.json").write_text(json.dumps(stock))
        done = convert_checkpoint(tmp_path / "in", check=False)
        assert done.processor.sampling_mode == "uniform" and done.processor.num_frames == 8
        done.processor.sampling_mode = "dense"
        done.save(tmp_path / "ours")
        again = convert_checkpoint(tmp_path / "ours", check=False)
        assert again.processor.sampling_mode == "dense", "the processor's own sampling is used"
        assert not again.report.sampling["assumed"]


@pytest.mark.parametrize(
    ("name", "dataset_name"),
    [
        ("MCG-NJU/videomae-base-finetuned-ssv2", "Something-Something"),
        ("MCG-NJU/videomae-base-finetuned-kinetics", "Kinetics"),
        ("me/videomae-something-something-v2", "Something-Something"),
        ("data/ssv2/run", None),
        ("me/k710-to-ssv2", None),
        ("me/missv2b", None),
        ("out/UCF-101/", "UCF101"),
    ],
)
def test_dataset_is_found_in_model_name(name: str, dataset_name: str | None) -> None:
    protocol = find_sampling_protocol(name)
    assert (protocol and protocol.name) == dataset_name


@pytest.mark.parametrize(
    ("name", "labels", "mode", "mismatch"),
    [
        ("me/model", TEMPLATES, "dense", "--sampling uniform --views 2x3"),
        ("me/model", TEMPLATES, "uniform", None),
        ("MCG-NJU/videomae-base-finetuned-ssv2", [f"LABEL_{n}" for n in range(174)], "dense", "uniform"),
        ("me/model", [f"LABEL_{n}" for n in range(174)], "dense", "uniform"),
        ("me/model", ["abseiling", "zumba", "Yoga"], "uniform", "--sampling dense --views 5x3"),
        ("me/ssv2-model", ["abseiling", "zumba", "Yoga"], "dense", None),
        ("me/model", ["a", "b"], "uniform", None),
        ("me/model", ["doing something", "b", "c"], "dense", None),
    ],
)
def test_sampling_mismatch_is_found_before_evaluation(
    name: str, labels: list[str], mode: str, mismatch: str | None
) -> None:
    lines = find_sampling_mismatches(name, VideoMAEConfig(id2label=dict(enumerate(labels))), ClipSampler(mode=mode))
    assert (mismatch is None) == (lines == [])
    assert all(mismatch in line and name in line for line in lines)


def test_predict_warns_of_sampling_mismatch(tmp_path: Path, caplog) -> None:
    names = dict(enumerate(["Pushing something", "Pulling something", "Holding something"]))
    folder, video = save_model(tmp_path / "model", id2label=names), write_video(tmp_path / "video.mp4")
    for sampling, count in ((None, 1), ("uniform", 0), ("dense", 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="hf_videomae"):
            predict(folder, video, sampling=sampling)
        assert len([line for line in caplog.messages if "--sampling uniform" in line]) == count


@pytest.mark.parametrize("kind", ["original_pretrain_tube90", "original_finetune"])
def test_missing_weights_are_named_as_in_file(kind: str, tmp_path: Path, fixtures_dir: Path) -> None:
    content = torch.load(fixtures_dir / f"{kind}.pth", weights_only=True)
    weights = content.get("model") or content["module"]
    fields = PRETRAINED if "pretrain" in kind else FIELDS
    names = [name for name in weights if not name.startswith(("encoder.blocks.1", "encoder.blocks.2", "blocks.1"))]
    for name in names:
        file = write(tmp_path / "file.pth", {key: value for key, value in weights.items() if key != name})
        with pytest.raises(ValueError) as error:
            convert_checkpoint(file, check=False, **fields)
        assert name.removeprefix("encoder.") in str(error.value), name
        assert "\n" not in str(error.value)
