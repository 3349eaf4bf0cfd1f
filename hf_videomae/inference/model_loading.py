"""What people name, and what is read: folders and patterns to files, a model's name to a model."""

import glob
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel

from ..cards import is_hub_id
from ..configuration_videomae import VideoMAEConfig
from ..credentials import redact_credentials
from ..data.folder import is_glob_pattern
from ..data.index_files import INDEX_FILES, VideoIndex, build_index, check_index, read_index_columns
from ..data.index_paths import IndexPathResolver
from ..data.labels import SINGLE_LABEL, LabelKind
from ..data.list_detection import is_list_file
from ..data.source import segment_id
from ..data.video_files import find_videos, is_video_file
from ..data.video_lists import read_video_list
from ..errors import DataError
from ..hub.download import download_model
from ..modeling_videomae import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from ..strict_loading import is_saved_without_classifier, read_architectures
from ..text import check_utf8, escape_non_utf8
from ..video.segments import VideoSegment
from ..video.url_allowlist import redact_url
from ..video_processing_videomae import VideoMAEVideoProcessor

logger = logging.getLogger(__name__)
_logged_hosts: set[str] = set()
_PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
Model: TypeAlias = PreTrainedModel | str | os.PathLike[str]


def find_inputs(named: Iterable[str | os.PathLike[str] | VideoSegment]) -> list[str | VideoSegment]:
    """Turn files, URLs, folders, patterns and lists into videos, each once, in order.

    Folders are searched at any depth. Of a folder whose index file has segments, and of a list of videos (CSV, JSON or
    text), each row is a video, or a segment of one.

    A URL is read from wherever it leads, as the caller named it: another server, the local network, or the Hub with
    the caller's token. Each server is named once in the log.

    Raises:
        ValueError: for a folder or list without videos or a pattern that no video matches. A file that is not there is
            kept: reading it says so.
    """
    found: dict[str | VideoSegment, None] = {}
    items = list(named)
    for item in items:
        if isinstance(item, VideoSegment):
            if isinstance(item.video, (str, os.PathLike)):
                log_remote_host(item.video)
            found[item] = None
            continue
        name = os.fsdecode(item)
        path = os.path.expanduser(name)
        log_remote_host(name)
        if "://" in name:
            found[name] = None
        elif os.path.isdir(path):
            videos = _folder_segments(Path(path)) or [os.path.join(path, video) for video in find_videos(Path(path))]
            if not videos:
                raise ValueError(f"the folder {name} holds no videos (.mp4, .avi, .mkv, .webm, ...); give another")
            found |= dict.fromkeys(videos)
        elif os.path.isfile(path) and is_list_file(path):
            found |= dict.fromkeys(_list_videos(path, is_alone=len(items) == 1))
        elif is_glob_pattern(name) and not os.path.exists(path):
            matches = [match for match in sorted(glob.glob(path, recursive=True)) if is_video_file(Path(match).name)]
            if not matches:
                raise ValueError(f"no video matches the pattern {name}; check it, or give a folder")
            found |= dict.fromkeys(matches)
        else:
            found[path] = None
    return list(found)


def _list_videos(path: str, *, is_alone: bool) -> list[str | VideoSegment]:
    """Return the rows of a list; of a text among other files that is none the path, which is then a bad video."""
    try:
        listed = read_video_list(Path(path))
        index = build_index(replace(listed.columns, label=""), paths=listed.paths, split=None, kind=SINGLE_LABEL)
        return _index_videos(index, root=listed.root)
    except DataError:
        if is_alone:
            raise
        return [path]


def _folder_segments(root: Path) -> list[str | VideoSegment]:
    """Return the rows of a folder's index file, if it has segments; labels and splits play no part here."""
    file = next((root / name for name in INDEX_FILES if (root / name).is_file()), None)
    if file is None:
        return []
    try:
        columns, _ = read_index_columns(file, root=root)
    except DataError:  # an index that cannot be read names no segments: all videos of the folder are taken
        return []
    if not (columns.start or columns.end):
        return []
    index = build_index(replace(columns, label=""), paths=IndexPathResolver(root), split=None, kind=SINGLE_LABEL)
    return _index_videos(index, root=root)


def _index_videos(index: VideoIndex, *, root: Path) -> list[str | VideoSegment]:
    """Return the videos and segments of an index file, all of which have to be there."""
    found: list[str | VideoSegment] = []
    for entry in check_index(index, root=root).entries:
        file = os.path.normpath(root / entry.path)
        is_whole = entry.start is None and entry.end is None
        found.append(file if is_whole else VideoSegment(file, start=entry.start or 0.0, end=entry.end))
    return found


def log_remote_host(video: str | os.PathLike[str]) -> None:
    """Say once for each server that videos are read from there: the caller may have got the address from others."""
    url = os.fsdecode(video)
    if "://" not in url or url.startswith("file://"):
        return
    scheme, _, place = redact_url(url).partition("://")
    server = f"{scheme}://{'/'.join(place.split('/')[: 3 if scheme.lower() == 'hf' else 1])}"
    if server not in _logged_hosts:
        _logged_hosts.add(server)
        logger.warning("videos are read from %s, as asked for; pass no address that a stranger chose", server)


def display_name(video: str | os.PathLike[str] | VideoSegment) -> str:
    """Return what results call a video: its path, or its URL without credentials; `PATH@START-END` of a segment."""
    if isinstance(video, VideoSegment):
        place = display_name(video.video) if isinstance(video.video, (str, os.PathLike)) else "<video>"
        return segment_id(place, start=video.start, end=video.end)
    return escape_non_utf8(redact_credentials(os.fsdecode(video)))


def load_classifier(model: Model) -> PreTrainedModel:
    """A classifier by name or as it is.

    Raises:
        ValueError: for a checkpoint without a classifier: a fresh one would answer at random.
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
    fresh = sorted(info["missing_keys"])
    if fresh:
        raise ValueError(f"{model} lacks {', '.join(fresh)}: a fresh classifier would answer at random; fine-tune it")
    classifier: PreTrainedModel = loaded.eval()
    return classifier


def load_encoder(model: Model) -> PreTrainedModel:
    """Any VideoMAE by name or as it is: a classifier where the checkpoint holds one, else the bare encoder."""
    if isinstance(model, PreTrainedModel):
        return model
    kind = VideoMAEModel if is_headless_checkpoint(model) else VideoMAEForVideoClassification
    loaded: PreTrainedModel = kind.from_pretrained(model).eval()
    return loaded


def load_pretrained(model: str | os.PathLike[str]) -> VideoMAEForPreTraining:
    """A pre-training model by name.

    Raises:
        ValueError: for a checkpoint without a decoder: a fresh one would paint at random.
    """
    is_headless_checkpoint(model)
    kinds = read_architectures(model, {})
    if kinds and not any("PreTraining" in kind for kind in kinds):
        raise ValueError(
            f"{model} holds no decoder (it is a {kinds[0]}), so it cannot reconstruct; give a pre-trained checkpoint, "
            f"such as the one that it was fine-tuned from"
        )
    loaded: VideoMAEForPreTraining = VideoMAEForPreTraining.from_pretrained(model)
    return loaded


def is_headless_checkpoint(model: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint says that it holds none; the first look at it, so a wrong name shows here."""
    check_utf8(os.fsdecode(model), name="the model")
    if os.path.isdir(model) and not os.path.isfile(os.path.join(model, "config.json")):
        raise ValueError(f"the folder {model} holds no config.json, so no model; give one that save_pretrained wrote")
    try:
        if not os.path.isdir(model) and is_hub_id(os.fsdecode(model)):
            download_model(os.fsdecode(model))
        return is_saved_without_classifier(model, {})
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{model} is no folder here with a config.json, and the Hub does not give it ({reason}); check the name"
        ) from error


def resolve_device(device: str | torch.device | None) -> torch.device | None:
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


def load_processor(model: Model, network: PreTrainedModel) -> VideoMAEVideoProcessor:
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
    return VideoMAEVideoProcessor.from_config(as_videomae_config(network.config))


def as_videomae_config(config: Any) -> VideoMAEConfig:
    """The configuration of a model of this package or of stock transformers, with our fields.

    Raises:
        ValueError: for the configuration of another kind of model.
    """
    if isinstance(config, VideoMAEConfig):
        return config
    ours: VideoMAEConfig = VideoMAEConfig.from_dict(config.to_dict())
    return ours


def get_problem_type(config: Any) -> LabelKind:
    """What the outputs of a classifier are, as its configuration says.

    Where it says nothing a single output is a number, as for the loss of transformers, and several are classes.
    """
    if config.problem_type is None:
        return "regression" if len(config.id2label) == 1 else SINGLE_LABEL
    kind: LabelKind = config.problem_type
    return kind
