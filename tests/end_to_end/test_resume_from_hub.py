"""A run begun on one machine goes on, from the Hub alone, on another: bit for bit the run that never moved."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from local_hub import LocalHub
from local_hub.runs import push_state
from running import ROOT, lines, pretrain, write_small_model

from hf_videomae import VideoMAEForPreTraining

QUICK = ["--max_steps", 8, "--batch_size", 4, "--log_every", 1, "--save_every", 100, "--log_samples"]
PATIENCE = 300.0


def run(hub: LocalHub, *arguments: object, processes: int = 1) -> "subprocess.CompletedProcess[str]":
    variables = {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = pretrain("--num_workers", 0, *arguments, processes=processes)
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE)


def done(hub: LocalHub, *arguments: object, processes: int = 1) -> str:
    finished = run(hub, *arguments, processes=processes)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_it_goes_on_from_the_hub_alone(hub: LocalHub, tmp_path: Path, processes: int) -> None:
    model = write_small_model(tmp_path / "model")
    common = [*QUICK, "--model", model]
    done(hub, *common, "--output_dir", tmp_path / "straight", processes=processes)
    done(hub, *common, "--output_dir", tmp_path / "first", "--stop_at_step", 4, processes=processes)
    commit = push_state(hub, tmp_path / "first" / "checkpoint-4")
    # The settings come from there, too; and the Hub fails on the way.
    hub.fail("GET /cdn/", status=500)
    hub.cut_off("GET /cdn/.*/optimizer.safetensors", after_bytes=3000, times=7)
    second = tmp_path / "second"
    flags = ["--log_every", 1, "--save_every", 100, "--log_samples"]
    printed = done(hub, "--resume", "org/name", "--output_dir", second, *flags, processes=processes)
    assert f"resumed from {second}/checkpoint-4 at step 4" in printed and "this is not the run" not in printed
    assert {request.fault for request in hub.requests("GET /cdn/")} == {"status", "reset", None}
    straight = lines(tmp_path / "straight" / "metrics.jsonl")
    for name in ("step", "loss", "lr", "grad_norm"):
        assert [line[name] for line in lines(second / "metrics.jsonl")] == [line[name] for line in straight]
    for rank in range(processes):
        name = f"samples-{rank}.jsonl"
        assert (second / name).read_text() == (tmp_path / "straight" / name).read_text()
    before, after = (
        VideoMAEForPreTraining.from_pretrained(folder).state_dict() for folder in (tmp_path / "straight", second)
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert json.loads((second / "run.json").read_text())["resumed_from"] == f"org/name@{commit}"


@pytest.mark.slow
def test_a_run_without_its_state_is_one_line_from_two_processes(hub: LocalHub, tmp_path: Path) -> None:
    hub.model("org/weights")
    finished = run(hub, "--resume", "org/weights", "--output_dir", tmp_path / "second", processes=2)
    assert finished.returncode != 0
    (error,) = [line for line in finished.stderr.splitlines() if "org/weights" in line and "error" in line]
    assert "org/weights has no branch training-state" in error and "--model org/weights" in error
    assert not (tmp_path / "second").exists()
