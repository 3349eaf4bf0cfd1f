"""Test data errors during training: finished steps are saved, and a resumed run equals one without the error."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_videomae.checkpoint_dir import latest_checkpoint
from hf_videomae.run_files import read_jsonl
from hf_videomae.training import RunError
from tests.helpers.toy import run_in_processes, toy_train

pytestmark = pytest.mark.fault


def same_end(one: Path, other: Path, *, processes: int = 1) -> None:
    losses = [[line["loss"] for line in read_jsonl(folder / "metrics.jsonl")] for folder in (one, other)]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    for rank in range(processes):
        name = f"samples-{rank}.jsonl"
        assert (one / name).read_text() == (other / name).read_text()
    before, after = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_resume_after_data_error_equals_uninterrupted_run(tmp_path: Path, accumulated: int) -> None:
    settings = {"log_samples": True, "gradient_accumulation": accumulated}
    toy_train(tmp_path / "straight", **settings)
    # With two batches per step, the second one of step 4 fails.
    with pytest.raises(RunError, match=r"a.mp4 cannot be decoded.*checkpoint-3 is saved.*--resume"):
        toy_train(tmp_path / "run", broken=3 * accumulated + accumulated - 1, **settings)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert [line["step"] for line in read_jsonl(tmp_path / "run" / "bad_videos.jsonl")] == [4]
    toy_train(tmp_path / "run", resume="auto", **settings)
    same_end(tmp_path / "straight", tmp_path / "run")


def test_data_error_does_not_rewrite_saved_step(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="checkpoint-2 is saved"):
        toy_train(tmp_path, broken=2, save_every=2)
    saved = latest_checkpoint(tmp_path)
    assert saved is not None and saved.name == "checkpoint-2"


def test_data_error_right_after_resume_keeps_checkpoint(tmp_path: Path) -> None:
    toy_train(tmp_path / "straight", log_samples=True)
    toy_train(tmp_path / "run", stop_at_step=2, log_samples=True)
    with pytest.raises(ValueError, match="a.mp4 cannot be decoded"):
        toy_train(tmp_path / "run", resume="auto", broken=2, log_samples=True)
    toy_train(tmp_path / "run", resume="auto", log_samples=True)
    same_end(tmp_path / "straight", tmp_path / "run")


def test_data_error_in_first_step_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a.mp4 cannot be decoded"):
        toy_train(tmp_path, broken=0)
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.slow
def test_data_error_in_one_process_saves_both(tmp_path: Path) -> None:
    run_in_processes(2, tmp_path / "straight", log_samples=True)
    done = run_in_processes(2, tmp_path / "run", broken=3, log_samples=True)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "a.mp4 cannot be decoded" in line and "checkpoint-3 is saved" in line
    done = run_in_processes(2, tmp_path / "run", resume="auto", log_samples=True)
    assert done.returncode == 0, done.stderr
    same_end(tmp_path / "straight", tmp_path / "run", processes=2)
