"""Measure how good a classifier is by the paper's protocol: S x C views of every video, and bad videos counted."""

from ..inference.sampling_check import find_sampling_mismatches
from ..ops.view_scores import average_view_scores
from ..video.views import parse_views
from .class_matching import ClassMismatchError, match_classes
from .metrics import ClassScore, confusion_matrix, mean_class_accuracy, score_classes, top_k_accuracy
from .multilabel import LabelScore, MultiLabelEvaluation, average_precision
from .multiview import evaluate
from .regression import OutputScore, RegressionEvaluation
from .results import BaseEvaluation, Evaluation, FailedVideo

__all__ = [
    "BaseEvaluation",
    "ClassScore",
    "Evaluation",
    "FailedVideo",
    "ClassMismatchError",
    "LabelScore",
    "MultiLabelEvaluation",
    "OutputScore",
    "RegressionEvaluation",
    "average_precision",
    "score_classes",
    "confusion_matrix",
    "evaluate",
    "match_classes",
    "mean_class_accuracy",
    "average_view_scores",
    "parse_views",
    "find_sampling_mismatches",
    "top_k_accuracy",
]
