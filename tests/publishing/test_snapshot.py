"""Test that snapshots hold the files of a run, and no disk space after a failure."""

import os
from pathlib import Path

import pytest

from hf_videomae.cards.run_metadata import read_run
from hf_videomae.publishing.snapshot import SNAPSHOT_FOLDER, take_snapshot
from hf_videomae.run_files import read_jsonl
from tests.helpers.publishing import (
    publisher,
)
from tests.helpers.run_folders import save
from tests.local_hub import LocalHub


def test_snapshot_is_unaffected_by_later_changes(run: Path) -> None:
    """Delete, append to and rewrite the files of a run after a snapshot."""
    checkpoint = save(run, step=2)
    held = take_snapshot(run, read_run(run), checkpoint=checkpoint, step=2, with_state=True)
    before = (checkpoint / "model.safetensors").read_bytes()
    for path in checkpoint.iterdir():
        path.unlink()
    save(run, step=4)
    held.truncate_appended_files()
    assert (held.folder / "model.safetensors").read_bytes() == before
    assert [line["step"] for line in read_jsonl(held.folder / "metrics.jsonl")] == [2]
    assert held.run["steps"] == 2
    held.remove()
    assert len(read_jsonl(run / "metrics.jsonl")) == 2


def test_failed_snapshot_leaves_no_links(logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Check that no link keeps files that the run deletes when its disk is full."""
    made = publisher(run, strategy="checkpoint")
    checkpoint = save(run, step=2)
    # A path of the checkpoint that is too long for the system inside the folder of snapshots.
    deep = checkpoint
    while len(str(deep)) < os.pathconf("/", "PC_PATH_MAX") - 230:
        deep = deep / ("d" * 199)
    deep.mkdir(parents=True)
    (deep / "f".ljust(os.pathconf("/", "PC_PATH_MAX") - len(str(deep)) - 3, "f")).write_text("")
    made.publish_checkpoint(checkpoint)
    assert "step 2 is not published: " in caplog.text
    assert (checkpoint / "model.safetensors").stat().st_nlink == 1 and not list((run / SNAPSHOT_FOLDER).iterdir())


def test_damaged_record_of_the_run_does_not_end_it(
    logged_in: LocalHub, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = publisher(run)
    checkpoint = save(run, step=2)
    (run / "run.json").write_text("{")
    made.publish_checkpoint(checkpoint)
    assert "step 2 is not published: " in caplog.text and "run.json is damaged" in caplog.text
