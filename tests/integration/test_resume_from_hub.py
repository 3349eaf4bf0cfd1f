"""Test that a run resumed on another machine from the Hub alone equals the run that never moved, bit for bit."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download

from hf_videomae import VideoMAEForPreTraining
from tests.helpers.running import ROOT, lines, pretrain, write_small_model
from tests.local_hub import LocalHub
from tests.local_hub.runs import push_state

QUICK = ["--max_steps", 8, "--batch_size", 4, "--log_every", 1, "--save_every", 100, "--log_samples"]
PATIENCE = 300.0


def run(
    hub: LocalHub, *arguments: object, processes: int = 1, home: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    variables = {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if home is not None:
        variables |= {"HF_HOME": str(home), "HF_TOKEN": hub.token}
    command = pretrain("--num_workers", 0, *arguments, processes=processes)
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE)


def done(hub: LocalHub, *arguments: object, processes: int = 1, home: Path | None = None) -> str:
    finished = run(hub, *arguments, processes=processes, home=home)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def assert_same_run(straight: Path, moved: Path, *, processes: int = 1) -> None:
    """Check that metrics, samples and final weights are equal to the last bit."""
    both = [lines(folder / "metrics.jsonl") for folder in (straight, moved)]
    for name in ("step", "loss", "lr", "grad_norm"):
        assert [line[name] for line in both[0]] == [line[name] for line in both[1]]
    for rank in range(processes):
        name = f"samples-{rank}.jsonl"
        assert (moved / name).read_text() == (straight / name).read_text()
    before, after = (VideoMAEForPreTraining.from_pretrained(folder).state_dict() for folder in (straight, moved))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_run_resumes_from_the_hub_alone(hub: LocalHub, tmp_path: Path, processes: int) -> None:
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
    assert_same_run(tmp_path / "straight", second, processes=processes)
    assert json.loads((second / "run.json").read_text())["resumed_from"] == f"org/name@{commit}"


@pytest.mark.slow
def test_publishing_run_resumes_elsewhere_and_publishes_its_end(hub: LocalHub, tmp_path: Path) -> None:
    model, second = write_small_model(tmp_path / "model"), tmp_path / "second"
    (model / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    api, home = HfApi(token=hub.token), tmp_path / "elsewhere"
    done(hub, *QUICK, "--model", model, "--output_dir", tmp_path / "straight")
    publishing = ["--push_to_hub", "--hub_model_id", "org/run", "--hub_strategy", "checkpoint"]
    first = [*QUICK, "--model", model, "--output_dir", tmp_path / "first", "--stop_at_step", 4, *publishing]
    done(hub, *first, home=tmp_path / "home")
    assert "**The run was stopped**, at step 4 of 8" in ModelCard.load("org/run").content
    api.upload_file(repo_id="org/run", path_in_repo="evaluation.json", path_or_fileobj=b"{}")
    # Nothing of the first machine is there.
    shutil.rmtree(model)
    (tmp_path / "first").rename(tmp_path / "gone")
    flags = ["--log_every", 1, "--save_every", 100, "--log_samples", "--output_dir", second]
    printed = done(hub, "--resume", "org/run", *flags, *publishing, home=home)
    assert "resumed from" in printed and "published" in printed
    assert_same_run(tmp_path / "straight", second)
    records = [json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "gone", second)]
    for name in ("run_id", "parents", "recipe_name"):
        assert records[0][name] == records[1][name]
    folder = Path(snapshot_download("org/run", token=hub.token))
    assert (folder / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card and "The run is" not in card and not (folder / "evaluation.json").exists()
    state = {path.split("/")[0] for path in api.list_repo_files("org/run", revision="training-state")}
    assert {name for name in state if name.startswith("checkpoint-")} == {"checkpoint-8"}


@pytest.mark.slow
def test_run_without_state_is_refused_in_one_line_by_two_processes(hub: LocalHub, tmp_path: Path) -> None:
    hub.model("org/weights")
    finished = run(hub, "--resume", "org/weights", "--output_dir", tmp_path / "second", processes=2)
    assert finished.returncode != 0
    (error,) = [line for line in finished.stderr.splitlines() if "org/weights" in line and "error" in line]
    assert "org/weights has no branch training-state" in error and "--model org/weights" in error
    assert not (tmp_path / "second").exists()
