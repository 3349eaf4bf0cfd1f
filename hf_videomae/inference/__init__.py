"""For people: what a model makes of a video. Classes, features, reconstructions."""

from .. import _check_dependencies  # noqa: F401  a torchvision that does not fit is told in one line

# isort: split
from .features import FeatureExtractor, VideoFeatures, extract_features
from .files import find_inputs, head_kind, load_classifier, processor_for
from .over_time import OverTime, draw_over_time, predict_over_time
from .prediction import Prediction, predict
from .reconstruction import Reconstruction, draw_reconstruction, reconstruct, save_reconstruction
from .saliency import Saliency, draw_saliency, token_saliency
from .storing import load_features, store_features

__all__ = [
    "FeatureExtractor",
    "OverTime",
    "Prediction",
    "Reconstruction",
    "Saliency",
    "VideoFeatures",
    "draw_over_time",
    "draw_reconstruction",
    "draw_saliency",
    "extract_features",
    "find_inputs",
    "head_kind",
    "load_classifier",
    "load_features",
    "predict",
    "predict_over_time",
    "processor_for",
    "reconstruct",
    "token_saliency",
    "save_reconstruction",
    "store_features",
]
