"""Test means, standard errors, table and figure of a comparison."""

from pathlib import Path

import pytest
from compare.comparison import (
    ComparisonRow,
    binomial_standard_error,
    draw_comparison,
    format_mean_and_error,
    markdown_table,
    mean_and_standard_error,
    paired_difference,
)

FIRST = ComparisonRow("pre-trained", (0.5, 0.6, 0.7))
SECOND = ComparisonRow("scratch", (0.3, 0.5, 0.4))


def test_mean_and_standard_error_match_hand_computed_values() -> None:
    mean, error = mean_and_standard_error([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6) and error == pytest.approx(0.1 / 3**0.5)
    assert mean_and_standard_error([0.25]) == (0.25, None)
    assert format_mean_and_error([0.5, 0.6, 0.7]) == "0.600 ± 0.058" and format_mean_and_error([0.25]) == "0.250"
    assert binomial_standard_error(0.5, 100) == pytest.approx(0.05)


def test_paired_difference_is_taken_per_seed() -> None:
    mean, error = paired_difference(FIRST, SECOND)  # 0.2, 0.1, 0.3
    assert mean == pytest.approx(0.2) and error == pytest.approx(0.1 / 3**0.5)
    with pytest.raises(ValueError, match="3 seeds and other 1"):
        paired_difference(FIRST, ComparisonRow("other", (0.1,)))


def test_table_has_a_column_per_seed() -> None:
    lines = markdown_table(
        [FIRST, ComparisonRow("geometry", (0.6,))], seeds=[0, 1, 2], first_column="top-1"
    ).splitlines()
    assert lines[0] == "| top-1 | seed 0 | seed 1 | seed 2 | mean ± standard error |"
    assert lines[2] == "| pre-trained | 0.500 | 0.600 | 0.700 | 0.600 ± 0.058 |"
    assert lines[3] == "| geometry | 0.600 | 0.600 | 0.600 | 0.600 |"
    assert markdown_table([ComparisonRow("one", (0.5,))], seeds=[4]).splitlines()[2] == "| one | 0.500 |"


def test_accuracies_outside_0_to_1_are_refused() -> None:
    for values in ((), (50.0,), (float("nan"),)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            ComparisonRow("row", values)


def test_figure_is_written_whole(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "comparison.png"
    draw_comparison([FIRST, SECOND, ComparisonRow("geometry", (0.6,), is_baseline=True)], path, title="t", chance=0.1)
    assert Image.open(path).size[0] > 500 and [file.name for file in tmp_path.iterdir()] == ["comparison.png"]


def test_names_with_tex_are_drawn_as_text(tmp_path: Path) -> None:
    path = tmp_path / "comparison.png"
    draw_comparison([ComparisonRow("$\\frac{$", (0.5,))], path, title="$\\x$", chance=0.1)
    assert path.stat().st_size > 0
