"""Test `examples/evaluate.py` as a user runs it, in one process and in two."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data import MotionSource
from tests.helpers.datasets_on_disk import write_parquet
from tests.helpers.scripts import run_example
from tests.local_hub import LocalHub

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "evaluate.py"
run_evaluation = partial(run_example, "evaluate")
NAMES = ["Kicking", "hand shaking", "pushing"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    values = {"num_hidden_layers": 2, "head_init_scale": 1.0, "id2label": dict(enumerate(NAMES))}
    model = VideoMAEForVideoClassification(VideoMAEConfig.from_preset("tiny", task="classification", **values))
    model.save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(model.config, frame_stride=2).save_pretrained(folder)
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Write seven clips; two have the same file name, two are damaged."""
    motion = MotionSource(split="test")
    places = ["kicking/a", "kicking/b", "kicking/c", "hand_shaking/a", "hand_shaking/d", "pushing/e", "pushing/f"]
    for number, place in enumerate(places):
        path = tmp_path / "clips" / f"{place}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        video = motion[number].video
        path.write_bytes(video[:1500] if place.endswith(("c", "f")) else video)
    return tmp_path / "clips"


def common(model_dir: Path, clips: Path) -> list[str]:
    arguments = ["--model", model_dir, "--dataset", clips, "--split", "train", "--views", "2x3", "--num_workers", 0]
    return [str(argument) for argument in arguments]


def predictions(folder: Path) -> dict[str, Any]:
    return {line["id"]: line for line in map(json.loads, (folder / "predictions.jsonl").read_text().splitlines())}


def test_evaluation_writes_and_prints_its_results(
    model_dir: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_evaluation(*common(model_dir, clips), "--output_dir", tmp_path / "out") == 0
    output = capfd.readouterr().out
    assert "2 of 7 videos could not be decoded and count as wrong" in output and "top-1" in output
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["counts"] == {"videos": 7, "decoded": 5, "failed": 2}
    assert facts["data"]["dataset"] == str(clips) and facts["data"]["split"] == "train"
    assert facts["model"]["name"] == str(model_dir) and facts["views"]["temporal"] == 2
    assert {row["name"] for row in facts["per_class"]} == set(NAMES)
    assert facts["metrics"]["top1"] <= 5 / 7
    assert len(predictions(tmp_path / "out")) == 7
    assert (tmp_path / "out" / "confusion.png").stat().st_size > 2000


def test_shards_of_the_hub_stay_in_the_cache(hub: LocalHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_parquet(hub.dataset("org/set"), rows=(2, 1))
    save_head(tmp_path / "model", problem_type="single_label_classification", names=MotionSource().class_names)
    arguments = ["--model", tmp_path / "model", "--dataset", "org/set", "--split", "train", "--views", "1x1"]
    arguments += ["--num_workers", 0, "--cache_dir", tmp_path / "cache", "--output_dir", tmp_path / "out"]
    for already in (1, 2):  # the columns are found in the first shard
        assert run_evaluation(*arguments) == 0
        assert f"{already} of 2 shards" in capfd.readouterr().out


def make_bad_models(folder: Path) -> None:
    VideoMAEForPreTraining(VideoMAEConfig.from_preset("tiny")).save_pretrained(folder / "pretrained")
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_labels=3)
    VideoMAEForVideoClassification(config).save_pretrained(folder / "unnamed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "{}/pretrained"], "fine-tune it first"),
        (["--model", "{}/unnamed"], "--match_labels index"),
        (["--model", "{}/nowhere"], "nowhere"),
        (["--dataset", "motion", "--split", "test"], "unknown to the model"),
        (["--views", "5"], "--views"),
        (["--view", "5x3"], "did you mean --views"),
        (["--split", "tset"], "tset"),
        (["--batch_size", "0"], "--batch_size is 0"),
        (["--push_to_hub"], "then hf-videomae push DIR --hub_model_id ORG/NAME"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    model_dir: Path,
    clips: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    make_bad_models(tmp_path)
    capfd.readouterr()
    filled = [argument.format(tmp_path) for argument in arguments]
    assert run_evaluation(*common(model_dir, clips), "--output_dir", tmp_path / "out", *filled) == 2
    errors = [line for line in capfd.readouterr().err.strip().splitlines() if "Loading weights" not in line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0], errors
    assert not (tmp_path / "out").exists()


def test_checkpoint_without_names_is_evaluated_by_index(clips: Path, tmp_path: Path) -> None:
    make_bad_models(tmp_path)
    arguments = [*common(tmp_path / "unnamed", clips), "--match_labels", "index", "--views", "1x1"]
    assert run_evaluation(*arguments, "--output_dir", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["model"]["classes"] == 3


def labelled(folder: Path, labels: list[str]) -> Path:
    """Write clips with an index file; the last is damaged."""
    motion = MotionSource(split="test")
    folder.mkdir()
    for number in range(len(labels)):
        video = motion[number].video
        (folder / f"{number}.mp4").write_bytes(video if number < len(labels) - 1 else video[:1500])
    rows = [f"{number}.mp4,{label}" for number, label in enumerate(labels)]
    (folder / "index.csv").write_text("\n".join(["path,label", *rows]))
    return folder


def save_head(folder: Path, *, problem_type: str, names: list[str]) -> Path:
    torch.manual_seed(2)
    values = {"num_hidden_layers": 1, "head_init_scale": 1.0, "id2label": dict(enumerate(names))}
    config = VideoMAEConfig.from_preset("tiny", task="classification", problem_type=problem_type, **values)
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    return folder


def test_multi_label_model_is_evaluated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = save_head(tmp_path / "m", problem_type="multi_label_classification", names=[*NAMES, "never seen"])
    clips = labelled(tmp_path / "clips", ["kicking|pushing", "hand_shaking", "pushing", "kicking", "pushing"])
    assert run_evaluation(*common(model, clips), "--output_dir", tmp_path / "out") == 0
    output = capfd.readouterr().out
    assert "mAP" in output and "over 3 classes (1 without a video left out: never seen)" in output
    assert "1 of 5 videos could not be decoded and count as wrong; the first is" in output
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["classes_without_videos"] == ["never seen"] and facts["views"]["merge"] == "mean of sigmoid"
    assert [(row["name"], row["videos"], row["failed"]) for row in facts["per_class"]] == [
        ("Kicking", 2, 0),
        ("hand shaking", 1, 0),
        ("pushing", 3, 1),
    ]
    lines = predictions(tmp_path / "out")
    assert lines["0.mp4"]["labels"] == ["Kicking", "pushing"] and len(lines["0.mp4"]["predictions"]) == 4
    assert lines["4.mp4"]["predictions"] is None and not (tmp_path / "out" / "confusion.png").exists()


def test_regression_model_is_evaluated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = save_head(tmp_path / "m", problem_type="regression", names=["value"])
    clips = labelled(tmp_path / "clips", ["0.5", "1", "-2", "0.25", "7"])
    assert run_evaluation(*common(model, clips), "--output_dir", tmp_path / "out") == 0
    output = capfd.readouterr().out
    assert "1 of 5 videos could not be decoded and are left out, as they have no error" in output
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert facts["counts"] == {"videos": 5, "decoded": 4, "failed": 1} and facts["failed_count_as"] == "left out"
    lines = predictions(tmp_path / "out")
    errors = [abs(line["label"]["value"] - line["prediction"]["value"]) for line in list(lines.values())[:4]]
    assert facts["metrics"]["mae"] == pytest.approx(sum(errors) / 4, rel=1e-5)
    assert lines["4.mp4"] == {"id": "4.mp4", "label": {"value": 7.0}, "prediction": None}
    assert run_evaluation(*common(model, tmp_path / "clips"), "--dataset", "motion") == 2
    assert "one class per video, not labels for regression" in capfd.readouterr().err


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(model_dir: Path, clips: Path, tmp_path: Path) -> None:
    assert run_evaluation(*common(model_dir, clips), "--output_dir", tmp_path / "one") == 0
    config = ROOT / "examples" / "accelerate" / "cpu-2.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), str(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command += [*common(model_dir, clips), "--output_dir", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert two["hardware"]["processes"] == 2
    for part in ("counts", "metrics", "failed_videos", "per_class", "confusion"):
        assert one[part] == two[part]
    first, second = predictions(tmp_path / "one"), predictions(tmp_path / "two")
    assert first.keys() == second.keys()
    for name, line in first.items():
        for mine, other in zip(line["predictions"] or [], second[name]["predictions"] or [], strict=True):
            assert mine["label"] == other["label"] and mine["score"] == pytest.approx(other["score"], abs=1e-5)
