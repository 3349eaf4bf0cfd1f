"""For people: what a model makes of a video. Classes, features, reconstructions."""

from .features import FeatureExtractor, VideoFeatures, extract_features
from .files import find_inputs, head_kind, load_classifier, processor_for
from .prediction import Prediction, predict
from .reconstruction import Reconstruction, reconstruct, save_reconstruction
from .storing import load_features, store_features

__all__ = [
    "FeatureExtractor",
    "Prediction",
    "Reconstruction",
    "VideoFeatures",
    "extract_features",
    "find_inputs",
    "head_kind",
    "load_classifier",
    "load_features",
    "predict",
    "processor_for",
    "reconstruct",
    "save_reconstruction",
    "store_features",
]
