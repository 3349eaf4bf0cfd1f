"""Register the package's classes with transformers' Auto classes, on request only.

transformers owns the model type `videomae`. Registering sends every later `AutoModel...from_pretrained` of a VideoMAE
in this process to the classes of this package, so nothing registers at import.
"""

import importlib
import logging

logger = logging.getLogger(__name__)


def register_auto_classes() -> list[str]:
    """Make transformers' Auto classes return the classes of this package for `model_type: videomae`.

    Every exported model that names an `auto_class` is registered with the configuration: if some were missing,
    transformers would mix its own modeling code with our configuration. A second call changes nothing.

    Returns:
        The names of the Auto classes that now return ours. `AutoVideoProcessor` is among them only if torchvision and
        Pillow are installed, because transformers refuses to use it without them; a warning says so. Without it,
        `VideoMAEVideoProcessor.from_pretrained` still works.
    """
    import transformers

    from .configuration_videomae import VideoMAEConfig

    transformers.AutoConfig.register(VideoMAEConfig.model_type, VideoMAEConfig, exist_ok=True)
    registered = ["AutoConfig"]
    package = importlib.import_module(__package__)
    for model in (getattr(package, name) for name in package.__all__ if name.startswith("VideoMAE")):
        auto_class = getattr(model, "auto_class", None)
        if auto_class is not None:
            getattr(transformers, auto_class).register(VideoMAEConfig, model, exist_ok=True)
            registered.append(auto_class)
    registered.sort()
    if _register_video_processor():
        registered.append("AutoVideoProcessor")
    return registered


def _register_video_processor() -> bool:
    from transformers import AutoVideoProcessor
    from transformers.utils import is_torchvision_available, is_vision_available

    if not (is_torchvision_available() and is_vision_available()):
        logger.warning(
            "AutoVideoProcessor is left out: transformers refuses it without torchvision and Pillow. "
            "Use hf_videomae.VideoMAEVideoProcessor.from_pretrained, which needs no torchvision."
        )
        return False

    from .configuration_videomae import VideoMAEConfig
    from .video_processing_videomae import VideoMAEVideoProcessor

    AutoVideoProcessor.register(
        VideoMAEConfig, video_processor_classes={"torchvision": VideoMAEVideoProcessor}, exist_ok=True
    )
    return True


__all__ = ["register_auto_classes"]
