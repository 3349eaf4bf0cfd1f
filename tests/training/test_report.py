"""The files that tell what a run did."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_videomae import run_files
from hf_videomae.errors import RunError
from hf_videomae.training import loss_curve
from hf_videomae.training.progress import ProgressBar, ThroughputMeter, describe_data_wait
from hf_videomae.training.run_record import best_validation


def test_lines_after_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    lines = run_files.JsonlWriter(tmp_path / "m.jsonl")
    for step in (1, 2, 3):
        lines.write({"step": step})
    with lines.path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    again = run_files.JsonlWriter(tmp_path / "m.jsonl", truncate_after=2)
    again.write({"step": 3, "new": True})
    assert run_files.read_jsonl(again.path) == [{"step": 1}, {"step": 2}, {"step": 3, "new": True}]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match="line 2, is not JSON"):
        run_files.read_jsonl(path)


def red_pixels(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 180) & (pixels[..., 1:] < 80).all(-1)).sum())


def green_pixels(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((pixels[..., 1] > 140) & (pixels[..., [0, 2]] < 80).all(-1)).sum())


def test_loss_picture_shows_the_baseline(tmp_path: Path) -> None:
    lines = run_files.JsonlWriter(tmp_path / "metrics.jsonl")
    for step in range(1, 30):
        lines.write({"step": step, "loss": 1 / step if step != 5 else None, "baseline": 0.998})
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name="predict the mean")
    assert red_pixels(tmp_path / "loss.png") > 200
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name=None)
    assert red_pixels(tmp_path / "loss.png") == 0


def test_loss_picture_shows_a_flat_line(tmp_path: Path) -> None:
    """A run that learns nothing is the one that is looked at: its line is not the picture's upper edge."""
    lines = run_files.JsonlWriter(tmp_path / "metrics.jsonl")
    for step in range(1, 30):
        lines.write({"step": step, "loss": 0.6931 + 1e-5 * step, "baseline": 0.6931})
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name="same chance")
    pixels = np.asarray(Image.open(tmp_path / "loss.png").convert("L"))
    dark = np.flatnonzero((pixels < 60).mean(1) > 0.7)  # the frame's edges
    assert red_pixels(tmp_path / "loss.png") > 200
    red = np.asarray(Image.open(tmp_path / "loss.png").convert("RGB")).astype(int)
    rows = np.flatnonzero(((red[..., 0] > 180) & (red[..., 1:] < 80).all(-1)).sum(1) > 100)
    assert rows.min() > dark.min() + 10


def test_loss_picture_shows_validations(tmp_path: Path) -> None:
    lines = run_files.JsonlWriter(tmp_path / "metrics.jsonl")
    for step in range(1, 30):
        lines.write({"step": step, "loss": 1 / step})
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name=None)
    assert green_pixels(tmp_path / "loss.png") == 0
    for step, accuracy in ((30, 0.2), (35, 0.7), (40, 0.7), (45, 0.6)):
        lines.write({"step": step, "loss": None, "eval_top1": accuracy})
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name=None)
    assert green_pixels(tmp_path / "loss.png") > 200
    assert best_validation(tmp_path) == {"step": 40, "top1": 0.7}


def test_running_mean() -> None:
    assert loss_curve.moving_average([1.0, 3.0, 5.0, 7.0], fraction=0.5) == [1.0, 2.0, 4.0, 6.0]


def test_json_file_is_replaced_whole(tmp_path: Path) -> None:
    run_files.write_json(tmp_path / "run.json", {"status": "running"})
    run_files.write_json(tmp_path / "run.json", {"status": "finished"})
    assert run_files.read_run_status(tmp_path) == "finished" and len(list(tmp_path.iterdir())) == 1
    assert json.loads((tmp_path / "run.json").read_text()) == {"status": "finished"}


def test_clock_shares_out_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("hf_videomae.training.progress.time.perf_counter", lambda: now[0])
    throughput = ThroughputMeter()
    with throughput.waiting():
        now[0] += 1
    now[0] += 3
    throughput.count(8)
    with throughput.paused():
        now[0] += 100
    assert throughput.read({"decode": 3.0}) == (4.0, 2.0, 0.25, {"decode": 3.0})
    now[0] += 1
    assert throughput.read({"decode": 3.5, "read": 1.0}) == (1.0, 0.0, 0.0, {"decode": 0.5, "read": 1.0})


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"step": 5, "loss": 0.91234, "lr": 1e-3, "clips_per_second": 123.4, "data_wait": 0.034}
    progress = ProgressBar(10, bar=False)
    progress.show(metrics)
    progress.close()
    line = capsys.readouterr().out
    assert line.startswith("step 5/10  loss 0.9123  123.4 clips/s  data 3 %  lr 1.00e-03  left ")


@pytest.mark.parametrize(
    ("seconds", "wait", "shown"),
    [
        ({"decode": 2.0, "transform": 1.0}, 0.32, "data 32 % (decode)  "),
        (
            {"read": 2.5, "decode": 2.0, "transform": 1.0},
            0.32,
            "data 32 % (decode)  ",
        ),  # workers need 3 s, reading 2.5
        ({"read": 3.5, "decode": 2.0, "transform": 1.0}, 0.32, "data 32 % (read)  "),
        ({"decode": 2.0, "transform": 1.0}, 0.03, "data 3 %  "),
        ({}, 0.32, "data 32 %  "),
    ],
)
def test_the_line_says_what_the_data_waits_for(
    capsys: pytest.CaptureFixture[str], seconds: dict[str, float], wait: float, shown: str
) -> None:
    metrics = {"step": 5, "loss": 0.9, "lr": 1e-3, "clips_per_second": 1.0, "data_wait": wait, "data_seconds": seconds}
    ProgressBar(10, bar=False).show(metrics)
    assert shown in capsys.readouterr().out


def test_advice_where_data_held_the_run_up() -> None:
    told = describe_data_wait(0.32, {"fetch": 0.001, "decode": 20.0, "transform": 5.0}, num_workers=3)
    assert told[0] == "waited for data 32 % of the time (decode 20.0 s, transform 5.0 s)"
    assert "decoding took most of it: more --num_workers (3 now, " in told[1] and "hf-videomae prepare" in told[1]
    assert "--cache_dir" in describe_data_wait(0.5, {"read": 9.0, "decode": 5.0}, num_workers=1)[1]
    assert (
        len(describe_data_wait(0.05, {"decode": 20.0}, num_workers=1))
        == len(describe_data_wait(0.9, {}, num_workers=1))
        == 1
    )
