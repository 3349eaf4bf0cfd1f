"""Test `examples/finetune.py` as a user runs it: learn, save, resume exactly, refuse bad input in one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEVideoProcessor
from hf_videomae.data import MotionSource
from hf_videomae.data.motion import CLASS_NAMES
from tests.helpers.running import lines
from tests.helpers.scripts import run_example

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "finetune.py"
finetune = partial(run_example, "finetune")
QUICK = ["--batch_size", "8", "--num_workers", "0", "--log_every", "1", "--save_every", "100", "--log_samples"]
NO_CHANCE = [
    "--augment",
    "center_crop",
    "--num_sample",
    "1",
    "--mixup",
    "0",
    "--cutmix",
    "0",
    "--label_smoothing",
    "0",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Reset Accelerate, which keeps the precision of the first run of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 32 motion clips, in a folder per class."""
    folder, source = tmp_path_factory.mktemp("clips"), MotionSource()
    for number in range(32):
        path = folder / CLASS_NAMES[number % 8] / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source[number].video)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small checkpoint as pre-training leaves it."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=2, decoder_num_hidden_layers=1)
    VideoMAEForPreTraining(config).save_pretrained(folder)
    VideoMAEVideoProcessor.from_config(config, frame_stride=2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def straight(clips: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps of the whole recipe without a break, with the average of the weights."""
    folder = tmp_path_factory.mktemp("straight")
    arguments = ["--model", pretrained, "--dataset", clips, "--ema_decay", "0.9", "--base_lr", "1e-2"]
    assert finetune(*QUICK, *arguments, "--max_steps", "6", "--output_dir", folder) == 0
    return folder


def test_finetuning_writes_the_documented_files(straight: Path, pretrained: Path) -> None:
    metrics = lines(straight / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert metrics[0]["loss"] == pytest.approx(2.0794, abs=2e-3)  # ln 8
    assert all(line["baseline"] == pytest.approx(2.0794, abs=1e-4) for line in metrics)
    assert all(len(line["sample_ids"]) == 8 for line in lines(straight / "samples-0.jsonl"))
    run = json.loads((straight / "run.json").read_text())
    assert (run["status"], run["task"], run["steps"], run["clips"]) == ("finished", "finetune", 6, 48)
    assert run["data"]["classes"] == sorted(CLASS_NAMES) and run["parents"][0]["model"] == str(pretrained)
    assert not (straight / "trained.safetensors").exists()


def test_saved_model_loads_with_its_classes(straight: Path) -> None:
    model = VideoMAEForVideoClassification.from_pretrained(straight)
    assert list(model.config.id2label.values()) == sorted(CLASS_NAMES)
    assert model.config.problem_type == "single_label_classification"
    processor = VideoMAEVideoProcessor.from_pretrained(straight)
    assert (processor.num_frames, processor.frame_stride, processor.sampling_mode) == (8, 2, "dense")


@pytest.mark.parametrize("workers", [0, 1])
def test_run_resumed_twice_equals_an_uninterrupted_one(
    straight: Path, clips: Path, pretrained: Path, tmp_path: Path, workers: int
) -> None:
    arguments = ["--model", pretrained, "--dataset", clips, "--ema_decay", "0.9", "--base_lr", "1e-2"]
    common = [*QUICK, "--num_workers", workers, *arguments, "--max_steps", "6", "--output_dir", tmp_path]
    assert finetune(*common, "--stop_at_step", "2") == 0
    again = ["--resume", "--output_dir", tmp_path, *QUICK, "--num_workers", workers]
    assert finetune(*again, "--stop_at_step", "4") == 0
    assert finetune(*common, "--resume") == 0
    for name in ("loss", "lr", "grad_norm"):
        expected = [line[name] for line in lines(straight / "metrics.jsonl")]
        assert [line[name] for line in lines(tmp_path / "metrics.jsonl")] == expected
    assert (tmp_path / "samples-0.jsonl").read_text() == (straight / "samples-0.jsonl").read_text()
    before, after = (
        VideoMAEForVideoClassification.from_pretrained(folder).state_dict() for folder in (straight, tmp_path)
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_finetuning_learns_32_clips(clips: Path, tmp_path: Path) -> None:
    arguments = ["--model", "tiny", "--dataset", clips, "--max_steps", "120", "--batch_size", "16"]
    arguments += ["--drop_path", "0", "--layer_decay", "1", "--base_lr", "2e-2", "--num_workers", "0"]
    assert finetune(*arguments, *NO_CHANCE, "--output_dir", tmp_path) == 0
    assert lines(tmp_path / "metrics.jsonl")[-1]["loss"] < 1.3  # ln 8 = 2.08


def test_accumulation_equals_the_large_batch(clips: Path, pretrained: Path, tmp_path: Path) -> None:
    arguments = [*NO_CHANCE, "--model", pretrained, "--dataset", clips, "--max_steps", "3", "--drop_path", "0"]
    arguments += ["--num_workers", "0", "--log_every", "1", "--base_lr", "1e-3", "--clip_grad", "1"]
    assert finetune(*arguments, "--batch_size", "8", "--output_dir", tmp_path / "large") == 0
    parts = ["--batch_size", "4", "--gradient_accumulation", "2"]
    assert finetune(*arguments, *parts, "--output_dir", tmp_path / "parts") == 0
    for one, other in zip(*(lines(tmp_path / name / "metrics.jsonl") for name in ("large", "parts")), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6) and one["lr"] == other["lr"]
    large, accumulated = (
        VideoMAEForVideoClassification.from_pretrained(tmp_path / name).state_dict() for name in ("large", "parts")
    )
    assert all(torch.allclose(value, accumulated[name], atol=1e-6, rtol=0) for name, value in large.items())


@pytest.mark.parametrize(
    "extra",
    [
        ["--freeze", "encoder", "--gradient_checkpointing"],
        ["--freeze", "1", "--mixed_precision", "bf16"],
        ["--sampling", "uniform", "--head_dropout", "0.5"],
        ["--frame_seconds", "0.2", "--rand_augment", "none"],
    ],
)
def test_variants_of_the_recipe_train(clips: Path, pretrained: Path, tmp_path: Path, extra: list[str]) -> None:
    arguments = ["--model", pretrained, "--dataset", clips, "--max_steps", "2", "--output_dir", tmp_path]
    assert finetune(*QUICK, *arguments, "--base_lr", "1e-2", *extra) == 0
    before, after = (
        VideoMAEForVideoClassification.from_pretrained(tmp_path),
        VideoMAEForPreTraining.from_pretrained(pretrained),
    )
    same = torch.equal(
        before.videomae.encoder.layer[0].layernorm_before.weight,
        after.videomae.encoder.layer[0].layernorm_before.weight,
    )
    assert same == ("--freeze" in extra)


@pytest.fixture(scope="module")
def split_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 16 motion clips for training, and 7 for validation and test."""
    folder, source = tmp_path_factory.mktemp("splits"), MotionSource()
    for number in range(23):
        path = folder / ("train" if number < 16 else "test") / CLASS_NAMES[number % 8] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source[number].video)
    return folder


def without(line: dict[str, Any], *prefixes: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not name.startswith(prefixes)}


def test_validations_change_only_the_log(
    split_clips: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", pretrained, "--dataset", split_clips, "--max_steps", "4", "--base_lr", "1e-2"]
    arguments += ["--ema_decay", "0.5", "--head_dropout", "0.3"]
    validated = ["--test_split", "test", "--eval_every", "2", "--eval_views", "1x1", "--views", "2x1"]
    assert finetune(*QUICK, *arguments, "--output_dir", tmp_path / "plain") == 0
    capsys.readouterr()
    assert finetune(*QUICK, *arguments, *validated, "--output_dir", tmp_path / "straight") == 0
    said = capsys.readouterr().out
    assert said.count("on 7 videos, 1x1 views") == 2 and said.count("on 7 videos, 2x1 views") == 1
    assert json.loads((tmp_path / "straight" / "evaluation.json").read_text())["counts"]["videos"] == 7
    stopped = [*QUICK, *arguments, *validated, "--num_workers", "1", "--output_dir", tmp_path / "parts"]
    assert finetune(*stopped, "--stop_at_step", "3") == 0
    assert finetune(*stopped, "--resume") == 0

    plain, straight, parts = (lines(tmp_path / name / "metrics.jsonl") for name in ("plain", "straight", "parts"))
    assert [line["step"] for line in straight if "eval_top1" in line] == [2, 4]
    timing = ("clips_per_second", "seconds", "data_wait", "data_seconds")
    assert [without(line, "eval_", *timing) for line in straight] == [without(line, *timing) for line in plain]
    assert [without(line, *timing) for line in parts] == [without(line, *timing) for line in straight]
    models = [
        VideoMAEForVideoClassification.from_pretrained(tmp_path / name) for name in ("plain", "straight", "parts")
    ]
    for name, value in models[0].state_dict().items():
        assert all(torch.equal(value, model.state_dict()[name]) for model in models[1:]), name


def broken_split(folder: Path, split: str, clips: Path, *, classes: Sequence[str]) -> None:
    """Write a dataset that trains on the videos of `clips`, and whose other split cannot be decoded."""
    for name in classes:
        (folder / split / name).mkdir(parents=True)
        (folder / split / name / "a.mp4").write_bytes(b"no video")
    if not (folder / "train").exists():
        shutil.copytree(clips / "train", folder / "train")


def test_split_that_cannot_be_validated_loses_no_training(
    split_clips: Path, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken_split(tmp_path / "set", "test", split_clips, classes=CLASS_NAMES[:2])
    broken_split(tmp_path / "set", "validation", split_clips, classes=("handstand", CLASS_NAMES[0]))
    arguments = [*QUICK, "--model", pretrained, "--dataset", tmp_path / "set", "--max_steps", "2", "--base_lr", "1e-2"]
    arguments += ["--output_dir", tmp_path / "run"]
    assert finetune(*arguments, "--test_split", "validation") == 2
    assert "'handstand'" in capfd.readouterr().err and not (tmp_path / "run").exists()
    assert finetune(*arguments, "--test_split", "test", "--eval_every", "1") == 2
    message = capfd.readouterr().err
    assert "after step 1 failed: --test_split test: none of the 2 videos" in message and "--resume" in message
    assert finetune(*arguments, "--resume") == 0
    assert [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2]


@pytest.mark.slow
def test_two_processes_equal_one_with_both_batches(split_clips: Path, pretrained: Path, tmp_path: Path) -> None:
    # 7 videos of the test split: the processes have 4 and 3 of them, and none counts twice.
    arguments = [*NO_CHANCE, "--model", pretrained, "--dataset", split_clips, "--max_steps", "4", "--drop_path", "0"]
    arguments += ["--log_every", "1", "--base_lr", "1e-2", "--ema_decay", "0.5", "--num_workers", "1"]
    arguments += ["--test_split", "test", "--eval_every", "2", "--views", "2x1"]
    assert finetune(*arguments, "--batch_size", "8", "--output_dir", tmp_path / "one") == 0
    done = launch(*arguments, "--batch_size", "4", "--output_dir", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("on 7 videos, 1x1 views") == 2 and done.stdout.count("on 7 videos, 2x1 views") == 1

    one, two = (lines(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [line["step"] for line in two if "eval_top1" in line] == [2, 4]
    for first, second in zip(one, two, strict=True):
        assert first["lr"] == second["lr"] and first.get("eval_top1") == second.get("eval_top1")
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)
    alone, together = (
        VideoMAEForVideoClassification.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two")
    )
    assert all(torch.allclose(value, together[name], atol=1e-5, rtol=0) for name, value in alone.items())
    scores = [lines(tmp_path / name / "predictions.jsonl") for name in ("one", "two")]
    assert [line["id"] for line in scores[0]] == [line["id"] for line in scores[1]] and len(scores[0]) == 7
    assert json.loads((tmp_path / "two" / "run.json").read_text())["hardware"]["processes"] == 2


@pytest.mark.slow
def test_two_processes_resume_exactly_with_all_augmentation(
    split_clips: Path, pretrained: Path, tmp_path: Path
) -> None:
    arguments = ["--model", pretrained, "--dataset", split_clips, "--max_steps", "4", "--batch_size", "4"]
    arguments += ["--log_every", "1", "--base_lr", "1e-2", "--ema_decay", "0.5", "--num_workers", "0"]
    arguments += ["--test_split", "test", "--eval_every", "2", "--views", "1x1"]
    for name, extra in (("straight", []), ("parts", ["--stop_at_step", "2"]), ("parts", ["--resume"])):
        done = launch(*arguments, *extra, "--output_dir", tmp_path / name)
        assert done.returncode == 0, done.stderr
    straight, parts = (lines(tmp_path / name / "metrics.jsonl") for name in ("straight", "parts"))
    timing = ("clips_per_second", "seconds", "data_wait", "data_seconds")
    assert [without(line, *timing) for line in parts] == [without(line, *timing) for line in straight]


@pytest.mark.slow
def test_failing_test_ends_both_processes_with_one_line(split_clips: Path, pretrained: Path, tmp_path: Path) -> None:
    broken_split(tmp_path / "set", "test", split_clips, classes=CLASS_NAMES[:2])
    arguments = ["--model", pretrained, "--dataset", tmp_path / "set", "--max_steps", "2", "--batch_size", "4"]
    arguments += ["--num_workers", "0", "--base_lr", "1e-2", "--test_split", "test"]
    done = launch(*arguments, "--output_dir", tmp_path / "run")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode != 0 and len(errors) == 1 and "checkpoint-2 is saved" in errors[0], done.stderr
    assert (tmp_path / "run" / "checkpoint-2" / "run_state.json").exists()


def launch(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    """Return the command of the script in two processes, as the README says."""
    config = ROOT / "examples" / "accelerate" / "cpu-2.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), str(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command += [str(argument) for argument in arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("problem_type", "labels", "metric"),
    [
        ("multi_label_classification", ["up", "up|left", "left", "left|slow"], "mean_average_precision"),
        ("regression", ["0.5", "1", "2", "-3"], "mae"),
    ],
)
def test_multi_label_and_regression_models_are_tested(
    tmp_path: Path, problem_type: str, labels: list[str], metric: str
) -> None:
    source, rows = MotionSource(), ["path,label,split"]
    for number in range(16):
        (tmp_path / f"{number}.mp4").write_bytes(source[number].video)
        rows.append(f"{number}.mp4,{labels[number % 4]},{'train' if number < 12 else 'test'}")
    (tmp_path / "index.csv").write_text("\n".join(rows))
    arguments = ["--dataset", tmp_path, "--test_split", "test", "--views", "1x1", "--max_steps", "1"]
    arguments += ["--problem_type", problem_type, "--frame_seconds", "0.2", "--output_dir", tmp_path / "run"]
    assert finetune(*QUICK, *arguments) == 0
    facts = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert facts["counts"]["videos"] == 4 and facts["metrics"][metric] > 0
    assert facts["model"]["problem_type"] == problem_type and facts["views"]["frame_seconds"] == 0.2


def test_regression_is_learned(clips: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(clips).as_posix()},{number / 10}" for number, path in enumerate(clips.glob("*/*.mp4"))]
    folder = tmp_path / "numbers"
    folder.mkdir()
    for name in CLASS_NAMES:
        (folder / name).symlink_to(clips / name)
    (folder / "index.csv").write_text("path,label\n" + "\n".join(rows))
    arguments = ["--dataset", folder, "--problem_type", "regression", "--max_steps", "2", "--allow_paths", clips]
    assert finetune(*QUICK, *arguments, "--output_dir", tmp_path / "run") == 0
    config = VideoMAEConfig.from_pretrained(tmp_path / "run")
    assert (config.num_labels, config.problem_type) == (1, "regression")


def test_class_with_one_video_is_named(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.relative_to(clips).as_posix() for path in sorted(clips.glob("*/*.mp4"))]
    folder = tmp_path / "scarce"
    folder.mkdir()
    for name in CLASS_NAMES:
        (folder / name).symlink_to(clips / name)
    rows = [f"{name},{'rare' if number == 0 else 'often'}" for number, name in enumerate(names)]
    (folder / "index.csv").write_text("path,label\n" + "\n".join(rows))
    arguments = ["--dataset", folder, "--max_steps", "1", "--allow_paths", clips]
    assert finetune(*QUICK, *arguments, "--output_dir", tmp_path / "run") == 0
    assert "warning: 1 of 2 classes have a single video: rare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "{}/unlabelled"], "has no labels"),
        (["--dataset", "{}/half"], "have no label, the first is b.mp4"),
        (["--dataset", "{}/half", "--problem_type", "regression"], "have no label"),
        (["--dataset", "{}/words", "--problem_type", "regression"], "regression wants a finite number"),
        (["--dataset", "{}/one"], "the class 'walk'"),
        (["--model", "{}/classifier", "--head", "keep"], "none is 'move_left'"),
        (["--model", "{}/classifier", "--freeze", "9"], "the encoder has 1 layers"),
        (["--layer_decai", "1"], "did you mean --layer_decay"),
        (["--model", "bases"], "neither a preset"),
        (["--problem_type", "regression"], "one class per video"),
        (["--model", "base"], "length of the run is missing"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_bad_inputs(tmp_path)
    steps = [] if message.startswith("length") else ["--max_steps", "2"]
    filled = [argument.format(tmp_path) for argument in arguments]
    assert finetune(*QUICK, *steps, "--output_dir", tmp_path / "run", *filled) == 2
    errors = [line for line in capfd.readouterr().err.strip().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], errors
    assert not (tmp_path / "run").exists()


def make_bad_inputs(folder: Path) -> None:
    source = MotionSource()
    sets = {"half": ("walk", "nan"), "words": ("walk", "run"), "one": ("walk", "walk"), "unlabelled": ()}
    for name, labels in sets.items():
        (folder / name).mkdir()
        for number, file in enumerate(("a.mp4", "b.mp4")):
            (folder / name / file).write_bytes(source[number].video)
        if labels:
            rows = [f"{file},{label}" for file, label in zip(("a.mp4", "b.mp4"), labels, strict=True)]
            (folder / name / "index.csv").write_text("path,label\n" + "\n".join(rows))
    config = VideoMAEConfig.from_preset("tiny", task="classification", num_hidden_layers=1, num_labels=2)
    VideoMAEForVideoClassification(config).save_pretrained(folder / "classifier")


@pytest.mark.slow
def test_compiled_step_trains(clips: Path, pretrained: Path, tmp_path: Path) -> None:
    arguments = [*QUICK, *NO_CHANCE, "--model", pretrained, "--dataset", clips, "--max_steps", "3", "--drop_path", "0"]
    assert finetune(*arguments, "--output_dir", tmp_path / "eager") == 0
    torch._dynamo.reset()
    assert finetune(*arguments, "--compile", "--output_dir", tmp_path / "compiled") == 0
    for one, other in zip(*(lines(tmp_path / name / "metrics.jsonl") for name in ("eager", "compiled")), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
