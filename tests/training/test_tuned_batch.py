"""A batch far below the recipe's is said at the start, with what makes up for it."""

from pathlib import Path

import pytest

from tests.helpers.toy import toy_run


@pytest.mark.parametrize(("tuned", "warned"), [(64, True), (9, True), (8, False), (4, False), (None, False)])
def test_a_batch_below_half_of_the_recipes_is_warned_about(
    tuned: int | None, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = toy_run(tmp_path / "run", tuned_batch=tuned)  # 4 clips per step, base_lr 6.4
    run.stop.__exit__()
    text = capsys.readouterr().out
    assert "4 clips per step (4 x 1 accumulated x 1 processes), learning rate 6.4 x 4 / 256 = 0.1" in text
    assert ("warning: this recipe was made for" in text) == warned
    if tuned == 64:
        assert "made for 64 clips per step; with 4 it" in text and "--gradient_accumulation 16" in text
