"""How good a classifier is, by the paper's protocol: S x C views of every video, and nothing left out of the count."""

from ..ops.views import merge_views
from ..video.views import parse_views
from .labels import LabelError, match_classes
from .metrics import ClassScore, class_scores, confusion_matrix, mean_class_accuracy, top_k_accuracy
from .multiview import evaluate
from .results import Evaluation, FailedVideo

__all__ = [
    "ClassScore",
    "Evaluation",
    "FailedVideo",
    "LabelError",
    "class_scores",
    "confusion_matrix",
    "evaluate",
    "match_classes",
    "mean_class_accuracy",
    "merge_views",
    "parse_views",
    "top_k_accuracy",
]
