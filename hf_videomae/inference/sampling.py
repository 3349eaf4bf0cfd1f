"""Whether a model is given clips that are sampled as its data call for."""

import re
from typing import Any

from ..video.protocols import BY_NUMBER, Protocol, protocol_of
from ..video.sampling import ClipPlan


def sampling_doubts(name: str, config: Any, plan: ClipPlan) -> list[str]:
    """Return a line where a model's data call for another sampling than its processor has.

    Args:
        name: of the model: a Hub id or a folder.
        config: of the model, whose class names tell most.
        plan: how its processor samples.
    """
    class_names = list((config.id2label or {}).values())
    protocol = protocol_of(name, class_names) or _by_number(class_names)
    if protocol is None or protocol.mode == plan.mode:
        return []
    frames = {"uniform": "spread over the whole video", "dense": "close to each other"}
    return [
        f"{name} looks like a model of {protocol.name}, which is tested on {protocol.mode} clips (frames "
        f"{frames[protocol.mode]}), and its processor says {plan.mode}: unless it was trained so, test it with "
        f"--sampling {protocol.mode} --views {protocol.views}"
    ]


def _by_number(class_names: list[str]) -> Protocol | None:
    """Return the set that has so many classes, where they have no names."""
    nameless = all(re.fullmatch(r"LABEL_\d+", label) for label in class_names)
    return BY_NUMBER.get(len(class_names)) if nameless else None


__all__ = ["sampling_doubts"]
