"""Find how frames of published datasets are sampled, by a model's name or its classes.

Something-Something is trained and tested on frames spread over the whole video, every other published set on dense
clips. A model that is tested the other way loses one to several points, and no error says so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SamplingProtocol:
    """How clips of a dataset are sampled.

    Attributes:
        name: name of the dataset.
        mode: `uniform` over the whole video, or `dense`.
        stride: distance of frames in dense clips.
        views: views in the test, clips x crops.
    """

    name: str
    mode: Literal["dense", "uniform"]
    stride: int
    views: str


SSV2 = SamplingProtocol("Something-Something", "uniform", 4, "2x3")
KINETICS = SamplingProtocol("Kinetics", "dense", 4, "5x3")
UCF101 = SamplingProtocol("UCF101", "dense", 4, "5x3")
HMDB51 = SamplingProtocol("HMDB51", "dense", 2, "10x3")
PROTOCOL_BY_NUM_CLASSES = {
    174: SSV2,
    400: KINETICS,
    600: KINETICS,
    700: KINETICS,
    710: KINETICS,
    101: UCF101,
    51: HMDB51,
}
"""Numbers of classes that belong to one published dataset alone."""

_NAME_PATTERNS = (
    (SSV2, r"ss-?v-?[12]|sth-?sth(-?v-?[12])?|sth-?v-?[12]|something(-?something)?(-?v-?[12])?"),
    (KINETICS, r"kinetics(-?(400|600|700|710))?|k(400|600|700|710)"),
    (UCF101, r"ucf-?101"),
    (HMDB51, r"hmdb-?51"),
)
# Classes that only this published set has together, without case, spaces and punctuation.
_TYPICAL_CLASSES = (
    (KINETICS, {"abseiling", "zumba"}),
    (UCF101, {"applyeyemakeup", "yoyo"}),
    (HMDB51, {"brushhair", "flicflac"}),
)
_MIN_TEMPLATE_SHARE = 0.5  # share of the class names that say "something" or "somewhere"


def find_sampling_protocol(name: str, class_names: Sequence[str] = ()) -> SamplingProtocol | None:
    """Return how a model's data are sampled; None if neither its classes nor its name tell.

    Args:
        name: the model's Hub id, or its folder, of which the last part counts.
        class_names: the classes of its classifier; they win over the name, which may name several sets.
    """
    by_classes = _find_by_class_names(class_names)
    if by_classes is not None:
        return by_classes
    plain = re.sub(r"[\W_]+", "-", name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].casefold())
    named = [known for known, pattern in _NAME_PATTERNS if re.search(rf"(?<![a-z0-9])({pattern})(?![a-z0-9])", plain)]
    return named[0] if len(named) == 1 else None


def _find_by_class_names(class_names: Sequence[str]) -> SamplingProtocol | None:
    lowered = [name.casefold() for name in class_names]
    templates = [name for name in lowered if re.search(r"\bsome(thing|where)\b", name.replace("_", " "))]
    if len(templates) > 1 and len(templates) >= _MIN_TEMPLATE_SHARE * len(lowered):
        return SSV2
    plain = {re.sub(r"[\W_]+", "", name) for name in lowered}
    return next((known for known, classes in _TYPICAL_CLASSES if classes <= plain), None)
