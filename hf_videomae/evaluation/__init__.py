"""How good a classifier is, by the paper's protocol: S x C views of every video, and nothing left out of the count."""

from ..inference.sampling import sampling_doubts
from ..ops.views import merge_views
from ..video.views import parse_views
from .labels import LabelError, match_classes
from .metrics import ClassScore, class_scores, confusion_matrix, mean_class_accuracy, top_k_accuracy
from .multilabel import LabelScore, MultiLabelEvaluation, average_precision
from .multiview import evaluate
from .regression import OutputScore, RegressionEvaluation
from .results import BaseEvaluation, Evaluation, FailedVideo

__all__ = [
    "BaseEvaluation",
    "ClassScore",
    "Evaluation",
    "FailedVideo",
    "LabelError",
    "LabelScore",
    "MultiLabelEvaluation",
    "OutputScore",
    "RegressionEvaluation",
    "average_precision",
    "class_scores",
    "confusion_matrix",
    "evaluate",
    "match_classes",
    "mean_class_accuracy",
    "merge_views",
    "parse_views",
    "sampling_doubts",
    "top_k_accuracy",
]
