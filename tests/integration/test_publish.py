"""Test runs that publish to a Hub that fails: no run is harmed, nothing is lost."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import transformers
from huggingface_hub import HfApi, ModelCard, snapshot_download

from tests.helpers.running import PATIENCE, ROOT, Started, lines, pretrain, started, write_small_model
from tests.local_hub import LocalHub

ID = "org/run"
AT_ONCE = 520  # huggingface_hub does not try this again by itself, for 23 seconds
QUICK = ["--batch_size", 4, "--num_workers", 0, "--log_every", 1, "--base_lr", 1e-2]


@pytest.fixture
def logged_in(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


class Place:
    """A model, a folder for its run, and the processes that work there."""

    def __init__(self, hub: LocalHub, root: Path) -> None:
        self.hub, self.run, self.log = hub, root / "run", root / "log"
        self.model = write_small_model(root / "model")
        self.variables = {**hub.environment(), "HF_TOKEN": hub.token, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.variables["HF_VIDEOMAE_HUB_SPACING"] = "0"
        # As an installation puts it there.
        (root / "bin").mkdir()
        (root / "bin" / "hf-videomae").write_text(f'#!/bin/sh\nexec {sys.executable} -m hf_videomae.cli "$@"\n')
        (root / "bin" / "hf-videomae").chmod(0o755)
        self.variables["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def command(self, *arguments: object, processes: int = 1) -> list[str]:
        publishing = ["--push_to_hub", "--hub_model_id", ID]
        common = ["--model", self.model, "--output_dir", self.run, *publishing, *QUICK]
        return pretrain(*common, *arguments, processes=processes)

    def start(self, *arguments: object, processes: int = 1) -> Any:
        return started(self.command(*arguments, processes=processes), log=self.log, variables=self.variables)

    def finish(self, *arguments: object) -> tuple[int, str]:
        with self.start(*arguments) as run:
            return run.process.wait(timeout=PATIENCE), self.log.read_text()


@pytest.fixture
def place(logged_in: LocalHub, tmp_path: Path) -> Place:
    return Place(logged_in, tmp_path)


def titles(branch: str = "main") -> list[str]:
    found = [commit.title for commit in HfApi().list_repo_commits(ID, revision=branch)]
    return [title for title in found if title.startswith("Step ")]


def assert_published(run: Path) -> None:
    """Check that the Hub holds the model of the folder, and that stock transformers loads it."""
    folder = Path(snapshot_download(ID))
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    for name in ("README.md", "preprocessor_config.json", "video_preprocessor_config.json", "reconstruction-1.gif"):
        assert (folder / name).stat().st_size > 0
    assert (folder / "loss.png").read_bytes() == (run / "loss.png").read_bytes()
    transformers.VideoMAEForPreTraining.from_pretrained(folder)


def test_hub_that_fails_and_goes_away_for_a_while_costs_nothing(place: Place, logged_in: LocalHub) -> None:
    """Answer two commits with error 500, break a connection, then be away."""
    logged_in.fail("/commit/", status=500, times=2)
    logged_in.hang_up("PUT /cdn-upload/", after_bytes=1000)
    with place.start("--max_steps", 6, "--save_every", 2, "--hub_strategy", "every_save") as run:
        run.until(lambda: "step 6/" in place.log.read_text())
        with logged_in.outage():
            time.sleep(3)
        printed = run.finish()
    assert f"published {logged_in.endpoint}/{ID}: " in printed and titles()[0] == "Step 6"
    assert_published(place.run)
    assert ModelCard.load(ID).content.startswith("---\n")
    assert not (place.run / ".publishing").exists()
    handed = [line for line in lines(place.run / "published.jsonl") if "blocked_seconds" in line]
    assert [line["step"] for line in handed] == [2, 4]


@pytest.mark.slow
def test_hub_that_keeps_failing_ends_with_the_command_that_publishes(place: Place, logged_in: LocalHub) -> None:
    logged_in.fail("/commit/", status=AT_ONCE, times=None)
    place.variables["HF_VIDEOMAE_HUB_PATIENCE"] = "1"
    code, printed = place.finish("--max_steps", 2)
    assert code == 1 and json.loads((place.run / "run.json").read_text())["status"] == "finished"
    (error,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert f"the run is saved in {place.run}, but its end is not published on {ID}" in error
    logged_in.heal()
    command = error.partition("to publish it: ")[2]
    done = subprocess.run(command, shell=True, env=place.variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert_published(place.run)


@pytest.mark.slow
@pytest.mark.parametrize("token", ["hf_nobody", LocalHub.read_token])
def test_token_without_write_access_ends_two_processes_in_one_line(place: Place, token: str) -> None:
    place.variables["HF_TOKEN"] = token
    with place.start("--max_steps", 2, processes=2) as run:
        assert run.process.wait(timeout=120) != 0
    errors = [line for line in place.log.read_text().splitlines() if line.startswith("error")]
    assert len(errors) == 1 and ("does not know the token" in errors[0] or "may only read" in errors[0]), errors
    assert "exitcode  : 2" in place.log.read_text() or "exitcode: 2" in place.log.read_text()
    assert token not in place.log.read_text() and not place.run.exists()


@pytest.mark.slow
def test_two_processes_publish_once(place: Place) -> None:
    with place.start("--max_steps", 2, processes=2) as run:
        run.finish()
    assert titles() == ["Step 2"]
    assert_published(place.run)


@pytest.mark.slow
def test_run_killed_during_a_push_resumes_and_publishes(place: Place, logged_in: LocalHub) -> None:
    """Check that what is published loads, and that the resumed run publishes its end."""
    arguments = ["--max_steps", 40, "--save_every", 5, "--hub_strategy", "every_save"]
    with place.start(*arguments) as run:
        run.until(lambda: (place.run / "published.jsonl").exists() and "commit" in last_line(place.run))
        logged_in.stall("/commit/", seconds=20)
        logged_in.forget()
        run.until(lambda: logged_in.record._num_in_progress and logged_in.record.requests)
        time.sleep(0.5)
        run.kill()
    before = titles()
    folder = Path(snapshot_download(ID))
    transformers.VideoMAEForPreTraining.from_pretrained(folder)
    held = json.loads((folder / "run.json").read_text())
    assert before[0] == f"Step {held['steps']}" and held["steps"] == lines(folder / "metrics.jsonl")[-1]["step"]
    logged_in.heal()
    code, printed = place.finish(*arguments, "--resume")
    assert code == 0, printed
    assert_published(place.run)
    assert not (place.run / ".publishing").exists()


def last_line(run: Path) -> str:
    return (run / "published.jsonl").read_text().rstrip().rpartition("\n")[2]


@pytest.mark.slow
def test_stopped_run_publishes_what_it_has_and_keeps_an_edited_card(place: Place, logged_in: LocalHub) -> None:
    arguments = ["--max_steps", 400, "--save_every", 200, "--hub_strategy", "checkpoint"]
    with place.start(*arguments) as run:
        run.until(lambda: "step 3/" in place.log.read_text())
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(timeout=PATIENCE) == 128 + signal.SIGTERM, place.log.read_text()
    step = json.loads((place.run / "run.json").read_text())["steps"]
    assert titles() == titles("training-state") == [f"Step {step}"]
    pushed = ModelCard.load(ID).content
    assert f"**The run was stopped**, at step {step} of 400" in pushed
    state = Path(snapshot_download(ID, revision="training-state"))
    for path in (place.run / f"checkpoint-{step}").iterdir():
        assert (state / path.parent.name / path.name).read_bytes() == path.read_bytes()
    HfApi().upload_file(repo_id=ID, path_in_repo="README.md", path_or_fileobj=(pushed + "\nMine.\n").encode())
    code, printed = place.finish("--resume", "--max_steps", 400, "--stop_at_step", step + 4, "--save_every", 2)
    assert code == 0 and printed.count("was edited on the Hub") == 1, printed
    assert ModelCard.load(ID).content == pushed + "\nMine.\n" and titles()[0] == f"Step {step + 4}"


@pytest.mark.slow
def test_signal_ends_the_wait_for_a_hub_that_is_away(place: Place, logged_in: LocalHub) -> None:
    logged_in.fail("/commit/", status=AT_ONCE, times=None)
    with place.start("--max_steps", 2) as run:
        run.until(lambda: bool(logged_in.requests("/commit/")))
        begun = time.monotonic()
        interrupt(run)
        assert run.process.wait(timeout=60) == 128 + signal.SIGINT
    assert time.monotonic() - begun < 30
    assert f"is not published on {ID}: interrupted by Ctrl-C; to publish it: " in place.log.read_text()


def interrupt(run: Started) -> None:
    run.process.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_model_of_another_run_is_refused_before_anything_is_written(place: Place, tmp_path: Path) -> None:
    assert place.finish("--max_steps", 2)[0] == 0
    other = tmp_path / "other"
    code, printed = place.finish("--max_steps", 2, "--output_dir", other)
    assert code == 2 and f"{ID} holds a model that is not of this run" in printed and not other.exists()
    assert place.finish("--max_steps", 2, "--seed", 1, "--overwrite")[0] == 0
    assert shlex.split(printed.splitlines()[-1])[0] == "error:" and titles() == ["Step 2", "Step 2"]
    assert_published(place.run)
