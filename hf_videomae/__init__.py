"""Train, evaluate and share VideoMAE end to end on the Hugging Face stack.

The public names below are loaded on first use: `import hf_videomae` loads neither torch nor transformers, and changes
nothing outside this package. The parts are public modules: `hf_videomae.ops.masking`,
`hf_videomae.video.decoding`, `hf_videomae.convert` and so on.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .auto import register_auto_classes
    from .configuration_videomae import VideoMAEConfig
    from .inference import extract_features, predict, reconstruct
    from .modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
    from .video_processing_videomae import VideoMAEVideoProcessor

_HOMES = {
    "VideoMAEConfig": "configuration_videomae",
    "VideoMAEForPreTraining": "modeling_videomae",
    "VideoMAEForVideoClassification": "modeling_videomae",
    "VideoMAEModel": "modeling_videomae",
    "VideoMAEVideoProcessor": "video_processing_videomae",
    "extract_features": "inference",
    "predict": "inference",
    "reconstruct": "inference",
    "register_auto_classes": "auto",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "VideoMAEConfig",
    "VideoMAEForPreTraining",
    "VideoMAEForVideoClassification",
    "VideoMAEModel",
    "VideoMAEVideoProcessor",
    "__version__",
    "extract_features",
    "predict",
    "reconstruct",
    "register_auto_classes",
]
