"""Test publishing in the background, with the real client and a Hub on loopback, while requests fail."""

import json
import os
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import transformers
from huggingface_hub import HfApi, ModelCard

from hf_videomae.cards.card_check import check_card
from hf_videomae.hub import retry
from hf_videomae.publishing import PushTiming
from hf_videomae.publishing.snapshot import SNAPSHOT_FOLDER
from hf_videomae.run_files import read_jsonl
from tests.helpers.publishing import (
    AT_ONCE,
    ID,
    command,
    edit_card,
    end,
    files,
    publisher,
    step_on_hub,
    titles,
    wait_for,
)
from tests.helpers.run_folders import RUN_ID, finish, save, write_run
from tests.local_hub import LocalHub

# The result of a push.


def test_finished_run_is_one_commit_that_loads(logged_in: LocalHub, run: Path) -> None:
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


def test_every_checkpoint_is_published_while_training(logged_in: LocalHub, run: Path) -> None:
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


def test_stopped_run_publishes_its_checkpoint(logged_in: LocalHub, run: Path) -> None:
    end(run)
    checkpoint = save(run, step=6)
    write_run(run, step=6, total=100, status="stopped")
    assert publisher(run).publish_final(6, checkpoint) == 0
    assert step_on_hub() == 6 and "**The run was stopped**" in files()["README.md"].decode()


def test_state_is_pushed_to_its_own_branch(logged_in: LocalHub, run: Path) -> None:
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


# Newer checkpoints and timing.


@pytest.mark.integration
def test_newer_checkpoint_replaces_waiting_one(logged_in: LocalHub, run: Path) -> None:
    made = publisher(run)
    logged_in.stall("/preupload/", seconds=6)
    for step in (2, 4, 6):
        begun = time.monotonic()
        made.publish_checkpoint(save(run, step=step))
        if step == 2:
            wait_for(lambda: logged_in.record._num_in_progress)
    assert time.monotonic() - begun < 5, "nobody waited for the Hub"
    wait_for(lambda: made.last_published_step == 6)
    assert titles() == ["Step 6", "Step 2"]


def test_newer_checkpoint_ends_retries_of_older_one(
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


def test_commits_are_spaced_except_the_last(logged_in: LocalHub, run: Path) -> None:
    made = publisher(run, spacing=3600)
    made.publish_checkpoint(save(run, step=2))
    wait_for(lambda: made.last_published_step == 2)
    made.publish_checkpoint(save(run, step=4))
    made.publish_checkpoint(save(run, step=6))
    finish(run, step=6)
    assert made.publish_final(6, None) == 0 and titles() == ["Step 6", "Step 2"]


def test_default_spacing_respects_hub_rate_limit() -> None:
    assert 3600 / PushTiming().spacing <= 100, "the Hub takes 128, of all runs of a user"


# Failures.


@pytest.mark.parametrize(
    "pattern", ["POST .*/preupload/", "POST .*objects/batch", "PUT /cdn-upload/", "/commit/", "/tree/", "/api/models/"]
)
def test_transient_failures_are_retried(logged_in: LocalHub, run: Path, pattern: str) -> None:
    save(run, step=4)
    finish(run, step=4)
    made = publisher(run)
    logged_in.fail(pattern, status=AT_ONCE, times=2)
    assert made.publish_final(4, None) == 0
    assert titles() == ["Step 4"] and step_on_hub() == 4


def test_failing_commit_and_broken_connection_are_retried(logged_in: LocalHub, run: Path) -> None:
    """Fail a commit with 500, which the client does not retry."""
    logged_in.fail("/commit/", status=500, times=2)
    logged_in.hang_up("PUT /cdn-upload/", after_bytes=1000)
    assert end(run) == 0 and titles() == ["Step 4"] and step_on_hub() == 4


@pytest.mark.parametrize("file", ["README.md", "run.json"])
def test_truncated_downloads_are_retried(logged_in: LocalHub, run: Path, file: str) -> None:
    """Break a download, as when another thread closes the shared client."""
    end(run)
    save(run, step=6)
    finish(run, step=6)
    made = publisher(run)
    shutil.rmtree(logged_in.home)
    logged_in.cut_off(f"GET .*/{file}$", after_bytes=100, times=2)
    assert made.publish_final(6, None) == 0 and titles() == ["Step 6", "Step 4"]


def test_lost_answer_to_commit_makes_no_second_commit(logged_in: LocalHub, run: Path) -> None:
    logged_in.cut_off("POST .*/commit/", after_bytes=0)
    assert end(run) == 0 and titles() == ["Step 4"]


def test_retry_after_is_respected(logged_in: LocalHub, run: Path) -> None:
    save(run, step=4)
    finish(run, step=4)
    made = publisher(run)
    logged_in.fail("/commit/", status=429, retry_after=1)
    begun = time.monotonic()
    assert made.publish_final(4, None) == 0
    assert len(logged_in.requests("/commit/")) == 2 and time.monotonic() - begun >= 1


def test_permanent_failure_prints_command_that_publishes_later(
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


def test_refusal_is_reported_without_retries(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged_in.fail("/commit/", status=403, times=None)
    assert end(run, retry_seconds=600) == 1
    assert "you may not write to org/run" in capsys.readouterr().err


def test_failed_push_does_not_end_the_run(logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = publisher(run)
    logged_in.fail("/commit/", status=403)
    made.publish_checkpoint(save(run, step=2))
    wait_for(lambda: [line for line in read_jsonl(run / "published.jsonl") if "failure" in line])
    assert "step 2 is not published: you may not write to org/run" in caplog.text
    finish(run, step=2)
    assert made.publish_final(2, None) == 0 and step_on_hub() == 2


def test_unwritable_published_record_does_not_end_the_run(
    logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = publisher(run)
    (run / "published.jsonl").mkdir()
    made.publish_checkpoint(save(run, step=2))
    finish(run, step=2)
    assert made.publish_final(2, None) == 0 and step_on_hub() == 2
    assert "published.jsonl is not written: " in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_unexpected_error_ends_only_one_push(logged_in: LocalHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_videomae.publishing import snapshot

    made = publisher(run)
    with monkeypatch.context() as broken:
        broken.setattr(snapshot, "render_run_card", None)
        made.publish_checkpoint(save(run, step=2))
        wait_for(lambda: made._thread is not None and not made._thread.is_alive())
    finish(run, step=2)
    assert made.publish_final(2, None) == 0 and step_on_hub() == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_wait_for_the_last_push(
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


def test_failed_run_reports_unpublished_checkpoint(
    logged_in: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = publisher(run, strategy="end")
    save(run, step=2)
    made.report_unpublished()
    assert f"checkpoint-2 is not published; to publish it: hf-videomae push {run}" in capsys.readouterr().out
    write_run(run, step=3, total=100, status="failed")
    assert command(capsys, "push", run, "--hub_model_id", ID)[0] == 0
    assert step_on_hub() == 2 and "**The run failed**, at step 2 of 100." in files()["README.md"].decode()


def test_card_edited_on_the_hub_is_kept(
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
