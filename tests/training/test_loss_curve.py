"""Test that the loss curve shows losses, baseline and validations."""

from pathlib import Path

import numpy as np
from PIL import Image

from hf_videomae import run_files
from hf_videomae.training import loss_curve
from hf_videomae.training.run_record import best_validation


def red_pixels(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 180) & (pixels[..., 1:] < 80).all(-1)).sum())


def green_pixels(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int(((pixels[..., 1] > 140) & (pixels[..., [0, 2]] < 80).all(-1)).sum())


def test_loss_curve_shows_baseline(tmp_path: Path) -> None:
    lines = run_files.JsonlWriter(tmp_path / "metrics.jsonl")
    for step in range(1, 30):
        lines.write({"step": step, "loss": 1 / step if step != 5 else None, "baseline": 0.998})
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name="predict the mean")
    assert red_pixels(tmp_path / "loss.png") > 200
    loss_curve.plot_loss_curve(tmp_path, title="t", baseline_name=None)
    assert red_pixels(tmp_path / "loss.png") == 0


def test_loss_curve_shows_flat_line(tmp_path: Path) -> None:
    """Draw a run that learns nothing: the upper edge of the axes must not hide its line."""
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


def test_loss_curve_shows_validations(tmp_path: Path) -> None:
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


def test_moving_average_is_over_fewer_values_at_start() -> None:
    assert loss_curve.moving_average([1.0, 3.0, 5.0, 7.0], fraction=0.5) == [1.0, 2.0, 4.0, 6.0]
