"""What people name, and what is read: folders and patterns to files, a model's name to a model."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel

from ..configuration_videomae import VideoMAEConfig
from ..data.folder import find_videos, is_pattern, is_video_name
from ..data.labels import SINGLE, LabelKind
from ..loading import architectures_of, saved_without_classifier
from ..modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from ..video_processing_videomae import VideoMAEVideoProcessor

_PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
Model: TypeAlias = PreTrainedModel | str | os.PathLike[str]


def find_inputs(named: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Files, URLs, folders (searched at any depth) and glob patterns to files and URLs, each once, in order.

    Raises:
        ValueError: for a folder without videos or a pattern that no video matches. A file that is not there is kept:
            reading it says so.
    """
    found: dict[str, None] = {}
    for name in map(os.fsdecode, named):
        path = os.path.expanduser(name)
        if "://" in name:
            found[name] = None
        elif os.path.isdir(path):
            videos = find_videos(Path(path))
            if not videos:
                raise ValueError(f"the folder {name} holds no videos (.mp4, .avi, .mkv, .webm, ...); give another")
            found |= dict.fromkeys(os.path.join(path, video) for video in videos)
        elif is_pattern(name) and not os.path.exists(path):
            matches = [match for match in sorted(glob.glob(path, recursive=True)) if is_video_name(Path(match).name)]
            if not matches:
                raise ValueError(f"no video matches the pattern {name}; check it, or give a folder")
            found |= dict.fromkeys(matches)
        else:
            found[path] = None
    return list(found)


def load_classifier(model: Model) -> PreTrainedModel:
    """A classifier by name or as it is.

    Raises:
        ValueError: for a checkpoint without a classifier: a fresh one would answer at random.
    """
    if isinstance(model, PreTrainedModel):
        if not hasattr(model, "classifier"):
            raise ValueError(f"{type(model).__name__} has no classifier; give a VideoMAEForVideoClassification")
        return model
    if lacks_classifier(model):
        raise ValueError(
            f"{model} holds no classifier (it is a pre-trained checkpoint): fine-tune it first with "
            f"examples/finetune.py, or take its features with hf_videomae.extract_features"
        )
    loaded, info = VideoMAEForVideoClassification.from_pretrained(model, output_loading_info=True)
    fresh = sorted(info["missing_keys"])
    if fresh:
        raise ValueError(f"{model} lacks {', '.join(fresh)}: a fresh classifier would answer at random; fine-tune it")
    classifier: PreTrainedModel = loaded.eval()
    return classifier


def load_encoder(model: Model) -> PreTrainedModel:
    """Any VideoMAE by name or as it is: a classifier where the checkpoint holds one, else the bare encoder."""
    if isinstance(model, PreTrainedModel):
        return model
    kind = VideoMAEModel if lacks_classifier(model) else VideoMAEForVideoClassification
    loaded: PreTrainedModel = kind.from_pretrained(model).eval()
    return loaded


def load_pretrained(model: str | os.PathLike[str]) -> VideoMAEForPreTraining:
    """A pre-training model by name.

    Raises:
        ValueError: for a checkpoint without a decoder: a fresh one would paint at random.
    """
    lacks_classifier(model)
    kinds = architectures_of(model, {})
    if kinds and not any("PreTraining" in kind for kind in kinds):
        raise ValueError(
            f"{model} holds no decoder (it is a {kinds[0]}), so it cannot reconstruct; give a pre-trained checkpoint, "
            f"such as the one that it was fine-tuned from"
        )
    loaded: VideoMAEForPreTraining = VideoMAEForPreTraining.from_pretrained(model)
    return loaded


def lacks_classifier(model: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint says that it holds none; the first look at it, so a wrong name shows here."""
    if os.path.isdir(model) and not os.path.isfile(os.path.join(model, "config.json")):
        raise ValueError(f"the folder {model} holds no config.json, so no model; give one that save_pretrained wrote")
    try:
        return saved_without_classifier(model, {})
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{model} is no folder here with a config.json, and the Hub does not give it ({reason}); check the name"
        ) from error


def checked_device(device: str | torch.device | None) -> torch.device | None:
    """A device that computes here, before a model is loaded for it; None stays None.

    Raises:
        ValueError: for a name that is none, or a device that torch cannot use on this machine.
    """
    if device is None:
        return None
    try:
        named = torch.device(device)
    except RuntimeError:
        raise ValueError(f"there is no device {device!r}; give cpu, cuda or cuda:1, for example") from None
    try:
        torch.empty(0, device=named)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all of them
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device} cannot be used here ({reason}); give cpu, or one that is there") from None
    return named


def processor_for(model: Model, network: PreTrainedModel) -> VideoMAEVideoProcessor:
    """The processor saved with a named model, or one made for the configuration of a model object.

    A folder or repository without any processor file gets one made for its configuration too.
    """
    if not isinstance(model, PreTrainedModel):
        try:
            return VideoMAEVideoProcessor.from_pretrained(model)
        except OSError as error:
            if "preprocessor_config.json" not in str(error):
                raise
            found = next((name for name in _PROCESSOR_FILES if Path(model, name).is_file()), None)
            if found is not None:
                raise ValueError(f"the {found} of {model} holds no settings: restore it, or remove it") from error
    return VideoMAEVideoProcessor.from_config(our_config(network.config))


def our_config(config: Any) -> VideoMAEConfig:
    """The configuration of a model of this package or of stock transformers, with our fields.

    Raises:
        ValueError: for the configuration of another kind of model.
    """
    if isinstance(config, VideoMAEConfig):
        return config
    ours: VideoMAEConfig = VideoMAEConfig.from_dict(config.to_dict())
    return ours


def head_kind(config: Any) -> LabelKind:
    """What the outputs of a classifier are, as its configuration says.

    Where it says nothing a single output is a number, as for the loss of transformers, and several are classes.
    """
    if config.problem_type is None:
        return "regression" if len(config.id2label) == 1 else SINGLE
    kind: LabelKind = config.problem_type
    return kind
