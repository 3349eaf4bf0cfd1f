"""Test `examples/pretrain.py` as a user runs it: learn, save, resume exactly, refuse bad input in one line."""

import json
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEVideoProcessor
from hf_videomae.cli import main as command
from hf_videomae.data import MotionSource
from tests.helpers.running import environment, launch, lines
from tests.helpers.scripts import run_example

pretrain = partial(run_example, "pretrain")
QUICK = ["--batch_size", "4", "--num_workers", "0", "--log_every", "1", "--save_every", "100", "--log_samples"]


pytestmark = pytest.mark.usefixtures("one_thread")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train six steps without a break."""
    folder = tmp_path_factory.mktemp("straight")
    assert pretrain(*QUICK, "--max_steps", "6", "--output_dir", folder) == 0
    return folder


def test_pretraining_writes_the_documented_files(straight: Path) -> None:
    metrics = lines(straight / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert all(line["baseline"] == pytest.approx(0.998, abs=0.01) for line in metrics)
    assert all(len(line["sample_ids"]) == 4 for line in lines(straight / "samples-0.jsonl"))
    assert all(id.startswith("train/") for line in lines(straight / "samples-0.jsonl") for id in line["sample_ids"])
    run = json.loads((straight / "run.json").read_text())
    assert (run["status"], run["steps"], run["clips"], run["bad_videos"]) == ("finished", 6, 24, 0)
    assert run["data"]["dataset"] == "motion" and run["data"]["videos"] > 0 and run["parents"] == []
    for name in ("loss.png", "reconstruction-1.png", "reconstruction-1.gif"):
        assert (straight / name).stat().st_size > 1000


def test_saved_model_loads(straight: Path) -> None:
    model = VideoMAEForPreTraining.from_pretrained(straight)
    last = VideoMAEForPreTraining.from_pretrained(straight / "checkpoint-6")
    assert all(torch.equal(value, last.state_dict()[name]) for name, value in model.state_dict().items())
    processor = VideoMAEVideoProcessor.from_pretrained(straight)
    assert (processor.num_frames, processor.frame_stride) == (8, 2)
    assert {path.suffix for path in (straight / "checkpoint-6").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("workers", ["0", "1"])
def test_run_resumed_twice_equals_an_uninterrupted_one(straight: Path, tmp_path: Path, workers: str) -> None:
    common = [*QUICK, "--num_workers", workers, "--max_steps", "6", "--output_dir", tmp_path]
    assert pretrain(*common, "--stop_at_step", "2") == 0
    assert pretrain("--resume", "--output_dir", tmp_path, *QUICK, "--num_workers", workers, "--stop_at_step", "4") == 0
    assert pretrain(*common, "--resume") == 0
    for name in ("loss", "lr", "grad_norm"):
        expected = [line[name] for line in lines(straight / "metrics.jsonl")]
        assert [line[name] for line in lines(tmp_path / "metrics.jsonl")] == expected
    assert (tmp_path / "samples-0.jsonl").read_text() == (straight / "samples-0.jsonl").read_text()
    before, after = (VideoMAEForPreTraining.from_pretrained(folder).state_dict() for folder in (straight, tmp_path))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_new_run_from_a_checkpoint_records_its_parent(straight: Path, tmp_path: Path) -> None:
    arguments = ["--model", straight, "--mask_ratio", "0.5", "--max_steps", "1", "--base_lr", "1e-3"]
    assert pretrain(*QUICK, *arguments, "--output_dir", tmp_path) == 0
    (parent,) = json.loads((tmp_path / "run.json").read_text())["parents"]
    assert (parent["model"], parent["hub_id"], parent["ancestors"]) == (str(straight), None, [])
    assert VideoMAEForPreTraining.from_pretrained(tmp_path).config.mask_ratio == 0.5


def folder_of_clips(folder: Path, *, good: int, bad: int) -> Path:
    folder.mkdir()
    source = MotionSource(split="train")
    for number in range(good):
        (folder / f"good-{number}.mp4").write_bytes(source[number].video)
    for number in range(bad):
        (folder / f"bad-{number}.mp4").write_bytes(source[number].video[:3000])
    return folder


def test_bad_videos_are_replaced_and_listed(tmp_path: Path) -> None:
    clips = folder_of_clips(tmp_path / "clips", good=11, bad=1)
    arguments = ["--dataset", clips, "--max_steps", "6", "--output_dir", tmp_path / "run"]
    assert pretrain(*QUICK, *arguments) == 0
    (line,) = lines(tmp_path / "run" / "bad_videos.jsonl")
    assert line["path"].endswith("bad-0.mp4") and line["reason"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["bad_videos"] == 1
    used = {id for line in lines(tmp_path / "run" / "samples-0.jsonl") for id in line["sample_ids"]}
    assert used <= {f"good-{number}.mp4" for number in range(11)}


def test_too_many_bad_videos_end_the_run_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clips = folder_of_clips(tmp_path / "clips", good=10, bad=5)
    arguments = ["--dataset", clips, "--max_steps", "60", "--output_dir", tmp_path / "run"]
    assert pretrain(*QUICK, *arguments) == 2
    (error,) = capfd.readouterr().err.strip().splitlines()
    assert "cannot be decoded" in error and "--max_bad_share" in error


def make_bad_inputs(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    for number in range(4):
        (folder / "broken" / f"{number}.mp4").write_bytes(b"no video at all" * 20)
    (folder / "note.txt").write_text("hello")
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (folder / "typo.yaml").write_text("mask_ration: 0.9\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "{}/nowhere"], "nowhere"),
        (["--dataset", "{}/empty"], "empty"),
        (["--dataset", "{}/broken"], "broken"),
        (["--dataset", "{}/note.txt"], "note.txt"),
        (["--recipe", "{}/typo.yaml"], "did you mean mask_ratio"),
        (["--mask_ration", "0.9"], "did you mean --mask_ratio"),
        (["--model", "{}/other"], "another model (vit)"),
        (["--model", "bases"], "neither a preset"),
        (["--batch_size", "100000"], "100000"),
        (["--split", "no_such_split"], "no_such_split"),
        (["--mask_ratio", "0.01"], "0.01"),
        (["--image_size", "50"], "50"),
        (["--hub_model_id", "org/name"], "give --push_to_hub as well"),
        (["--resume", "org/name"], "the Hub is switched off (HF_HUB_OFFLINE)"),
        ([], "holds an earlier run"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: list[str], message: str, straight: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_bad_inputs(tmp_path)
    shutil.copytree(straight, tmp_path / "run")
    before, begun = snapshot(tmp_path / "run"), time.monotonic()
    overwrite = ["--overwrite"] if arguments else []
    filled = [argument.format(tmp_path) for argument in arguments]
    code = pretrain(*QUICK, "--max_steps", "6", "--output_dir", tmp_path / "run", *overwrite, *filled)
    errors = capfd.readouterr().err.strip().splitlines()
    assert code == 2 and time.monotonic() - begun < 10
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0], errors
    assert snapshot(tmp_path / "run") == before


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_real_videos_are_learned_from(data_dir: Path, tmp_path: Path, processes: int) -> None:
    arguments = ["--dataset", data_dir, "--max_steps", "50", "--batch_size", "8", "--log_every", "1", "--log_samples"]
    command = launch(*arguments, "--output_dir", tmp_path, processes=processes)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = [line["loss"] for line in lines(tmp_path / "metrics.jsonl")]
    assert len(losses) == 50 and sum(losses[-10:]) < sum(losses[:10])
    ids = [line["sample_ids"] for rank in range(processes) for line in lines(tmp_path / f"samples-{rank}.jsonl")]
    assert len(ids) == 50 * processes
    assert json.loads((tmp_path / "run.json").read_text())["hardware"]["processes"] == processes


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_processes_stop_together_and_resume(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["--batch_size", "4", "--log_every", "1", "--num_workers", "1", "--max_steps", "400"]
    command = launch(*arguments, "--output_dir", tmp_path, processes=2)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        if line.startswith("step 5/"):
            process.send_signal(number)
            break
    output += process.stdout.readlines()
    assert process.wait(timeout=60) != 0
    (stopped,) = [line for line in output if line.startswith("stopped by")]
    checkpoint = int(stopped.split("after step ")[1].split()[0])
    assert (tmp_path / f"checkpoint-{checkpoint}" / "run_state.json").exists()
    again = launch("--resume", "--output_dir", tmp_path, "--stop_at_step", checkpoint + 2, processes=2)
    done = subprocess.run(again, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"resumed from {tmp_path}/checkpoint-{checkpoint} at step {checkpoint}" in done.stdout


@pytest.mark.slow
def test_run_of_two_processes_resumes_in_one(tmp_path: Path) -> None:
    """Read prepared videos shard by shard: the steps are those of a run that two processes finish."""
    clips = folder_of_clips(tmp_path / "clips", good=18, bad=0)
    assert command(["prepare", str(clips), str(tmp_path / "set"), "--num_shards", "3"]) == 0
    common = [
        "--dataset",
        tmp_path / "set",
        "--max_steps",
        "6",
        "--log_every",
        "1",
        "--log_samples",
        "--num_workers",
        "1",
    ]
    two, parts = [*common, "--batch_size", "3"], tmp_path / "parts"
    done = [
        subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
        for command in (
            launch(*two, "--output_dir", tmp_path / "straight", processes=2),
            launch(*two, "--output_dir", parts, "--stop_at_step", "2", processes=2),
            launch(*common, "--batch_size", "6", "--output_dir", parts, "--resume"),
        )
    ]
    assert [run.returncode for run in done] == [0, 0, 0], done[-1].stderr
    assert "note: 1 process now, 2 before: no sample is skipped or repeated" in done[-1].stdout
    steps = [[set[str]() for _ in range(6)] for _ in range(2)]
    for folder, seen in zip((tmp_path / "straight", parts), steps, strict=True):
        for path in folder.glob("samples-*.jsonl"):
            for line in lines(path):
                seen[line["step"] - 1] |= set(line["sample_ids"])
    assert steps[0] == steps[1] and all(len(seen) == 6 for seen in steps[1])
    rates = [[line["lr"] for line in lines(folder / "metrics.jsonl")] for folder in (tmp_path / "straight", parts)]
    assert rates[0] == rates[1]


@pytest.mark.slow
def test_compiled_step_trains(tmp_path: Path) -> None:
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, decoder_num_hidden_layers=1)
    VideoMAEForPreTraining(config).save_pretrained(tmp_path / "small")
    arguments = [*QUICK, "--model", tmp_path / "small", "--max_steps", "3", "--base_lr", "1e-2"]
    assert pretrain(*arguments, "--output_dir", tmp_path / "eager") == 0
    torch._dynamo.reset()
    assert pretrain(*arguments, "--compile", "--output_dir", tmp_path / "compiled") == 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    eager, compiled = (lines(tmp_path / name / "metrics.jsonl") for name in ("eager", "compiled"))
    for one, other in zip(eager, compiled, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
