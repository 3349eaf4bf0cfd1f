"""Test the trainer on a toy task: accumulation, exact resume, steps that are not finite, signals, output files."""

import json
import os
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hf_videomae.run_files import read_jsonl
from hf_videomae.training import CheckpointError, NonFiniteError, RunError, RunRecipe, loss_curve
from hf_videomae.training.distributed import build_accelerator
from hf_videomae.training.optim import build_lr_schedule
from tests.helpers.toy import ToyLoader, toy_run, toy_train


def metrics(folder: Path, *names: str) -> list[Any]:
    return [tuple(line[name] for name in names) for line in read_jsonl(folder / "metrics.jsonl")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_writes_its_files(tmp_path: Path) -> None:
    result = toy_train(tmp_path, log_samples=True, save_every=2, keep_checkpoints=2)
    assert (result.step, result.exit_code) == (6, 0)
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    wanted = {"step", "epoch", "loss", "lr", "grad_norm", "clips_per_second", "seconds", "data_wait", "data_seconds"}
    assert all(wanted <= line.keys() for line in lines)
    assert lines[0]["lr"] == 0 and lines[-1]["epoch"] == 0.6
    ids = [line["sample_ids"] for line in read_jsonl(tmp_path / "samples-0.jsonl")]
    assert ids == [[f"row-{4 * step + i}" for i in range(4)] for step in range(6)]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["status"], run["steps"], run["clips"], run["skipped_steps"]) == ("finished", 6, 24, 0)
    assert {"command", "recipe", "hardware", "versions", "started", "seconds", "parents", "data"} <= run.keys()
    assert (tmp_path / "loss.png").stat().st_size > 1000 and (tmp_path / "bad_videos.jsonl").exists() is False
    assert weights(tmp_path).keys() == {"weight", "bias"}


def test_run_resumed_twice_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    toy_train(tmp_path / "straight", log_samples=True)
    for stop in (2, 4, None):
        resume = None if stop == 2 else "auto"
        result = toy_train(tmp_path / "parts", log_samples=True, stop_at_step=stop, resume=resume)
        assert result.exit_code == 0
    for name in ("loss", "lr", "grad_norm", "epoch", "baseline"):
        assert metrics(tmp_path / "straight", "step", name) == metrics(tmp_path / "parts", "step", name)
    assert (tmp_path / "straight/samples-0.jsonl").read_text() == (tmp_path / "parts/samples-0.jsonl").read_text()
    for name, value in weights(tmp_path / "straight").items():
        assert torch.equal(value, weights(tmp_path / "parts")[name])


def test_resume_rewrites_lines_after_the_checkpoint(tmp_path: Path) -> None:
    toy_train(tmp_path, save_every=2, stop_at_step=5, log_samples=True)
    straight = metrics(tmp_path, "step", "loss")
    import shutil

    shutil.rmtree(tmp_path / "checkpoint-5")  # as if killed before it was written: resumes from 4
    toy_train(tmp_path, resume="auto", log_samples=True)
    assert metrics(tmp_path, "step", "loss")[:5] == straight
    assert [line["step"] for line in read_jsonl(tmp_path / "samples-0.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_accumulation_equals_large_batch(tmp_path: Path) -> None:
    toy_train(tmp_path / "large", batch_size=8, noise=0)
    toy_train(tmp_path / "accumulated", batch_size=4, gradient_accumulation=2, noise=0, log_samples=True)
    large, accumulated = weights(tmp_path / "large"), weights(tmp_path / "accumulated")
    assert all(torch.allclose(large[name], accumulated[name], atol=1e-6, rtol=0) for name in large)
    for name in ("loss", "lr", "grad_norm"):
        pairs = zip(metrics(tmp_path / "large", name), metrics(tmp_path / "accumulated", name), strict=True)
        assert all(one == pytest.approx(other, abs=1e-5) for one, other in pairs)
    assert len(read_jsonl(tmp_path / "accumulated/samples-0.jsonl")[0]["sample_ids"]) == 8


def test_nonfinite_loss_is_not_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_train(tmp_path, poison=(2,), log_samples=True)
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert [line["loss"] is None for line in lines] == [False, False, True, False, False, False]
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 1, 1, 1]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())
    (named,) = read_jsonl(tmp_path / "nonfinite.jsonl")
    assert (named["step"], named["what"], named["samples"][0]["sample_ids"][0]) == (3, "loss", "row-8")
    assert "step 3: the loss is not finite and was not applied (1 in a row, 1 in all)" in capsys.readouterr().out


def test_nonfinite_steps_leave_weights_unchanged(tmp_path: Path) -> None:
    toy_train(tmp_path / "poisoned", poison=(3, 4, 5))
    toy_train(tmp_path / "clean", stop_at_step=3)
    for name, value in weights(tmp_path / "clean" / "checkpoint-3").items():
        assert torch.equal(value, weights(tmp_path / "poisoned")[name])


def test_nonfinite_steps_in_a_row_end_run_and_keep_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="3 steps in a row, up to step 5; .*checkpoint-2 is intact"):
        toy_train(tmp_path, poison=(2, 3, 4, 5), max_nonfinite=3, save_every=2, keep_checkpoints=1, stop_at_step=6)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


def test_run_without_an_applied_step_fails(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="2 steps in a row, up to step 2; no checkpoint"):
        toy_train(tmp_path, poison=(0, 1), max_steps=2)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_checkpoint_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    def send(call: int) -> None:
        if call == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    result = toy_train(tmp_path / "parts", before_step=send)
    assert (result.step, result.exit_code) == (3, code)
    assert signal.getsignal(number) is before
    assert "after step 3 of 6; saved checkpoint-3. Continue with: --output_dir" in capsys.readouterr().out
    assert json.loads((tmp_path / "parts/run.json").read_text())["status"] == "stopped"
    toy_train(tmp_path / "parts", resume="auto")
    toy_train(tmp_path / "straight")
    assert metrics(tmp_path / "parts", "step", "loss") == metrics(tmp_path / "straight", "step", "loss")


def test_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    toy_train(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(RunError, match="holds an earlier run; .* --resume"):
        toy_train(tmp_path)
    assert toy_train(tmp_path, resume="auto").step == 6
    assert snapshot(tmp_path) == before
    toy_train(tmp_path, overwrite=True, max_steps=2)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert len(read_jsonl(tmp_path / "metrics.jsonl")) == 2


def test_resume_without_complete_checkpoint_is_refused(tmp_path: Path) -> None:
    toy_train(tmp_path)
    for checkpoint in tmp_path.glob("checkpoint-*"):
        (checkpoint / "run_state.json").unlink()
    with pytest.raises(RunError, match="an earlier run without a complete checkpoint .* --overwrite"):
        toy_train(tmp_path, resume="auto")


def test_loss_curve_title_names_no_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the title of the image, which is published."""
    titles = []
    monkeypatch.setattr(loss_curve, "plot_loss_curve", lambda folder, *, title, **rest: titles.append(title))
    toy_train(tmp_path / "one", model="/home/jane/secret/base", dataset="/data/clients/acme/videos", save_every=6)
    toy_train(tmp_path / "two", dataset=("/data/acme/a", "org/b"), save_every=6)
    assert titles == ["toy: path/to/base on path/to/videos", "toy: tiny on path/to/a + org/b"]


def test_data_error_in_setup_leaves_earlier_run_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    toy_train(tmp_path)
    before = snapshot(tmp_path)

    def broken(self: ToyLoader) -> Any:
        raise ValueError("no video can be decoded")
        yield

    monkeypatch.setattr(ToyLoader, "__iter__", broken)
    for options in ({"overwrite": True}, {"resume": "auto", "max_steps": 9}):
        with pytest.raises(ValueError, match="no video"):
            toy_train(tmp_path, **options)
    assert snapshot(tmp_path) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_resume_notes_changed_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_train(tmp_path, stop_at_step=2)
    capsys.readouterr()
    toy_train(tmp_path, resume="auto", base_lr=3.2, log_every=2)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert notes == ["note: base_lr was 6.4 and is 3.2 from here on: this is not the run that was interrupted"]


def test_resume_of_another_model_is_refused(tmp_path: Path) -> None:
    toy_train(tmp_path, stop_at_step=2)
    with pytest.raises(CheckpointError, match="was trained with --model tiny, not base"):
        toy_train(tmp_path, resume="auto", model="base")


def test_resume_from_older_checkpoint_needs_overwrite(tmp_path: Path) -> None:
    toy_train(tmp_path, save_every=2, keep_checkpoints=3, stop_at_step=4)
    with pytest.raises(CheckpointError, match="holds checkpoint-4, later than checkpoint-2"):
        toy_train(tmp_path, resume=str(tmp_path / "checkpoint-2"))
    toy_train(tmp_path, resume=str(tmp_path / "checkpoint-2"), overwrite=True, stop_at_step=3)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]


def test_resume_into_folder_of_another_run_needs_overwrite(tmp_path: Path) -> None:
    """Use a run at an earlier step, whose lines would otherwise be taken for those of the resumed one."""
    here, there = tmp_path / "here", tmp_path / "there"
    toy_train(here, log_every=1, save_every=2, stop_at_step=2, seed=1)
    toy_train(there, log_every=1, stop_at_step=4)
    before = snapshot(here)
    checkpoint = str(there / "checkpoint-4")
    with pytest.raises(CheckpointError, match="here holds another run than that of .*checkpoint-4; give another"):
        toy_train(here, resume=checkpoint)
    assert snapshot(here) == before
    toy_train(here, resume=checkpoint, overwrite=True, log_every=1)
    assert [line["step"] for line in read_jsonl(here / "metrics.jsonl")] == [5, 6]
    toy_train(there, resume=str(tmp_path / "there" / "checkpoint-4"), log_every=1)
    assert [line["step"] for line in read_jsonl(there / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_resume_without_checkpoint_starts_at_step_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy_train(tmp_path / "new", resume="auto").step == 6
    assert "no checkpoint in" in capsys.readouterr().out


def test_bad_videos_are_recorded_once(tmp_path: Path) -> None:
    run = toy_run(tmp_path)
    run.loader.bad_videos.append({"path": "a.mp4", "reason": "no video stream"})
    run.train()
    assert read_jsonl(tmp_path / "bad_videos.jsonl") == [{"step": 1, "path": "a.mp4", "reason": "no video stream"}]
    assert json.loads((tmp_path / "run.json").read_text())["bad_videos"] == 1


def test_data_seconds_are_summed_over_interruptions(tmp_path: Path) -> None:
    for stop in (2, 5, None):
        toy_train(tmp_path, log_every=2, stop_at_step=stop, resume=None if stop == 2 else "auto")
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    run = json.loads((tmp_path / "run.json").read_text())
    # The toy counts half a second for each batch; the first batch of each start is loaded before the measurement.
    assert sum(line["data_seconds"]["decode"] for line in lines) == run["data_seconds"]["decode"] == 1.5
    assert 0 <= run["data_wait"] <= 1


def test_clips_of_smaller_batches_are_counted(tmp_path: Path) -> None:
    toy_train(tmp_path / "whole", short=(1, 4), save_every=3)
    assert json.loads((tmp_path / "whole/run.json").read_text())["clips"] == 6 * 4 - 2
    toy_train(tmp_path / "parts", short=(1, 4), stop_at_step=3)
    toy_train(tmp_path / "parts", short=(1, 4), resume="auto")
    assert json.loads((tmp_path / "parts/run.json").read_text())["clips"] == 6 * 4 - 2


def test_accumulated_smaller_batch_weighs_as_much_as_a_full_one(tmp_path: Path) -> None:
    """See --help of --on_bad_video skip."""
    run = toy_run(tmp_path, short=(1,), gradient_accumulation=2, max_steps=1, noise=0)
    with torch.no_grad():
        passes = [run.task.loss(run.model, batch) for batch in islice(ToyLoader(4, short=(1,)), 2)]
    run.train()
    assert metrics(tmp_path, "loss") == [(pytest.approx(float(sum(passes)) / 2),)]


def test_failed_run_records_bad_videos(tmp_path: Path) -> None:
    run = toy_run(tmp_path)

    def fail(*_: Any) -> Any:
        run.loader.bad_videos.append({"path": "a.mp4", "reason": "no video stream"})
        raise ValueError("a.mp4 cannot be decoded")

    run.task.before_step = lambda call: fail() if call == 3 else None
    with pytest.raises(ValueError, match="a.mp4"):
        run.train()
    assert read_jsonl(tmp_path / "bad_videos.jsonl") == [{"step": 3, "path": "a.mp4", "reason": "no video stream"}]


def test_gradients_are_clipped_only_with_clip_grad(tmp_path: Path) -> None:
    toy_train(tmp_path / "free")
    toy_train(tmp_path / "clipped", clip_grad=0.01)
    free, clipped = metrics(tmp_path / "free", "grad_norm"), metrics(tmp_path / "clipped", "grad_norm")
    assert free[0] == clipped[0] and free[0][0] > 0.01  # the norm is that before clipping


@pytest.mark.parametrize(
    ("settings", "total", "warmup"),
    [
        ({"max_steps": 100}, 100, 5),
        ({"epochs": 800, "warmup_epochs": 40}, 8000, 400),
        ({"epochs": 800, "warmup_epochs": 40, "max_steps": 50}, 50, 2),
        ({"max_steps": 60, "warmup_epochs": 1}, 60, 10),
        ({"max_steps": 60, "warmup_steps": 3, "warmup_epochs": 1}, 60, 3),
    ],
)
def test_schedule_converts_epochs_to_steps(settings: dict[str, Any], total: int, warmup: int) -> None:
    schedule = build_lr_schedule(RunRecipe(base_lr=1.5e-4, **settings), global_batch=2048, steps_per_epoch=10)
    assert (schedule.total_steps, schedule.warmup_steps) == (total, warmup)
    assert (schedule.peak, schedule.floor) == pytest.approx((1.2e-3, 8e-5))


def test_epochs_without_known_size_are_refused() -> None:
    with pytest.raises(RunError, match="give --max_steps"):
        build_lr_schedule(RunRecipe(base_lr=1e-3, epochs=3), global_batch=8, steps_per_epoch=None)


@pytest.mark.parametrize("settings", [{"hub_model_id": "org/name"}, {"hub_strategy": "checkpoint"}])
def test_publishing_options_without_push_to_hub_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="give --push_to_hub as well"):
        RunRecipe(**settings)


def test_missing_tracker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match="pip install wandb"):
        build_accelerator(RunRecipe(report_to=("wandb",)))
