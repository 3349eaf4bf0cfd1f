"""Average the scores of many views of a video.

Shapes: B videos, V views of each, K classes.
"""

import torch
from torch import Tensor


def average_view_scores(logits: Tensor, *, problem_type: str | None = None) -> Tensor:
    """Return the scores of videos: each view's softmax, then the mean (paper's released test code).

    A mean of logits instead lets one extreme view decide; on Kinetics the authors measured half a point between them.

    Args:
        logits: (B, V, K).
        problem_type: `problem_type` of the model. Several labels at once are scored by the sigmoid, and a regression
            is the mean of its views, as stock pipelines do.

    Returns:
        (B, K) float32; rows sum to 1 for a single label.

    Raises:
        ValueError: for logits of another shape, or without views.
    """
    if logits.ndim != 3 or logits.shape[1] == 0:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; wanted (videos, views, classes), views 1 or more")
    scores = logits.float()
    if problem_type == "multi_label_classification":
        scores = scores.sigmoid()
    elif problem_type != "regression":
        scores = torch.softmax(scores, dim=-1)
    return scores.mean(1)
