"""The classes of a data set among those of a model: by name, never by chance of order."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal

from ..data.samples import DataError
from ..ops.class_names import are_nameless, listed, plain_name

Matching = Literal["name", "index"]


class LabelError(DataError):
    """The classes of a data set do not fit those of a model; the message names them."""


def match_classes(
    class_names: Sequence[str], id2label: Mapping[int, str], *, matching: Matching = "name"
) -> list[int]:
    """The model's class number of each class of a data set.

    Names are compared without case, spaces and punctuation: `Playing_Guitar` is `playing guitar`. The model may have
    more classes than the data set: it may then answer wrongly with any of them.

    Args:
        class_names: of the data set, in its order.
        id2label: of the model's configuration.
        matching: `name`; or `index`: class i is class i, for a checkpoint without names (`LABEL_0`, ...), whose data
            must have as many classes in the same order.

    Raises:
        LabelError: when a class has no counterpart, or two have the same.
    """
    names = [id2label[number] for number in sorted(id2label)]
    if matching == "index":
        if len(class_names) != len(names):
            raise LabelError(
                f"the data set has {len(class_names)} classes and the model {len(names)}: matched by index they must "
                f"be equally many, in the same order"
            )
        return list(range(len(names)))
    if are_nameless(names):
        raise LabelError(
            f"the model's classes have no names (LABEL_0 to LABEL_{len(names) - 1}), so they cannot be matched with "
            f"the data set's ({listed(class_names)}): put names into id2label of its config.json, or match them by "
            f"their order (--match_labels index) where you know that it is the same"
        )
    numbers = _unique({plain_name(name): number for number, name in enumerate(names)}, names, owner="model")
    _unique({plain_name(name): number for number, name in enumerate(class_names)}, class_names, owner="data set")
    missing = [name for name in class_names if plain_name(name) not in numbers]
    if missing:
        close = difflib.get_close_matches(plain_name(missing[0]), numbers, n=1, cutoff=0.6)
        nearest = f"; the nearest to {missing[0]!r} is {names[numbers[close[0]]]!r}" if close else ""
        raise LabelError(
            f"{len(missing)} of the {len(class_names)} classes of the data set are unknown to the model: "
            f"{listed(missing)}{nearest}. The model knows {len(names)}: {listed(names)}. Rename the data set's "
            f"classes, or evaluate a model that was fine-tuned on them"
        )
    return [numbers[plain_name(name)] for name in class_names]


def _unique(numbers: dict[str, int], names: Sequence[str], *, owner: str) -> dict[str, int]:
    if len(numbers) != len(names):
        plain = [plain_name(name) for name in names]
        doubled = [name for name, key in zip(names, plain, strict=True) if plain.count(key) > 1]
        raise LabelError(f"the {owner} has classes that differ in case or punctuation alone: {listed(doubled)}")
    return numbers
