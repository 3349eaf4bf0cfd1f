"""Test runs that are stopped while they wait, killed before a checkpoint, or started twice in one folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hf_videomae.run_files import read_jsonl
from hf_videomae.training import RunError
from tests.helpers.toy import run_in_processes, toy_run, toy_train

pytestmark = pytest.mark.fault
ROOT = Path(__file__).resolve().parents[2]


def assert_same_end(one: Path, other: Path) -> None:
    losses = [[(line["step"], line["loss"]) for line in read_jsonl(run / "metrics.jsonl")] for run in (one, other)]
    assert losses[0] == losses[1]
    weights = [load_file(run / "model.safetensors") for run in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# A signal while waiting for a batch.


@pytest.mark.parametrize("accumulation", [1, 2])
def test_signal_while_waiting_rolls_back_step_and_saves_last(tmp_path: Path, accumulation: int) -> None:
    options = {"gradient_accumulation": accumulation, "log_samples": True}
    result = toy_train(tmp_path / "parts", stopped=5, **options)
    assert (result.step, result.exit_code) == (5 // accumulation, 143)
    assert json.loads((tmp_path / "parts/run.json").read_text())["status"] == "stopped"
    assert not (tmp_path / "parts/.lock").exists()
    toy_train(tmp_path / "parts", resume="auto", **options)
    toy_train(tmp_path / "straight", **options)
    assert_same_end(tmp_path / "parts", tmp_path / "straight")
    samples = [(tmp_path / run / "samples-0.jsonl").read_text() for run in ("parts", "straight")]
    assert samples[0] == samples[1]


def test_signal_before_first_step_saves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = toy_train(tmp_path, stopped=1, gradient_accumulation=2)
    assert (result.step, result.exit_code) == (0, 143) and not list(tmp_path.glob("checkpoint-*"))
    assert "there is nothing to save yet" in capsys.readouterr().out
    assert toy_train(tmp_path, resume="auto", gradient_accumulation=2).step == 6


def test_signal_right_after_resume_keeps_checkpoint(tmp_path: Path) -> None:
    options = {"gradient_accumulation": 2, "log_samples": True}
    toy_train(tmp_path, stop_at_step=2, **options)
    state = tmp_path / "checkpoint-2/run_state.json"
    before = state.stat().st_mtime_ns
    result = toy_train(tmp_path, resume="auto", stopped=5, **options)
    assert (result.step, result.exit_code) == (2, 143) and state.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("everywhere", [True, False])
def test_signal_while_waiting_rolls_back_step_in_both_processes(tmp_path: Path, everywhere: bool) -> None:
    """The second process is in its backward pass and waits for the gradients of the first one."""
    done = run_in_processes(2, tmp_path / "parts", stopped=3, everywhere=everywhere)
    assert done.returncode != 0 and "stopped by SIGTERM after step 3 of 6; saved checkpoint-3" in done.stdout
    assert run_in_processes(2, tmp_path / "parts", resume="auto").returncode == 0
    assert run_in_processes(2, tmp_path / "straight").returncode == 0
    assert_same_end(tmp_path / "parts", tmp_path / "straight")


# The same command line for the first and every later start.


def test_resume_without_output_dir_starts_new_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy_train(tmp_path / "new", resume="auto").step == 6
    assert f"note: --resume: no checkpoint in {tmp_path / 'new'} yet" in capsys.readouterr().out


def test_resume_restarts_after_kill_before_first_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(call: int) -> None:
        if call == 4:
            raise MemoryError

    with pytest.raises(MemoryError):
        toy_train(tmp_path, before_step=kill, log_samples=True)
    (tmp_path / ".unfinished-3").mkdir()
    run_id = json.loads((tmp_path / "run.json").read_text())["run_id"]
    assert len(read_jsonl(tmp_path / "metrics.jsonl")) == 3
    with pytest.raises(RunError, match="an earlier run; .* --resume"):
        toy_train(tmp_path)
    assert toy_train(tmp_path, resume="auto").step == 6
    assert "was interrupted before its first checkpoint" in capsys.readouterr().out
    assert [line["step"] for line in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    # Its Hub repository is still its own.
    assert json.loads((tmp_path / "run.json").read_text())["run_id"] == run_id


@pytest.mark.parametrize("left", ["result", "finished", "damaged", "other"])
def test_resume_does_not_overwrite_results(tmp_path: Path, left: str) -> None:
    run = {"run_id": "a", "status": "finished" if left == "finished" else "failed", "task": "pretrain"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    if left == "result":
        (tmp_path / "model.safetensors").write_bytes(b"weights")
    if left == "damaged":
        (tmp_path / "checkpoint-9").mkdir()
    if left == "other":
        from hf_videomae.training import FinetuneRecipe
        from hf_videomae.training.resume import is_fresh_restart

        assert not is_fresh_restart(FinetuneRecipe(output_dir=str(tmp_path), resume="auto"))
        return
    with pytest.raises(RunError, match="an earlier run without a complete checkpoint"):
        toy_train(tmp_path, resume="auto")
    assert (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("content", [b"", b'{"run_id": "a", ', b"[]", b"\xff\xfe"])
def test_damaged_run_record_is_named(tmp_path: Path, content: bytes) -> None:
    record = tmp_path / "run.json"
    record.write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json is damaged.*--overwrite"):
        toy_train(tmp_path, resume="auto")
    assert record.read_bytes() == content
    assert toy_train(tmp_path, overwrite=True).step == 6


def test_resume_from_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="holds no complete checkpoint-STEP"):
        toy_train(tmp_path / "run", resume=str(tmp_path / "other"))


# A run locks its folder.


@pytest.mark.parametrize(
    "options",
    [{"overwrite": True}, *(pytest.param(options, marks=pytest.mark.slow) for options in ({}, {"resume": "auto"}))],
)
def test_second_run_in_same_folder_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    toy_train(tmp_path, stop_at_step=3)
    run = toy_run(tmp_path, resume="auto")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = run_in_processes(1, tmp_path, **options)
    assert second.returncode == 2, second.stdout
    assert f"process {os.getpid()} on " in second.stderr and second.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert run.train().step == 6 and not (tmp_path / ".lock").exists()


def test_kill_releases_the_lock(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.helpers.toy import toy_run
run = toy_run(Path({str(tmp_path)!r}))
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        while process.stdout.readline().strip() != "ready":
            assert process.poll() is None
        with pytest.raises(RunError, match=f"is in use by another run .*process {process.pid} on"):
            toy_train(tmp_path, overwrite=True)
        process.kill()
        process.wait()
        # Its forked process still runs, like a worker that has not ended yet.
        assert toy_train(tmp_path, resume="auto").step == 6
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
