"""Test that a full or read-only disk ends a run in one line and costs nothing that was saved."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hf_videomae.checkpoint_dir import incomplete_reason, latest_checkpoint
from hf_videomae.run_files import read_jsonl
from hf_videomae.training import RunError
from tests.helpers.small_disk import fill, small_disk
from tests.helpers.toy import toy_run, toy_train

pytestmark = pytest.mark.fault


def make_large(run: object, num_bytes: int) -> None:
    """Make the model save so many more bytes."""
    save = run.task.save  # type: ignore[attr-defined]

    def save_more(folder: Path) -> None:
        from safetensors.torch import save_file

        save(folder)
        save_file({"more": torch.zeros(num_bytes // 4)}, folder / "more.safetensors")

    run.task.save = save_more  # type: ignore[attr-defined]


def test_checkpoint_that_does_not_fit_is_one_line_and_is_removed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        folder = disk / "run"
        run = toy_run(folder, save_every=2)
        make_large(run, 1_500_000)
        run.recipe.__dict__["keep_checkpoints"] = 3  # the third save is one too many
        with pytest.raises(RunError) as caught:
            run.train()
        message = str(caught.value)
        assert "checkpoint-6 cannot be written" in message and str(folder) in message and "\n" not in message
        assert "No space left on device" in message and "needs about 1.5 MB" in message and "MB are free" in message
        assert "checkpoint-4 is intact" in message and "--resume" in message
        assert not list(folder.glob(".unfinished*")) and shutil.disk_usage(disk).free > 900_000
        newest = latest_checkpoint(folder)
        assert newest is not None and newest.name == "checkpoint-4" and incomplete_reason(newest) is None
        assert json.loads((folder / "run.json").read_text())["status"] == "failed"
        shutil.rmtree(folder / "checkpoint-2")
        assert toy_train(folder, resume="auto").step == 6


@pytest.mark.parametrize("leaving", [0, 1000])
def test_jsonl_that_does_not_fit_is_one_line(tmp_path: Path, leaving: int) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        folder = disk / "run"
        toy_train(folder, stop_at_step=2)

        def use_up(call: int) -> None:
            if call == 1:
                fill(disk, leaving=leaving)

        with pytest.raises(
            RunError, match=r"jsonl cannot be written to .*No space left on device.*are free"
        ) as caught:
            toy_train(folder, resume="auto", before_step=use_up, log_samples=True, max_steps=400)
        assert "\n" not in str(caught.value)
        (disk / "filling").unlink()
        assert toy_train(folder, resume="auto").step == 6
        assert [line["step"] for line in read_jsonl(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_final_model_that_does_not_fit_is_written_on_resume(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        folder = disk / "run"
        run = toy_run(folder)
        make_large(run, 2_500_000)
        with pytest.raises(RunError, match=r"the final model cannot be written .*checkpoint-6 is intact"):
            run.train()
        assert not (folder / "model.safetensors").exists() and not list(folder.glob(".unfinished*"))
        assert toy_train(folder, resume="auto").step == 6 and (folder / "model.safetensors").exists()


def test_loss_curve_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = toy_run(tmp_path, max_steps=2)
    (tmp_path / "loss.png").mkdir()  # nothing can be renamed over it
    assert run.train().step == 2
    assert "warning: loss.png cannot be written" in capsys.readouterr().out


def test_read_only_disk_is_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        toy_train(disk / "run", stop_at_step=2)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder, options in ((disk / "run", {"resume": "auto"}), (disk / "new", {})):
            with pytest.raises(RunError, match=r"--output_dir .*Read-only file system; make it writable"):
                toy_train(folder, **options)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert toy_train(disk / "run", resume="auto").step == 6


@pytest.mark.parametrize("place", ["file", "below", "long", "read-only"])
def test_output_dir_that_cannot_be_created_is_refused_first(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "read-only").mkdir()
    folder = {"below": tmp_path / "file" / "run", "long": tmp_path / ("x" * 300)}.get(place, tmp_path / place)
    if place == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.chmod(0o500)
    with pytest.raises(RunError, match=r"--output_dir .*cannot be") as caught:
        toy_train(folder)
    assert str(folder) in str(caught.value) and "give another folder" in str(caught.value)
