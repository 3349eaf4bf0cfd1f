"""Whether a model is given clips that are sampled as its data call for."""

import re
from typing import Any

from ..video.sampling import ClipSampler
from ..video.sampling_protocols import PROTOCOL_BY_NUM_CLASSES, SamplingProtocol, find_sampling_protocol


def find_sampling_mismatches(name: str, config: Any, plan: ClipSampler) -> list[str]:
    """Return a line where a model's data call for another sampling than its processor has.

    Args:
        name: of the model: a Hub id or a folder.
        config: of the model, whose class names tell most.
        plan: how its processor samples.
    """
    class_names = list((config.id2label or {}).values())
    protocol = find_sampling_protocol(name, class_names) or _protocol_by_num_classes(class_names)
    if protocol is None or protocol.mode == plan.mode:
        return []
    frames = {"uniform": "spread over the whole video", "dense": "close to each other"}
    return [
        f"{name} looks like a model of {protocol.name}, which is tested on {protocol.mode} clips (frames "
        f"{frames[protocol.mode]}), and its processor says {plan.mode}: unless it was trained so, test it with "
        f"--sampling {protocol.mode} --views {protocol.views}"
    ]


def _protocol_by_num_classes(class_names: list[str]) -> SamplingProtocol | None:
    """Return the set that has so many classes, where they have no names."""
    nameless = all(re.fullmatch(r"LABEL_\d+", label) for label in class_names)
    return PROTOCOL_BY_NUM_CLASSES.get(len(class_names)) if nameless else None


__all__ = ["find_sampling_mismatches"]
