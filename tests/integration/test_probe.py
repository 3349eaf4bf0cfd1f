"""Test `examples/probe.py` as a user runs it."""

import json
from functools import partial
from pathlib import Path

import pytest

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data import MotionSource
from tests.helpers.scripts import run_example

probe = partial(run_example, "probe")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write videos of two classes that differ at a glance, and a broken test video."""
    root = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 12), ("test", 7)):
        source = MotionSource(split=split)
        for index in range(count):
            folder = root / split / f"class_{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:03d}.mp4").write_bytes(source[index].video)
    (root / "test" / "class_1" / "broken.mp4").write_bytes(b"no video")
    return root


def checkpoint(folder: Path, *, head: bool) -> Path:
    task = "classification" if head else "pretraining"
    config = VideoMAEConfig.from_preset("tiny", task=task)
    model = (VideoMAEForVideoClassification if head else VideoMAEForPreTraining)(config)
    model.save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(config, frame_stride=2).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "head", "more"),
    [
        ("linear", False, ["--epochs", "5", "--clips", "2", "--views", "2x3", "--no_antialias"]),
        ("attentive", True, ["--epochs", "3"]),
        ("knn", True, ["--layer", "2", "--neighbours", "3"]),
    ],
)
def test_any_checkpoint_is_probed(
    kind: str, head: bool, more: list[str], videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint(tmp_path / "model", head=head)
    arguments = ["--probe", kind, "--model", model, "--dataset", videos, "--num_workers", "0", *more]
    assert probe(*arguments, "--output_dir", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert f"{kind} probe of {model}: top-1" in text and "1 of which cannot be decoded" in text
    assert ("12 training videos are one batch" in text) == (kind == "linear")
    result = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert (result["videos"], result["train_videos"], result["train_failed"]) == (8, 12, 0)
    assert [entry["id"] for entry in result["failed_videos"]] == ["test/class_1/broken.mp4"]
    assert 0 <= result["top1"] <= 7 / 8 and result["recipe"]["probe"] == kind
    assert probe(*arguments, "--output_dir", tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err


def test_preset_is_probed_as_an_untrained_control(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe("--probe", "knn", "--dataset", videos, "--num_workers", "0", "--output_dir", tmp_path) == 0
    assert "its weights are untrained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probe", "quadratic"], "choose one of linear, attentive, knn"),
        (["--views", "0"], "views is 0"),
        (["--probe", "attentive", "--pool", "mean"], "choose tokens or per_frame"),
        (["--pool", "tokens"], "takes the mean of all tokens"),
        (["--sampling", "sparse"], "choose dense or uniform"),
        (["--epochs", "0"], "epochs is 0"),
        (["--test_split", "holdout"], "no split 'holdout'"),
        (["--probes", "linear"], "did you mean --probe"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], videos: Path
) -> None:
    assert probe(*arguments, "--dataset", videos, "--num_workers", "0", "--output_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
