"""Publish runs in tests, and look at what is on the Hub afterwards."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import HfApi, ModelCard, snapshot_download

from hf_videomae.cli import main
from hf_videomae.hub.repo import HubTarget
from hf_videomae.publishing import BackgroundPublisher, PushTiming
from hf_videomae.publishing.push import resolve_model_target
from tests.helpers.run_folders import RUN_ID, finish, save

ID = "org/run"
# A server error that huggingface_hub does not retry by itself, which would take 23 seconds.
AT_ONCE = 520
SECRET_TOKEN = "hf_" + "a1B2" * 8

open_publishers: list[BackgroundPublisher] = []


def publisher(run: Path, *, strategy: Any = "every_save", **options: Any) -> BackgroundPublisher:
    """Start a publisher, as a run does before its first step."""
    timing = PushTiming(retry_seconds=options.pop("retry_seconds", 60), spacing=options.pop("spacing", 0))
    target = resolve_model_target(HubTarget(id=ID, **options), run_id=RUN_ID)
    made = BackgroundPublisher(target, output_dir=run, strategy=strategy, timing=timing)
    open_publishers.append(made)
    made.start(RUN_ID)
    return made


def end(run: Path, *, step: int = 4, **options: Any) -> int:
    """Finish a run and publish it once; return the status."""
    if not (run / f"checkpoint-{step}").exists():
        save(run, step=step)
        finish(run, step=step)
    return publisher(run, **options).publish_final(step, None)


def titles(branch: str = "main") -> list[str]:
    """Return the titles of the pushes so far, the newest first."""
    commits = HfApi().list_repo_commits(ID, revision=branch)
    return [commit.title for commit in commits if commit.title.startswith("Step ")]


def files(branch: str = "main") -> dict[str, bytes]:
    folder = Path(snapshot_download(ID, revision=branch))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def step_on_hub() -> float:
    """Return the step that the published weights hold, loaded by stock transformers."""
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


def wait_for(reached: Any) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def edit_card(text: str = "\nMine.\n") -> str:
    edited = ModelCard.load(ID).content + text
    HfApi().upload_file(repo_id=ID, path_in_repo="README.md", path_or_fileobj=edited.encode())
    return edited
