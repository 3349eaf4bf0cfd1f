"""Runs are published by the real client to a Hub on loopback, and loaded from there; whatever breaks on the way."""

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import HfApi, ModelCard, snapshot_download

from hf_videomae.cards.card_check import check_card
from hf_videomae.cli import main
from hf_videomae.hub import retry
from hf_videomae.hub.client import PushError
from hf_videomae.publishing import BackgroundPublisher, ModelTarget, PushTiming
from hf_videomae.publishing.repo import resolve_model_target
from hf_videomae.publishing.snapshot import SNAPSHOT_FOLDER, take_snapshot
from hf_videomae.run_files import read_jsonl
from tests.helpers.run_folders import RUN_ID, finish, save, write_run
from tests.local_hub import LocalHub

ID = "org/run"
# A failure of the server that huggingface_hub does not try again by itself: that takes 23 seconds.
AT_ONCE = 520
SECRET_TOKEN = "hf_" + "a1B2" * 8


_made: list[BackgroundPublisher] = []


@pytest.fixture
def logged_in(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """As the user who may write in `org` and `team`; waits of a twentieth of a second. No publisher outlives it."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 0.05)
    monkeypatch.setattr(retry, "_MAX_BACKOFF", 0.05)
    yield hub
    hub.heal()
    while _made:
        _made.pop().report_unpublished()
    for thread in threading.enumerate():
        if thread.name == "publisher":
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def publisher(run: Path, *, strategy: Any = "every_save", **options: Any) -> BackgroundPublisher:
    """Opened, as a run does before its first step."""
    timing = PushTiming(retry_seconds=options.pop("retry_seconds", 60), spacing=options.pop("spacing", 0))
    target = resolve_model_target(ModelTarget(id=ID, **options), run_id=RUN_ID)
    made = BackgroundPublisher(target, output_dir=run, strategy=strategy, timing=timing)
    _made.append(made)
    made.start(RUN_ID)
    return made


def end(run: Path, *, step: int = 4, **options: Any) -> int:
    """A finished run and its only push."""
    if not (run / f"checkpoint-{step}").exists():
        save(run, step=step)
        finish(run, step=step)
    return publisher(run, **options).publish_final(step, None)


def titles(branch: str = "main") -> list[str]:
    """Of the pushes so far, the newest first."""
    commits = HfApi().list_repo_commits(ID, revision=branch)
    return [commit.title for commit in commits if commit.title.startswith("Step ")]


def files(branch: str = "main") -> dict[str, bytes]:
    folder = Path(snapshot_download(ID, revision=branch))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def step_on_hub() -> float:
    """Of the weights, as stock transformers loads them."""
    model = transformers.VideoMAEForPreTraining.from_pretrained(ID)
    return float(torch.unique(model.mask_token).item())


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    output, errors = capsys.readouterr()
    return status, output, errors


# What is there afterwards.


def test_a_finished_run_is_one_commit_that_loads(logged_in: LocalHub, run: Path) -> None:
    assert end(run, strategy="end") == 0
    assert titles() == ["Step 4"] and step_on_hub() == 4
    transformers.AutoImageProcessor.from_pretrained(ID)
    found = files()
    assert found.keys() - {".gitattributes"} == {
        *("README.md", "config.json", "model.safetensors", "preprocessor_config.json"),
        *("video_preprocessor_config.json", "loss.png", "metrics.jsonl", "run.json"),
    }
    assert json.loads(found["run.json"])["run_id"] == RUN_ID
    assert check_card(found["README.md"].decode()) == [] and ModelCard.load(ID).content == found["README.md"].decode()
    assert [branch.name for branch in HfApi().list_repo_refs(ID).branches] == ["main"]
    assert not (run / SNAPSHOT_FOLDER).exists() and not (run / "README.md").exists()


def test_what_serves_the_model_goes_with_it(logged_in: LocalHub, run: Path) -> None:
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


def test_every_save_while_it_trains(logged_in: LocalHub, run: Path) -> None:
    made = publisher(run)
    for step in (2, 4):
        made.publish_checkpoint(save(run, step=step))
        wait_for(lambda step=step: made.last_published_step == step)
        assert step_on_hub() == step
        assert f"**The run goes on: step {step} of 100.**" in files()["README.md"].decode()
    finish(run, step=4)
    assert made.publish_final(4, None) == 0 and titles() == ["Step 4", "Step 4", "Step 2"]
    assert "**The run " not in files()["README.md"].decode()
    lines = read_jsonl(run / "published.jsonl")
    assert [line["step"] for line in lines if "blocked_seconds" in line] == [2, 4]
    assert [line["step"] for line in lines if "commit" in line] == [2, 4, 4]


def test_a_stopped_run_is_that_of_its_checkpoint(logged_in: LocalHub, run: Path) -> None:
    end(run)
    checkpoint = save(run, step=6)
    write_run(run, step=6, total=100, status="stopped")
    assert publisher(run).publish_final(6, checkpoint) == 0
    assert step_on_hub() == 6 and "**The run was stopped**" in files()["README.md"].decode()


def test_the_state_has_a_branch_of_its_own(logged_in: LocalHub, run: Path) -> None:
    made = publisher(run, strategy="checkpoint")
    (run / "samples-0.jsonl").write_text('{"step": 1}\n')
    for step in (2, 4):
        checkpoint = save(run, step=step)
        made.publish_checkpoint(checkpoint)
        wait_for(lambda step=step: made.last_published_step == step)
    state = files("training-state")
    assert titles("training-state") == ["Step 4", "Step 2"]
    held = {name.removeprefix("checkpoint-4/") for name in state if "/" in name}
    assert held == {path.name for path in checkpoint.iterdir()}, "the newest, and nothing else"
    assert all(state[f"checkpoint-4/{name}"] == (checkpoint / name).read_bytes() for name in held)
    assert state.keys() - {f"checkpoint-4/{name}" for name in held} == {
        *(".gitattributes", "run.json", "metrics.jsonl", "samples-0.jsonl")
    }
    assert not [name for name in files() if "optimizer" in name or "rank" in name or "state" in name]


def test_nothing_new_is_said(logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end(run)
    status, output, _ = command(capsys, "push", run, "--hub_model_id", ID)
    assert status == 0 and "nothing was sent" in output
    assert titles() == ["Step 4"]


def test_what_a_later_model_does_not_have_goes(logged_in: LocalHub, run: Path) -> None:
    (run / "reconstruction-1.png").write_bytes(b"png")
    end(run)
    assert "reconstruction-1.png" in files()
    (run / "reconstruction-1.png").unlink()
    end(run)
    assert "reconstruction-1.png" not in files()


def test_private(logged_in: LocalHub, run: Path) -> None:
    assert end(run, private=True) == 0 and logged_in.is_private("models/org/run")
    HfApi().create_repo("org/open")
    with pytest.raises(PushError, match="org/open exists already and is public"):
        resolve_model_target(ModelTarget(id="org/open", private=True), run_id=None)


# In the background.


def wait_for(reached: Any) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_newer_save_takes_the_place_of_one_that_waits(logged_in: LocalHub, run: Path) -> None:
    made = publisher(run)
    logged_in.stall("/preupload/", seconds=6)
    for step in (2, 4, 6):
        begun = time.monotonic()
        made.publish_checkpoint(save(run, step=step))
        if step == 2:
            wait_for(lambda: logged_in.record._under_way)
    assert time.monotonic() - begun < 5, "nobody waited for the Hub"
    wait_for(lambda: made.last_published_step == 6)
    assert titles() == ["Step 6", "Step 2"]


def test_a_newer_save_ends_the_waiting_for_a_hub_that_fails(
    logged_in: LocalHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publisher(run)
    monkeypatch.setattr(retry, "_INITIAL_BACKOFF", 600.0)
    logged_in.fail("/preupload/", status=AT_ONCE)
    made.timing = PushTiming(retry_seconds=3600, spacing=0)
    made.publish_checkpoint(save(run, step=2))
    wait_for(lambda: logged_in.requests("/preupload/"))
    made.publish_checkpoint(save(run, step=4))
    wait_for(lambda: made.last_published_step == 4)
    assert titles() == ["Step 4"]


def test_commits_keep_their_distance_but_the_last(logged_in: LocalHub, run: Path) -> None:
    made = publisher(run, spacing=3600)
    made.publish_checkpoint(save(run, step=2))
    wait_for(lambda: made.last_published_step == 2)
    made.publish_checkpoint(save(run, step=4))
    made.publish_checkpoint(save(run, step=6))
    finish(run, step=6)
    assert made.publish_final(6, None) == 0 and titles() == ["Step 6", "Step 2"]


def test_at_most_so_many_commits_an_hour() -> None:
    assert 3600 / PushTiming().spacing <= 100, "the Hub takes 128, of all runs of a user"


def test_a_snapshot_is_what_was_there(run: Path) -> None:
    """Rotation, growth and rewriting do not reach it."""
    checkpoint = save(run, step=2)
    held = take_snapshot(run, checkpoint=checkpoint, step=2, with_state=True)
    before = (checkpoint / "model.safetensors").read_bytes()
    for path in checkpoint.iterdir():
        path.unlink()
    save(run, step=4)
    held.truncate_appended_files()
    assert (held.folder / "model.safetensors").read_bytes() == before
    assert [line["step"] for line in read_jsonl(held.folder / "metrics.jsonl")] == [2]
    assert json.loads((held.folder / "run.json").read_text())["steps"] == 2
    held.remove()
    assert len(read_jsonl(run / "metrics.jsonl")) == 2


def test_a_snapshot_that_fails_holds_nothing(logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk its links would keep the files that rotation lets go of."""
    made = publisher(run)
    checkpoint = save(run, step=2)
    (run / "run.json").unlink()
    (run / "run.json").mkdir()
    made.publish_checkpoint(checkpoint)
    assert "step 2 is not published: " in caplog.text
    assert (checkpoint / "model.safetensors").stat().st_nlink == 1 and not list((run / SNAPSHOT_FOLDER).iterdir())


# What breaks.


@pytest.mark.parametrize(
    "pattern", ["POST .*/preupload/", "POST .*objects/batch", "PUT /cdn-upload/", "/commit/", "/tree/", "/api/models/"]
)
def test_a_failure_that_passes_is_sat_out(logged_in: LocalHub, run: Path, pattern: str) -> None:
    save(run, step=4)
    finish(run, step=4)
    made = publisher(run)
    logged_in.fail(pattern, status=AT_ONCE, times=2)
    assert made.publish_final(4, None) == 0
    assert titles() == ["Step 4"] and step_on_hub() == 4


def test_a_commit_that_fails_twice_and_a_connection_that_breaks(logged_in: LocalHub, run: Path) -> None:
    """A 500 on a commit is not tried again by the client."""
    logged_in.fail("/commit/", status=500, times=2)
    logged_in.hang_up("PUT /cdn-upload/", after_bytes=1000)
    assert end(run) == 0 and titles() == ["Step 4"] and step_on_hub() == 4


@pytest.mark.parametrize("file", ["README.md", "run.json"])
def test_what_is_read_of_the_hub_may_break_off(logged_in: LocalHub, run: Path, file: str) -> None:
    """As when another thread, which could not connect, closes the client that all of them share."""
    end(run)
    save(run, step=6)
    finish(run, step=6)
    made = publisher(run)
    shutil.rmtree(logged_in.home)
    logged_in.cut_off(f"GET .*/{file}$", after_bytes=100, times=2)
    assert made.publish_final(6, None) == 0 and titles() == ["Step 6", "Step 4"]


def test_the_answer_to_the_commit_is_lost(logged_in: LocalHub, run: Path) -> None:
    logged_in.cut_off("POST .*/commit/", after_bytes=0)
    assert end(run) == 0 and titles() == ["Step 4"]


def test_a_hub_that_asks_for_patience_gets_it(logged_in: LocalHub, run: Path) -> None:
    save(run, step=4)
    finish(run, step=4)
    made = publisher(run)
    logged_in.fail("/commit/", status=429, retry_after=1)
    begun = time.monotonic()
    assert made.publish_final(4, None) == 0
    assert len(logged_in.requests("/commit/")) == 2 and time.monotonic() - begun >= 1


def test_failing_for_good_is_told_with_the_command_that_mends_it(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.fail("/commit/", status=AT_ONCE, times=None)
    assert end(run, retry_seconds=0.5) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f"error: the run is saved in {run}, but its end is not published on org/run: the Hub could")
    logged_in.heal()
    logged_in.forget()
    program, *arguments = shlex.split(line.partition("to publish it: ")[2])
    status, output, _ = command(capsys, *arguments)
    assert (program, status) == ("hf-videomae", 0) and "8 files" in output
    assert titles() == ["Step 4"] and step_on_hub() == 4
    assert not logged_in.requests("PUT "), "the weights were sent before"


def test_what_cannot_be_mended_is_told_at_once(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.fail("/commit/", status=403, times=None)
    assert end(run, retry_seconds=600) == 1
    assert "you may not write to org/run" in capsys.readouterr().err


def test_a_failing_save_does_not_harm_the_run(
    logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = publisher(run)
    logged_in.fail("/commit/", status=403)
    made.publish_checkpoint(save(run, step=2))
    wait_for(lambda: [line for line in read_jsonl(run / "published.jsonl") if "failure" in line])
    assert "step 2 is not published: you may not write to org/run" in caplog.text
    finish(run, step=2)
    assert made.publish_final(2, None) == 0 and step_on_hub() == 2


def test_a_list_that_cannot_be_written_does_not_harm_the_run(
    logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = publisher(run)
    (run / "published.jsonl").mkdir()
    made.publish_checkpoint(save(run, step=2))
    finish(run, step=2)
    assert made.publish_final(2, None) == 0 and step_on_hub() == 2
    assert "published.jsonl is not written: " in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_nobody_expected_ends_one_push_alone(
    logged_in: LocalHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_videomae.publishing import snapshot

    made = publisher(run)
    with monkeypatch.context() as broken:
        broken.setattr(snapshot, "render_run_card", None)
        made.publish_checkpoint(save(run, step=2))
        wait_for(lambda: made._thread is not None and not made._thread.is_alive())
    finish(run, step=2)
    assert made.publish_final(2, None) == 0 and step_on_hub() == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_last_wait(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    save(run, step=4)
    finish(run, step=4)
    made = publisher(run)
    logged_in.fail("/commit/", status=AT_ONCE, times=None)
    before = signal.getsignal(number)

    def interrupt() -> None:  # not before it is heard
        wait_for(lambda: signal.getsignal(number) is not before and logged_in.requests("/commit/"))
        os.kill(os.getpid(), number)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    assert made.publish_final(4, None) == 128 + number
    interrupter.join()
    assert "is not published on org/run: interrupted by" in capsys.readouterr().err


def test_a_run_that_failed_says_what_is_not_published(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = publisher(run, strategy="end")
    save(run, step=2)
    made.report_unpublished()
    assert f"checkpoint-2 is not published; to publish it: hf-videomae push {run}" in capsys.readouterr().out
    write_run(run, step=3, total=100, status="failed")
    assert command(capsys, "push", run, "--hub_model_id", ID)[0] == 0
    assert step_on_hub() == 2 and "**The run failed**, at step 2 of 100." in files()["README.md"].decode()


# What is not lost.


def edit_card(text: str = "\nMine.\n") -> str:
    edited = ModelCard.load(ID).content + text
    HfApi().upload_file(repo_id=ID, path_in_repo="README.md", path_or_fileobj=edited.encode())
    return edited


def test_a_card_that_was_edited_on_the_hub_stays(
    logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    made = publisher(run)
    made.publish_checkpoint(save(run, step=2))
    wait_for(lambda: made.last_published_step == 2)
    edited = edit_card()
    for step in (4, 6):
        made.publish_checkpoint(save(run, step=step))
        wait_for(lambda step=step: made.last_published_step == step)
    assert files()["README.md"].decode() == edited and step_on_hub() == 6
    assert caplog.text.count("the card of org/run was edited on the Hub") == 1
    finish(run, step=6)
    status, _, errors = command(capsys, "push", run, "--hub_model_id", ID)
    assert status == 0 and "note: the card of org/run was edited" in errors and files()["README.md"].decode() == edited
    assert command(capsys, "push", run, "--hub_model_id", ID, "--overwrite_card")[0] == 0
    assert files()["README.md"].decode() != edited


def test_a_card_that_was_edited_here_is_published_as_it_is(logged_in: LocalHub, run: Path) -> None:
    save(run, step=4)
    finish(run, step=4)
    mine = "---\nlibrary_name: transformers\npipeline_tag: feature-extraction\n---\n\n# Mine\n"
    (run / "README.md").write_text(mine)
    assert end(run) == 0 and ModelCard.load(ID).content == mine


def test_somebody_edits_the_card_while_it_is_pushed(
    logged_in: LocalHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_the_model_of_another_run_is_not_overwritten(
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
            resolve_model_target(ModelTarget(id=ID), run_id=run_id)
    status, _, errors = command(capsys, "push", other, "--hub_model_id", ID)
    assert status == 2 and "--overwrite to replace it" in errors and errors.count("\n") == 1
    assert step_on_hub() == 4
    assert command(capsys, "push", other, "--hub_model_id", ID, "--overwrite")[0] == 0
    assert step_on_hub() == 8 and "model.safetensors" in files(HfApi().list_repo_commits(ID)[1].commit_id)


def test_other_files_of_a_repository_stay(logged_in: LocalHub, run: Path) -> None:
    (logged_in.model(ID) / "notes.txt").write_text("of mine")
    assert end(run) == 0 and files()["notes.txt"] == b"of mine"


# What must not be told.


def test_no_token_and_no_path_gets_out(logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture) -> None:
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
            if name != "bad_videos.jsonl":  # a resumed run compares with it
                assert b"anna" not in content, (branch, name)
    assert logged_in.token not in caplog.text and logged_in.token not in (run / "published.jsonl").read_text()


def mistakes() -> dict[str, tuple[dict[str, Any], str, str]]:
    """Settings of the process, the id, and what is said."""
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
def test_mistakes_are_one_line(
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


@pytest.mark.parametrize("failures", [0, 2])
def test_over_xet_as_from_a_user_it_is_one_commit_too(hub: LocalHub, run: Path, failures: int) -> None:
    """Also where the first requests for a token fail; then a later model, over the first one."""
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


def test_a_refusal_over_xet_is_told_and_not_waited_for(hub: LocalHub, run: Path) -> None:
    pytest.importorskip("hf_xet")
    save(run, step=4)
    finish(run, step=4)
    hub.fail("/xet-write-token/", status=403, times=None)
    environment = {**hub.environment(xet=True), "HF_TOKEN": hub.token}
    push = [sys.executable, "-m", "hf_videomae.cli", "push", str(run), "--hub_model_id", ID]
    done = subprocess.run(push, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and f"you may not write to {ID} (" in done.stderr, done.stderr
    assert "trying again" not in done.stderr and titles() == []
