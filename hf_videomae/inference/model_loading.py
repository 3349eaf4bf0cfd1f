"""Load what a model's name stands for: the network, its processor, and the device it runs on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..cards import is_hub_id
from ..configuration_videomae import VideoMAEConfig
from ..data.labels import SINGLE_LABEL, LabelKind
from ..errors import first_line
from ..hub.download import download_model
from ..modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from ..strict_loading import is_saved_without_classifier, read_architectures
from ..text import check_utf8
from ..video_processing_videomae import VideoMAEVideoProcessor

logger = logging.get_logger("hf_videomae")

Model: TypeAlias = PreTrainedModel | str | os.PathLike[str]
_PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")


def load_classifier(model: Model) -> PreTrainedModel:
    """Return a classifier: the model itself, or the one that a folder or Hub id names, in evaluation mode.

    Raises:
        ValueError: for a checkpoint without a classifier: a new one would answer at random.
    """
    if isinstance(model, PreTrainedModel):
        if not hasattr(model, "classifier"):
            raise ValueError(f"{type(model).__name__} has no classifier; give a VideoMAEForVideoClassification")
        return model
    if is_headless_checkpoint(model):
        raise ValueError(
            f"{model} holds no classifier (it is a pre-trained checkpoint): fine-tune it first with "
            f"examples/finetune.py, or take its features with hf_videomae.extract_features"
        )
    loaded, info = VideoMAEForVideoClassification.from_pretrained(model, output_loading_info=True)
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"{model} lacks {', '.join(missing)}: a new classifier would answer at random; fine-tune it")
    classifier: PreTrainedModel = loaded.eval()
    return classifier


def load_encoder(model: Model) -> PreTrainedModel:
    """Return any VideoMAE; of a folder or Hub id the classifier if the checkpoint holds one, else the bare encoder."""
    if isinstance(model, PreTrainedModel):
        return model
    model_class = VideoMAEModel if is_headless_checkpoint(model) else VideoMAEForVideoClassification
    loaded: PreTrainedModel = model_class.from_pretrained(model).eval()
    return loaded


def load_pretrained(model: str | os.PathLike[str]) -> VideoMAEForPreTraining:
    """Return the pre-training model that a folder or Hub id names.

    Raises:
        ValueError: for a checkpoint without a decoder: a new one would predict at random.
    """
    is_headless_checkpoint(model)
    architectures = read_architectures(model, {})
    if architectures and not any("PreTraining" in name for name in architectures):
        raise ValueError(
            f"{model} holds no decoder (it is a {architectures[0]}), so it cannot reconstruct; give a pre-trained "
            f"checkpoint, such as the one that it was fine-tuned from"
        )
    loaded: VideoMAEForPreTraining = VideoMAEForPreTraining.from_pretrained(model)
    return loaded


def is_headless_checkpoint(model: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint states that it holds no classifier.

    This is the first access to a checkpoint, so it also reports wrong names.

    Raises:
        ValueError: for a folder without a model, or a name that the Hub does not know.
    """
    check_utf8(os.fsdecode(model), name="the model")
    if os.path.isdir(model) and not os.path.isfile(os.path.join(model, "config.json")):
        raise ValueError(f"the folder {model} holds no config.json, so no model; give one that save_pretrained wrote")
    try:
        if not os.path.isdir(model) and is_hub_id(os.fsdecode(model)):
            download_model(os.fsdecode(model))
        return is_saved_without_classifier(model, {})
    except OSError as error:
        raise ValueError(
            f"{model} is neither a local folder with a config.json nor a model that the Hub gives "
            f"({first_line(error)}); check the name"
        ) from error


def resolve_device(device: str | torch.device | None) -> torch.device | None:
    """Return a device that can compute, checked before a model is loaded for it; None stays None.

    Raises:
        ValueError: for an unknown name, or a device that torch cannot use on this machine.
    """
    if device is None:
        return None
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ValueError(f"there is no device {device!r}; give cpu, cuda or cuda:1, for example") from None
    try:
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all of them
        raise ValueError(
            f"device {device} cannot be used here ({first_line(error)}); give cpu, or one that this machine has"
        ) from None
    return resolved


def load_processor(model: Model, network: PreTrainedModel, **settings: Any) -> VideoMAEVideoProcessor:
    """Return the processor saved with a model, or one made for the network's configuration.

    It is made for model objects, and, with a note, for folders and repositories without any processor file.

    Args:
        model: the model, or its folder or repository.
        network: the loaded model.
        **settings: settings of the processor to use instead of the saved ones, such as `frame_stride`.
    """
    config = as_videomae_config(network.config)
    if isinstance(model, PreTrainedModel):
        return VideoMAEVideoProcessor.from_config(config, **settings)
    if (saved := load_saved_processor(model, **settings)) is not None:
        return saved
    processor = VideoMAEVideoProcessor.from_config(config, **settings)
    logger.warning_once(
        f"{model} has no preprocessor_config.json, so clips of {processor.num_frames} frames are assumed, "
        f"{processor.sampling_mode}, with a stride of {processor.frame_stride}; save its processor there"
    )
    return processor


def load_saved_processor(model: str | os.PathLike[str], **settings: Any) -> VideoMAEVideoProcessor | None:
    """Return the processor saved in a folder or repository; None if there is no processor file.

    Raises:
        ValueError: for a processor file that holds no settings.
        OSError: for a folder or repository that cannot be read.
    """
    try:
        processor: VideoMAEVideoProcessor = VideoMAEVideoProcessor.from_pretrained(model, **settings)
    except OSError as error:
        if "preprocessor_config.json" not in str(error):
            raise
        file = next((name for name in _PROCESSOR_FILES if Path(model, name).is_file()), None)
        if file is not None:
            raise ValueError(f"the {file} of {model} holds no settings: restore it, or remove it") from error
        return None
    return processor


def load_classifier_and_processor(
    model: Model, processor: VideoMAEVideoProcessor | None, device: str | torch.device | None
) -> tuple[PreTrainedModel, VideoMAEVideoProcessor]:
    """Return a classifier on the device, and the given processor or the one that `load_processor` finds."""
    device = resolve_device(device)
    network = load_classifier(model)
    processor = processor or load_processor(model, network)
    if device is not None:
        network.to(device)  # type: ignore[arg-type]
    return network, processor


def as_videomae_config(config: Any) -> VideoMAEConfig:
    """Return the configuration of a model of this package or of stock transformers as a `VideoMAEConfig`.

    Raises:
        ValueError: for the configuration of another kind of model.
    """
    if isinstance(config, VideoMAEConfig):
        return config
    converted: VideoMAEConfig = VideoMAEConfig.from_dict(config.to_dict())
    return converted


def get_problem_type(config: Any) -> LabelKind:
    """Return what the outputs of a classifier are, as its configuration states.

    If it states nothing, a single output is a number, as in the loss of transformers, and several are classes.
    """
    if config.problem_type is None:
        return "regression" if len(config.id2label) == 1 else SINGLE_LABEL
    kind: LabelKind = config.problem_type
    return kind


def resolve_layer(layer: int, *, num_layers: int) -> int:
    """Return the index of a layer in `hidden_states`, from 0, the embeddings, to `num_layers`, the last block.

    Args:
        layer: the index, or a negative number that counts from the end: -1 is the last block.
        num_layers: the number of blocks of the encoder.

    Raises:
        ValueError: for a layer that the model does not have.
    """
    if not -num_layers - 1 <= layer <= num_layers:
        raise ValueError(
            f"layer is {layer}; this model has {num_layers} blocks: give 0 (the embeddings) to {num_layers}, or a "
            f"negative number to count from the end"
        )
    return layer % (num_layers + 1)


def layer_tokens(encoder: nn.Module, clips: Tensor, layer: int) -> Tensor:
    """Return the tokens (B, N, D) that an encoder gives at a layer, which `resolve_layer` returned.

    The last layer includes the final norm, if the checkpoint has one.
    """
    config: Any = encoder.config
    if layer == config.num_hidden_layers:
        tokens: Tensor = encoder(clips, return_dict=True).last_hidden_state
    else:
        tokens = encoder(clips, output_hidden_states=True, return_dict=True).hidden_states[layer]
    return tokens


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode within the block, and back into its own mode after it."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
