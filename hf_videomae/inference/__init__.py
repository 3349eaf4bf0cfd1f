"""For people: what a model makes of a video. Classes, features, reconstructions."""

from .. import _check_dependencies  # noqa: F401  a torchvision that does not fit is told in one line

# isort: split
from .feature_files import load_features, save_features
from .features import FeatureExtractor, VideoFeatures, extract_features
from .model_loading import find_inputs, get_problem_type, load_classifier, load_processor
from .prediction import Prediction, predict
from .reconstruction import Reconstruction, draw_reconstruction, reconstruct, save_reconstruction
from .saliency import Saliency, draw_saliency, token_saliency
from .timeline import Timeline, draw_timeline, predict_timeline

__all__ = [
    "FeatureExtractor",
    "Timeline",
    "Prediction",
    "Reconstruction",
    "Saliency",
    "VideoFeatures",
    "draw_timeline",
    "draw_reconstruction",
    "draw_saliency",
    "extract_features",
    "find_inputs",
    "get_problem_type",
    "load_classifier",
    "load_features",
    "predict",
    "predict_timeline",
    "load_processor",
    "reconstruct",
    "token_saliency",
    "save_reconstruction",
    "save_features",
]
