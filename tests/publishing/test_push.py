"""Test single pushes of a run: what they send, keep and delete, and what they refuse."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard

from hf_videomae.hub.client import PushError
from hf_videomae.hub.repo import HubTarget
from hf_videomae.publishing.push import resolve_model_target
from tests.helpers.publishing import (
    AT_ONCE,
    ID,
    SECRET_TOKEN,
    command,
    edit_card,
    end,
    files,
    step_on_hub,
    titles,
)
from tests.helpers.run_folders import finish, save, write_run
from tests.local_hub import LocalHub


def test_push_without_changes_sends_nothing(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end(run)
    status, output, _ = command(capsys, "push", run, "--hub_model_id", ID)
    assert status == 0 and "nothing was sent" in output
    assert titles() == ["Step 4"]


def test_push_reads_the_branch_and_its_record_once(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once before the work, to check whose model is there, and once for the commit."""
    end(run)
    save(run, step=6)
    finish(run, step=6)
    logged_in.forget()
    assert command(capsys, "push", run, "--hub_model_id", ID)[0] == 0
    assert len(logged_in.requests("GET .*/tree/")) == 2 and len(logged_in.requests("GET .*/run.json")) <= 2
    assert len(logged_in.requests("POST .*/commit/")) == 1 and step_on_hub() == 6


def test_private_repository_is_created_and_public_one_refused(logged_in: LocalHub, run: Path) -> None:
    assert end(run, private=True) == 0 and logged_in.is_private("models/org/run")
    HfApi().create_repo("org/open")
    with pytest.raises(PushError, match="org/open exists already and is public"):
        resolve_model_target(HubTarget(id="org/open", private=True), run_id=None)


def test_card_edited_locally_is_published_unchanged(logged_in: LocalHub, run: Path) -> None:
    save(run, step=4)
    finish(run, step=4)
    mine = "---\nlibrary_name: transformers\npipeline_tag: feature-extraction\n---\n\n# Mine\n"
    (run / "README.md").write_text(mine)
    assert end(run) == 0 and ModelCard.load(ID).content == mine


def test_card_edited_during_push_is_kept(logged_in: LocalHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_api

    end(run)
    save(run, step=6)
    finish(run, step=6)
    validate = hf_api.HfApi._validate_yaml
    edited: list[str] = []

    def slip_in(self: HfApi, *arguments: Any, **options: Any) -> None:
        validate(self, *arguments, **options)
        monkeypatch.setattr(hf_api.HfApi, "_validate_yaml", validate)
        edited.append(edit_card())

    monkeypatch.setattr(hf_api.HfApi, "_validate_yaml", slip_in)
    assert end(run, step=6) == 0
    assert edited and files()["README.md"].decode() == edited[0] and step_on_hub() == 6


def test_model_of_another_run_is_not_overwritten(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end(run)
    other = run.parent / "other"
    other.mkdir()
    save(other, step=8)
    finish(other, step=8)
    write_run(other, step=8, total=8, status="finished", run_id="f" * 32)
    for run_id in (None, "f" * 32):
        with pytest.raises(PushError, match=r"org/run holds a model that is not of this run \(model.safetensors\)"):
            resolve_model_target(HubTarget(id=ID), run_id=run_id)
    status, _, errors = command(capsys, "push", other, "--hub_model_id", ID)
    assert status == 2 and "--overwrite to replace it" in errors and errors.count("\n") == 1
    assert step_on_hub() == 4
    assert command(capsys, "push", other, "--hub_model_id", ID, "--overwrite")[0] == 0
    assert step_on_hub() == 8 and "model.safetensors" in files(HfApi().list_repo_commits(ID)[1].commit_id)


def test_other_files_in_repository_are_kept(logged_in: LocalHub, run: Path) -> None:
    (logged_in.model(ID) / "notes.txt").write_text("of mine")
    assert end(run) == 0 and files()["notes.txt"] == b"of mine"


def test_files_of_an_earlier_model_are_deleted(logged_in: LocalHub, run: Path) -> None:
    (run / "reconstruction-1.png").write_bytes(b"png")
    end(run)
    assert "reconstruction-1.png" in files()
    (run / "reconstruction-1.png").unlink()
    end(run)
    assert "reconstruction-1.png" not in files()


def test_handler_files_are_published(logged_in: LocalHub, run: Path) -> None:
    save(run, step=4)
    finish(run, step=4)
    (run / "requirements.txt").write_text("hf-videomae\n")
    assert end(run) == 0 and "requirements.txt" not in files()
    (run / "handler.py").write_text("from hf_videomae.serving.endpoint import EndpointHandler\n")
    assert end(run) == 0
    sent = files()
    assert sent["handler.py"] == (run / "handler.py").read_bytes() and sent["requirements.txt"] == b"hf-videomae\n"


@pytest.mark.fault
def test_requirements_with_credentials_are_not_published(logged_in: LocalHub, run: Path) -> None:
    save(run, step=4)
    finish(run, step=4)
    (run / "handler.py").write_text("from hf_videomae.serving.endpoint import EndpointHandler\n")
    (run / "requirements.txt").write_text("git+https://user:s3cret@host/repository\n")
    assert end(run) == 0 and not {"handler.py", "requirements.txt"} & files().keys()


def test_no_token_and_no_local_path_is_published(
    logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "/home/anna/secret-place"
    caplog.set_level(logging.DEBUG)
    save(run, step=4)
    finish(run, step=4)
    line = json.dumps({"step": 3, "path": f"{secret}/a.mp4", "reason": f"401 for {SECRET_TOKEN}"}) + "\n"
    (run / "bad_videos.jsonl").write_text(line)
    values = {"command": f"python x.py --token {SECRET_TOKEN} --dataset {secret}", "recipe": {"dataset": secret}}
    write_run(run, step=4, total=4, status="finished", **values)
    assert end(run, strategy="checkpoint") == 0
    for branch in ("main", "training-state"):
        for name, content in files(branch).items():
            assert SECRET_TOKEN.encode() not in content and logged_in.token.encode() not in content, (branch, name)
            if name != "bad_videos.jsonl":  # a resumed run compares its videos with it
                assert b"anna" not in content, (branch, name)
    assert logged_in.token not in caplog.text and logged_in.token not in (run / "published.jsonl").read_text()


def mistakes() -> dict[str, tuple[dict[str, Any], str, str]]:
    """Return environment variables, the id, and part of the message."""
    return {
        "logged out": ({"HF_TOKEN": None}, ID, "you are not logged in to the Hub; `hf auth login`"),
        "wrong token": ({"HF_TOKEN": SECRET_TOKEN}, ID, "the Hub does not know the token that HF_TOKEN holds"),
        "read only": ({"HF_TOKEN": LocalHub.read_token}, ID, "your token may only read; make one that may write"),
        "no such org": ({}, "stranger/run", "stranger/run is not yours: you are org, of team; give org/run"),
        "no id": ({}, "a/b/c", "'a/b/c' is not a Hub id; give org/name"),
        "no run": ({}, ID, "holds no run.json; give the --output_dir of a training run"),
        "cut off": (
            {},
            ID,
            "run.json is damaged: it is not a JSON object; the run that wrote it may have been cut off",
        ),
    }


@pytest.mark.parametrize("case", mistakes())
def test_push_command_reports_mistakes_in_one_line(
    logged_in: LocalHub,
    run: Path,
    case: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, id, words = mistakes()[case]
    if case != "no run":
        save(run, step=2)
    if case == "cut off":
        (run / "run.json").write_text("[]")
    for name, value in settings.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    status, output, errors = command(capsys, "push", run, "--hub_model_id", id)
    assert status == 2 and words in errors and errors.count("\n") == 1 and output == "", errors
    assert SECRET_TOKEN not in errors and not logged_in.requests("/repos/create")


@pytest.mark.integration
@pytest.mark.parametrize("failures", [0, 2])
def test_push_over_xet_is_one_commit(hub: LocalHub, run: Path, failures: int) -> None:
    """Push a model and a later one, also if the first requests for a token fail."""
    pytest.importorskip("hf_xet")
    hub.fail("/xet-write-token/", status=AT_ONCE, times=failures)
    environment = {**hub.environment(xet=True), "HF_TOKEN": hub.token}
    push = [sys.executable, "-m", "hf_videomae.cli", "push", str(run), "--hub_model_id", ID]
    for step in (4, 6):
        save(run, step=step)
        finish(run, step=step)
        done = subprocess.run(push, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert step_on_hub() == step
    assert titles() == ["Step 6", "Step 4"] and len(hub.requests("POST .*/commit/")) == 2
    assert hub.requests("GET .*/xet-write-token/") and not hub.requests("objects/batch|PUT ")


def test_refusal_over_xet_is_not_retried(hub: LocalHub, run: Path) -> None:
    pytest.importorskip("hf_xet")
    save(run, step=4)
    finish(run, step=4)
    hub.fail("/xet-write-token/", status=403, times=None)
    environment = {**hub.environment(xet=True), "HF_TOKEN": hub.token}
    push = [sys.executable, "-m", "hf_videomae.cli", "push", str(run), "--hub_model_id", ID]
    done = subprocess.run(push, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and f"you may not write to {ID} (" in done.stderr, done.stderr
    assert "trying again" not in done.stderr and titles() == []
