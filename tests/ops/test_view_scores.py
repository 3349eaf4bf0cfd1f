"""Test that the scores of a video are the mean over its views of their softmax."""

import math

import pytest
import torch

from hf_videomae.ops.view_scores import average_view_scores


def test_average_matches_a_hand_computed_case() -> None:
    # Two views, two classes. View 1 is sure of class 0 (odds 9 : 1), view 2 leans to class 1 (odds 1 : 3).
    logits = torch.tensor([[[math.log(9.0), 0.0], [0.0, math.log(3.0)]], [[0.0, 0.0], [5.0, 5.0]]])
    expected = torch.tensor([[(0.9 + 0.25) / 2, (0.1 + 0.75) / 2], [0.5, 0.5]])
    torch.testing.assert_close(average_view_scores(logits), expected)


def test_one_extreme_view_does_not_decide_alone() -> None:
    logits = torch.tensor([[[30.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]])
    assert average_view_scores(logits).argmax() == 1
    assert logits.mean(1).argmax() == 0


def test_multi_label_and_regression_and_half_precision() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [math.log(3.0), 0.0]]], dtype=torch.float64)
    several = average_view_scores(logits, problem_type="multi_label_classification")
    torch.testing.assert_close(several, torch.tensor([[0.625, 0.625]]))
    torch.testing.assert_close(average_view_scores(logits, problem_type="regression"), logits.mean(1).float())
    assert average_view_scores(logits.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 3), (2, 0, 3), (3,)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="videos, views, classes"):
        average_view_scores(torch.zeros(shape))
