"""Check whether a model's processor samples clips in the way its dataset is tested."""

import re
from typing import Any

from ..video.sampling import ClipSampler
from ..video.sampling_protocols import PROTOCOL_BY_NUM_CLASSES, SamplingProtocol, find_sampling_protocol


def find_sampling_mismatches(name: str, config: Any, sampler: ClipSampler) -> list[str]:
    """Return a line of warning if a model's dataset is tested with another sampling than its processor's.

    Args:
        name: the model's Hub id or folder.
        config: the model's configuration, whose class names tell most.
        sampler: how its processor samples.
    """
    class_names = list((config.id2label or {}).values())
    protocol = find_sampling_protocol(name, class_names) or _protocol_by_num_classes(class_names)
    if protocol is None or protocol.mode == sampler.mode:
        return []
    frames = {"uniform": "spread over the whole video", "dense": "close to each other"}
    return [
        f"{name} looks like a model of {protocol.name}, which is tested on {protocol.mode} clips (frames "
        f"{frames[protocol.mode]}), but its processor samples {sampler.mode} clips: unless it was trained that way, "
        f"test it with --sampling {protocol.mode} --views {protocol.views}"
    ]


def _protocol_by_num_classes(class_names: list[str]) -> SamplingProtocol | None:
    """Return the protocol of the dataset with this many classes, if the classes have no names."""
    nameless = all(re.fullmatch(r"LABEL_\d+", label) for label in class_names)
    return PROTOCOL_BY_NUM_CLASSES.get(len(class_names)) if nameless else None
