"""Apply a VideoMAE to videos: classes, features, reconstructions, timelines and saliency."""

from .. import _check_dependencies  # noqa: F401  reports a torchvision that does not fit in one line

# isort: split
from .feature_files import load_features, save_features
from .features import FeatureExtractor, VideoFeatures, extract_features
from .model_loading import get_problem_type, load_classifier, load_processor
from .prediction import Prediction, predict
from .reconstruction import Reconstruction, draw_reconstruction, reconstruct, save_reconstruction
from .saliency import Saliency, draw_saliency, token_saliency
from .timeline import Timeline, draw_timeline, predict_timeline
from .video_inputs import find_inputs

__all__ = [
    "FeatureExtractor",
    "Prediction",
    "Reconstruction",
    "Saliency",
    "Timeline",
    "VideoFeatures",
    "draw_reconstruction",
    "draw_saliency",
    "draw_timeline",
    "extract_features",
    "find_inputs",
    "get_problem_type",
    "load_classifier",
    "load_features",
    "load_processor",
    "predict",
    "predict_timeline",
    "reconstruct",
    "save_features",
    "save_reconstruction",
    "token_saliency",
]
