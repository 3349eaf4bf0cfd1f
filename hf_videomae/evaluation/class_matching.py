"""The classes of a data set among those of a model: by name, never by chance of order."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal

from ..errors import DataError
from ..ops.class_names import format_names, has_placeholder_names, normalize_class_name

MatchBy = Literal["name", "index"]


class ClassMismatchError(DataError):
    """The classes of a data set do not fit those of a model; the message names them."""


def match_classes(class_names: Sequence[str], id2label: Mapping[int, str], *, matching: MatchBy = "name") -> list[int]:
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
            raise ClassMismatchError(
                f"the data set has {len(class_names)} classes and the model {len(names)}: matched by index they must "
                f"be equally many, in the same order"
            )
        return list(range(len(names)))
    if has_placeholder_names(names):
        raise ClassMismatchError(
            f"the model's classes have no names (LABEL_0 to LABEL_{len(names) - 1}), so they cannot be matched with "
            f"the data set's ({format_names(class_names)}): put names into id2label of its config.json, or match them by "
            f"their order (--match_labels index) where you know that it is the same"
        )
    numbers = _check_unique(
        {normalize_class_name(name): number for number, name in enumerate(names)}, names, owner="model"
    )
    _check_unique(
        {normalize_class_name(name): number for number, name in enumerate(class_names)}, class_names, owner="data set"
    )
    missing = [name for name in class_names if normalize_class_name(name) not in numbers]
    if missing:
        close = difflib.get_close_matches(normalize_class_name(missing[0]), numbers, n=1, cutoff=0.6)
        nearest = f"; the nearest to {missing[0]!r} is {names[numbers[close[0]]]!r}" if close else ""
        raise ClassMismatchError(
            f"{len(missing)} of the {len(class_names)} classes of the data set are unknown to the model: "
            f"{format_names(missing)}{nearest}. The model knows {len(names)}: {format_names(names)}. Rename the data set's "
            f"classes, or evaluate a model that was fine-tuned on them"
        )
    return [numbers[normalize_class_name(name)] for name in class_names]


def _check_unique(numbers: dict[str, int], names: Sequence[str], *, owner: str) -> dict[str, int]:
    if len(numbers) != len(names):
        plain = [normalize_class_name(name) for name in names]
        duplicates = [name for name, key in zip(names, plain, strict=True) if plain.count(key) > 1]
        raise ClassMismatchError(
            f"the {owner} has classes that differ in case or punctuation alone: {format_names(duplicates)}"
        )
    return numbers
