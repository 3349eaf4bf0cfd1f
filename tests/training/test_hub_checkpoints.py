"""Resume from the Hub: the checkpoint is downloaded completely or not at all, and errors are one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file

from hf_videomae.checkpoint_dir import incomplete_reason, latest_checkpoint
from hf_videomae.run_files import read_jsonl
from hf_videomae.training import CheckpointError, PretrainRecipe, RunRecipe, parse_recipe, resolve_resume_checkpoint
from hf_videomae.training.hub_checkpoints import download_checkpoint, latest_hub_checkpoint
from tests.helpers.toy import run_in_processes, toy_train
from tests.local_hub import LocalHub
from tests.local_hub.runs import BRANCH, push_state

REPO = "org/name"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def first(hub: LocalHub, tmp_path: Path) -> Path:
    """Train four of six steps and push the checkpoint to the Hub."""
    toy_train(tmp_path / "first", stop_at_step=4, log_samples=True)
    push_state(hub, tmp_path / "first" / "checkpoint-4")
    return tmp_path / "first"


def same_end(one: Path, other: Path) -> None:
    for name in ("loss", "lr", "grad_norm"):
        both = [[line[name] for line in read_jsonl(folder / "metrics.jsonl")] for folder in (one, other)]
        assert both[0] == both[1] and len(both[0]) == 6
    assert (one / "samples-0.jsonl").read_text() == (other / "samples-0.jsonl").read_text()
    before, after = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resume_from_hub_equals_uninterrupted_run(hub: LocalHub, first: Path, tmp_path: Path) -> None:
    toy_train(tmp_path / "straight", log_samples=True)
    toy_train(tmp_path / "second", resume=REPO, log_samples=True)
    same_end(tmp_path / "straight", tmp_path / "second")
    commit = HfApi().model_info(REPO, revision=BRANCH).sha
    run = json.loads((tmp_path / "second" / "run.json").read_text())
    assert run["resumed_from"] == f"{REPO}@{commit}" and run["status"] == "finished"
    assert not list((tmp_path / "second").glob(".unfinished*"))


def test_downloaded_checkpoint_equals_pushed_one(first: Path, tmp_path: Path) -> None:
    checkpoint = download_checkpoint(latest_hub_checkpoint(REPO), tmp_path / "second")
    fetched = contents(checkpoint)
    assert json.loads(fetched.pop("fetched_from.json"))["repository"] == REPO
    assert fetched == contents(first / "checkpoint-4")
    assert {path.name for path in (tmp_path / "second").iterdir()} == {
        *("checkpoint-4", "metrics.jsonl", "samples-0.jsonl")
    }


def test_resume_takes_settings_from_hub(first: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(RunRecipe, ["--resume", REPO, "--output_dir", str(tmp_path / "second"), "--log_every", "7"])
    assert (recipe.batch_size, recipe.base_lr, recipe.max_steps, recipe.log_every) == (4, 6.4, 6, 7)
    assert recipe.output_dir == str(tmp_path / "second") and not (tmp_path / "second").exists()


# The output folder holds something.


def test_newer_local_checkpoint_of_same_run_wins(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_train(first, resume="auto", stop_at_step=5, log_samples=True)
    before = contents(first / "checkpoint-5")
    toy_train(first, resume=REPO, stop_at_step=5, log_samples=True)
    assert "checkpoint-5 is of the same run and no older than checkpoint-4 of org/name" in capsys.readouterr().out
    assert contents(first / "checkpoint-5") == before
    toy_train(tmp_path / "straight", log_samples=True)
    toy_train(first, resume=REPO, log_samples=True)
    same_end(tmp_path / "straight", first)


def test_older_local_checkpoint_of_same_run_is_replaced(hub: LocalHub, first: Path, tmp_path: Path) -> None:
    # Started here, continued elsewhere, and resumed here.
    toy_train(tmp_path / "second", resume=REPO, stop_at_step=5, log_samples=True)
    push_state(hub, tmp_path / "second" / "checkpoint-5")
    toy_train(first, resume=REPO, log_samples=True)
    assert json.loads((first / "run.json").read_text())["resumed_from"].startswith(f"{REPO}@")
    toy_train(tmp_path / "straight", log_samples=True)
    same_end(tmp_path / "straight", first)


def test_download_into_folder_of_another_run_is_refused(first: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    toy_train(other, stop_at_step=2, seed=9)
    before = contents(other)
    with pytest.raises(CheckpointError, match="other holds another run than that of org/name; give another --output"):
        toy_train(other, resume=REPO)
    assert contents(other) == before
    toy_train(other, resume=REPO, overwrite=True, log_samples=True)
    toy_train(tmp_path / "straight", log_samples=True)
    same_end(tmp_path / "straight", other)


def test_checkpoint_of_another_task_is_refused_before_download(hub: LocalHub, first: Path, tmp_path: Path) -> None:
    recipe = PretrainRecipe(resume=REPO, output_dir=str(tmp_path / "second"))
    hub.forget()
    with pytest.raises(CheckpointError, match="checkpoint-4 of org/name is of a toy run, .* as pretrain"):
        resolve_resume_checkpoint(recipe)
    assert not hub.requests("optimizer") and not (tmp_path / "second").exists()
    with pytest.raises(CheckpointError, match="is of a toy run"):
        resolve_resume_checkpoint(replace(recipe, resume=str(first)))


# Failures.


@pytest.mark.integration
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("fail", {"status": 500, "times": 2}),
        ("fail", {"status": 429, "retry_after": 1}),
        ("cut_off", {"after_bytes": 100, "times": 7}),
        ("cut_off", {"after_bytes": 100, "kind": "truncate", "times": 7}),
    ],
    ids=["500", "429", "reset", "truncate"],
)
@pytest.mark.parametrize("pattern", ["GET /cdn/", "optimizer.safetensors"], ids=["content", "any"])
def test_interrupted_download_continues(
    hub: LocalHub, first: Path, tmp_path: Path, kind: str, fault: dict[str, Any], pattern: str
) -> None:
    remote = latest_hub_checkpoint(REPO)
    getattr(hub, kind)(pattern, **fault)
    assert incomplete_reason(download_checkpoint(remote, tmp_path / "second")) is None
    assert [request for request in hub.requests(pattern) if request.fault]


def test_failed_download_leaves_no_checkpoint(
    hub: LocalHub, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_videomae.hub.retry.OUTAGE_SECONDS", 2.0)
    remote = latest_hub_checkpoint(REPO)
    hub.fail("GET /cdn/", status=500, times=None)
    with pytest.raises(CheckpointError, match=r"the network kept failing for \d+ s while checkpoint-4 of org/name"):
        download_checkpoint(remote, tmp_path / "second")
    assert latest_checkpoint(tmp_path / "second") is None
    assert [path.name[:11] for path in (tmp_path / "second").iterdir()] == [".unfinished"]
    hub.heal()
    assert incomplete_reason(download_checkpoint(remote, tmp_path / "second")) is None


def test_incomplete_hub_checkpoint_is_skipped(
    hub: LocalHub, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api = HfApi(token=hub.token)
    later = tmp_path / "later" / "checkpoint-5"
    toy_train(tmp_path / "later", stop_at_step=5)
    (later / "optimizer.safetensors").write_bytes(b"short")
    api.upload_folder(repo_id=REPO, folder_path=later, path_in_repo=later.name, revision=BRANCH)
    assert latest_hub_checkpoint(REPO).step == 4
    assert "checkpoint-5 of org/name is incomplete (optimizer.safetensors has 5 bytes" in capsys.readouterr().out
    api.delete_file("checkpoint-4/rank-0.json", repo_id=REPO, revision=BRANCH)
    with pytest.raises(CheckpointError, match=r"no complete checkpoint \(checkpoint-4 is incomplete: rank-0.json is"):
        latest_hub_checkpoint(REPO)
    api.delete_file("checkpoint-4/run_state.json", repo_id=REPO, revision=BRANCH)
    with pytest.raises(CheckpointError, match=r"incomplete: it has no run_state.json"):
        latest_hub_checkpoint(REPO)


def test_hub_errors_are_one_line(hub: LocalHub, first: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(repo: str = REPO) -> str:
        with pytest.raises(CheckpointError) as caught:
            toy_train(tmp_path / "second", resume=repo)
        assert not (tmp_path / "second").exists()
        (line,) = str(caught.value).splitlines()
        return line

    assert "neither a directory here nor a model on the Hub that you may read" in refused("org/none")
    api = HfApi(token=hub.token)
    api.create_repo("org/weights")
    assert "org/weights has no branch training-state" in refused("org/weights")
    assert "start a new run from its weights with --model org/weights" in refused("org/weights")
    api.create_branch("org/weights", branch=BRANCH)
    assert "holds no complete checkpoint (it has no checkpoint-STEP folder)" in refused("org/weights")
    hub.hide(f"models/{REPO}")
    assert "log in with `hf auth login`" in refused()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub does not know your token" in refused()
    monkeypatch.setenv("HF_TOKEN", hub.read_token)
    assert latest_hub_checkpoint(REPO).step == 4
    hub.stop()
    assert "the Hub cannot be reached" in refused()


# Several processes.


@pytest.mark.slow
def test_two_processes_wait_for_the_download(hub: LocalHub, tmp_path: Path) -> None:
    run_in_processes(2, tmp_path / "first", stop_at_step=4, log_samples=True)
    push_state(hub, tmp_path / "first" / "checkpoint-4")
    # Longer than the heartbeat of the first process.
    hub.stall("GET /cdn/.*/optimizer.safetensors", seconds=7)
    done = run_in_processes(2, tmp_path / "second", resume=REPO, log_samples=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fetching checkpoint-4") == 1
    assert len(hub.requests("GET /cdn/.*/optimizer.safetensors")) == 1
    run_in_processes(2, tmp_path / "straight", log_samples=True)
    same_end(tmp_path / "straight", tmp_path / "second")
    ids = [(tmp_path / name / "samples-1.jsonl").read_text() for name in ("straight", "second")]
    assert ids[0] == ids[1]


@pytest.mark.slow
def test_two_processes_fail_in_one_line(hub: LocalHub, first: Path, tmp_path: Path) -> None:
    hub.fail("GET /cdn/.*/optimizer.safetensors", status=404, times=None)
    done = run_in_processes(2, tmp_path / "second", resume=REPO)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "--resume org/name" in errors[0], done.stderr
    assert latest_checkpoint(tmp_path / "second") is None
