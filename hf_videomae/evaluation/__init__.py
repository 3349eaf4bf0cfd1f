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
    "ClassMismatchError",
    "ClassScore",
    "Evaluation",
    "FailedVideo",
    "LabelScore",
    "MultiLabelEvaluation",
    "OutputScore",
    "RegressionEvaluation",
    "average_precision",
    "average_view_scores",
    "confusion_matrix",
    "evaluate",
    "find_sampling_mismatches",
    "match_classes",
    "mean_class_accuracy",
    "parse_views",
    "score_classes",
    "top_k_accuracy",
]
