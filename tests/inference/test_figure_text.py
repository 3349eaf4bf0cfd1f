"""Test figures with names that hold TeX, line breaks, or characters that matplotlib's font lacks."""

import warnings
from pathlib import Path

import pytest
import torch
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.figure import Figure

from hf_videomae.inference import figure_text
from hf_videomae.inference.figure_text import figure_fonts, resolve_font
from hf_videomae.inference.images import draw_frame_grid
from hf_videomae.training.loss_curve import plot_loss_curve

pytestmark = pytest.mark.fault
NAMES = ["$\\frac{$", "a$b$", "\\$x$", "two\nlines", "\x1b[31m", "中文", "日本語", "한국어", "<b>", "x" * 500, ""]


def draw(names: list[str], path: Path) -> list[str]:
    """Draw a figure of names, with every warning an error, and return its texts."""
    with warnings.catch_warnings(), figure_fonts(names) as escape:
        warnings.simplefilter("error")
        figure = Figure(figsize=(8, 8), layout="constrained")
        axes = figure.subplots()
        axes.set_yticks(range(len(names)), [escape(name) for name in names])
        figure.savefig(path)
        return [label.get_text() for label in axes.get_yticklabels()]


def test_names_are_drawn_literally(tmp_path: Path) -> None:
    texts = draw(NAMES, tmp_path / "names.png")
    assert texts[:2] == ["\\$\\frac{\\$", "a\\$b\\$"] and texts[3] == "two\\nlines"
    assert (tmp_path / "names.png").stat().st_size > 0 and len(texts[-2]) == 80


def test_characters_of_no_font_become_code_points(tmp_path: Path) -> None:
    assert draw(["a\U000f1234b", "é"], tmp_path / "x.png") == ["a\\U000f1234b", "é"]
    text, path = resolve_font("a\U000f1234b")
    assert (text, path) == ("a\\U000f1234b", None)


def test_another_font_draws_characters_that_the_first_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default_font = Path(font_manager.findfont(font_manager.FontProperties()))
    characters = {path: figure_text._supported_characters(path) for path in figure_text._font_files()}
    other = next(
        path
        for path, found in sorted(characters.items())
        if any(character > "\u2000" for character in found - characters[default_font])
    )
    character = max(characters[other] - characters[default_font])
    assert draw([f"a {character}"], tmp_path / "x.png") == [f"a {character}"]
    text, path = resolve_font(character)
    assert text == character and path is not None and character in figure_text._supported_characters(path)


def test_font_of_the_same_family_draws_missing_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default_font = Path(font_manager.findfont(font_manager.FontProperties()))
    newer = TTFont(default_font)
    for table in newer["cmap"].tables:
        if table.format == 12:
            table.cmap[0xF1234] = "A"
    newer.save(tmp_path / "newer.ttf")
    monkeypatch.setattr(figure_text, "_font_files", lambda: (tmp_path / "newer.ttf",))
    figure_text._covering_fonts.cache_clear()
    assert draw(["a \U000f1234"], tmp_path / "x.png") == ["a \U000f1234"]
    figure_text._covering_fonts.cache_clear()


def test_loss_curve_and_frame_grid_draw_any_name(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    plot_loss_curve(tmp_path, title="pretrain: tiny on path/to/$\\frac{$", baseline_name=None)
    assert (tmp_path / "loss.png").stat().st_size > 0
    frames = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    assert draw_frame_grid([(name, frames) for name in NAMES]).height > 16 * len(NAMES)


def test_figures_hide_tokens(tmp_path: Path) -> None:
    assert draw(["ghp_" + "a1" * 18], tmp_path / "x.png") == ["TOKEN"]
