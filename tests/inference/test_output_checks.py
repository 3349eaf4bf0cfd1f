"""Test that outputs that are not finite are refused or listed, and never written."""

import json
from pathlib import Path

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, predict, reconstruct
from hf_videomae.cli import main
from hf_videomae.data import MotionSource
from hf_videomae.inference import extract_features, load_features, predict_timeline, token_saliency
from hf_videomae.inference.output_checks import NonFiniteOutputError

pytestmark = pytest.mark.fault
VALUES = {"nan": float("nan"), "inf": float("inf"), "too large": 1e38}


def broken_model(folder: Path, value: float, *, parameter: str = "classifier.weight") -> Path:
    names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_hidden_layers=1, **names)
    model = VideoMAEForVideoClassification(config)
    with torch.no_grad():
        model.get_parameter(parameter).fill_(value)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> list[str]:
    source = MotionSource()
    paths = [tmp_path / f"{number}.mp4" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_bytes(source[number].video)
    return list(map(str, paths))


@pytest.mark.parametrize("name", VALUES)
def test_predict_names_the_video(tmp_path: Path, videos: list[str], name: str) -> None:
    model = broken_model(tmp_path / "model", VALUES[name])
    with pytest.raises(NonFiniteOutputError, match=r"0.mp4: .*scores are not finite"):
        predict(model, videos)


@pytest.mark.parametrize("name", VALUES)
def test_predict_command_prints_json_and_exits_with_1(
    tmp_path: Path, videos: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = broken_model(tmp_path / "model", VALUES[name])
    assert main(["predict", *videos, "--model", str(model), "--json", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in printed.out.splitlines()]
    assert [line["video"] for line in lines] == videos and all("not finite" in line["error"] for line in lines)
    assert "2 of 2 videos" in printed.err and "not finite" in printed.err and "decoded" not in printed.err


def test_nonfinite_features_are_skipped_and_listed(
    tmp_path: Path, videos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = broken_model(tmp_path / "model", float("nan"), parameter="fc_norm.weight")
    out = tmp_path / "out"
    assert main(["features", *videos, "--model", str(model), "--output_dir", str(out), "--device", "cpu"]) == 1
    bad = [json.loads(line) for line in (out / "bad_videos.jsonl").read_text().splitlines()]
    assert [line["path"] for line in bad] == videos and "not finite" in bad[0]["reason"]
    with pytest.raises(ValueError, match="holds no features"):
        load_features(out)
    with pytest.raises(NonFiniteOutputError, match="features are not finite"):
        extract_features(model, videos[0])


@pytest.mark.parametrize("work", [predict_timeline, token_saliency])
def test_nonfinite_timeline_and_saliency_are_refused(tmp_path: Path, videos: list[str], work: object) -> None:
    model = broken_model(tmp_path / "model", float("nan"))
    with pytest.raises(NonFiniteOutputError, match="not finite"):
        work(model, videos[0])  # type: ignore[operator]


def test_nonfinite_reconstruction_is_refused(tmp_path: Path, videos: list[str]) -> None:
    model = VideoMAEForPreTraining(
        VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, decoder_num_hidden_layers=1)
    )
    with torch.no_grad():
        model.mask_token.fill_(float("nan"))
    with pytest.raises(NonFiniteOutputError, match="not finite"):
        reconstruct(model, videos[0])
