"""Test the trainer in two processes over gloo: shared decisions, and the numbers of one process with both batches."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hf_videomae.run_files import read_jsonl
from tests.helpers.toy import run_in_processes, toy_train


@pytest.mark.slow
def test_two_processes_equal_one_with_both_batches(tmp_path: Path) -> None:
    done = run_in_processes(2, tmp_path / "two", noise=0, log_samples=True, batch_size=4)
    assert done.returncode == 0, done.stderr
    toy_train(tmp_path / "one", noise=0, log_samples=True, batch_size=8)
    two, one = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    assert all(torch.allclose(one[name], two[name], atol=1e-6, rtol=0) for name in one)
    seen = [read_jsonl(tmp_path / "two" / f"samples-{rank}.jsonl") for rank in (0, 1)]
    together = [first["sample_ids"] + second["sample_ids"] for first, second in zip(*seen, strict=True)]
    assert together == [line["sample_ids"] for line in read_jsonl(tmp_path / "one" / "samples-0.jsonl")]
    assert done.stdout.count("done: 6 steps") == 1


@pytest.mark.slow
def test_nonfinite_loss_in_one_process_is_skipped_by_both(tmp_path: Path) -> None:
    # Batch 2 of process 1 is not finite. The resumed run equals the uninterrupted one.
    done = run_in_processes(2, tmp_path / "straight", poison=[2])
    assert done.returncode == 0, done.stderr
    (named,) = read_jsonl(tmp_path / "straight" / "nonfinite.jsonl")
    assert named["step"] == 3 and [row["process"] for row in named["samples"]] == [1]
    assert named["losses"][1] == "nan" and named["losses"][0] != "nan"
    weights = load_file(tmp_path / "straight" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())

    run_in_processes(2, tmp_path / "parts", poison=[2], stop_at_step=4)
    resumed = run_in_processes(2, tmp_path / "parts", poison=[2], resume="auto")
    assert resumed.returncode == 0, resumed.stderr
    metrics = [read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("straight", "parts")]
    assert [line["loss"] for line in metrics[0]] == [line["loss"] for line in metrics[1]]
    again = load_file(tmp_path / "parts" / "model.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.slow
def test_smaller_batch_in_one_process_keeps_both_in_step(tmp_path: Path) -> None:
    done = run_in_processes(2, tmp_path, short=[1, 4], log_samples=True)
    assert done.returncode == 0, done.stderr
    sizes = [[len(line["sample_ids"]) for line in read_jsonl(tmp_path / f"samples-{rank}.jsonl")] for rank in range(2)]
    assert sizes == [[4] * 6, [4, 3, 4, 4, 3, 4]]
    assert json.loads((tmp_path / "run.json").read_text())["clips"] == 46


@pytest.mark.slow
def test_bad_video_of_second_process_is_recorded_on_failure(tmp_path: Path) -> None:
    """--on_bad_video raise: the first process is in the middle of a step and gathers nothing any more."""
    assert run_in_processes(2, tmp_path, broken=2).returncode != 0
    assert read_jsonl(tmp_path / "bad_videos.jsonl") == [{"step": 3, "path": "a.mp4", "reason": "no video stream"}]


@pytest.mark.slow
def test_resume_with_another_number_of_processes_sees_same_samples(tmp_path: Path) -> None:
    # 1, then 2, then 1 process see the same 8 rows in every step, so the weights are equal up to rounding.
    options: dict[str, Any] = {"noise": 0, "log_samples": True}
    toy_train(tmp_path / "straight", batch_size=8, **options)
    toy_train(tmp_path / "parts", batch_size=8, stop_at_step=2, **options)
    done = run_in_processes(2, tmp_path / "parts", batch_size=4, stop_at_step=4, resume="auto", **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("note: 2 processes now, 1 before: no sample is skipped or repeated") == 1
    assert done.stdout.count("note:") == 1
    toy_train(tmp_path / "parts", batch_size=8, resume="auto", **options)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "parts"))
    assert all(torch.allclose(one[name], other[name], atol=1e-6, rtol=0) for name in one)
    straight = read_jsonl(tmp_path / "straight" / "samples-0.jsonl")
    ranks = [read_jsonl(tmp_path / "parts" / f"samples-{rank}.jsonl") for rank in (0, 1)]
    rows = {line["step"]: line["sample_ids"] for line in ranks[0]}
    for line in ranks[1]:
        rows[line["step"]] += line["sample_ids"]
    assert [line["step"] for line in ranks[1]] == [3, 4]
    assert rows == {line["step"]: line["sample_ids"] for line in straight}


@pytest.mark.slow
def test_resume_notes_changed_clips_per_step(tmp_path: Path) -> None:
    run_in_processes(2, tmp_path, stop_at_step=2)
    done = run_in_processes(2, tmp_path, stop_at_step=3, resume="auto", batch_size=2)
    assert "note: a step had 8 clips and has 4 from here on" in done.stdout
    assert "--batch_size 4 keeps all of it" in done.stdout
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["steps"], run["clips"]) == (3, 20)
    assert [line["epoch"] for line in read_jsonl(tmp_path / "metrics.jsonl")] == [0.1, 0.2, 0.5]
