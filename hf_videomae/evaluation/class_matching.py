"""Match the classes of a dataset to those of a model by name: their order may differ."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal

from ..errors import DataError
from ..ops.class_names import format_names, has_placeholder_names, normalize_class_name

MatchBy = Literal["name", "index"]


class ClassMismatchError(DataError):
    """The classes of a dataset do not fit those of a model; the message names them."""


def match_classes(class_names: Sequence[str], id2label: Mapping[int, str], *, matching: MatchBy = "name") -> list[int]:
    """Return the model's class index of each class of a dataset.

    Names are compared without case, spaces and punctuation: `Playing_Guitar` is `playing guitar`. The model may have
    more classes than the dataset: any of them may then be its (wrong) answer.

    Args:
        class_names: the dataset's classes, in order.
        id2label: from the model's configuration.
        matching: `name`; or `index`: class i is class i, for a checkpoint without names (`LABEL_0`, ...), whose
            dataset must have as many classes in the same order.

    Raises:
        ClassMismatchError: if a class has no counterpart, or two have the same.
    """
    names = [id2label[index] for index in sorted(id2label)]
    if matching == "index":
        if len(class_names) != len(names):
            raise ClassMismatchError(
                f"the dataset has {len(class_names)} classes and the model {len(names)}: matched by index they must "
                f"be equally many, in the same order"
            )
        return list(range(len(names)))
    if has_placeholder_names(names):
        raise ClassMismatchError(
            f"the model's classes have no names (LABEL_0 to LABEL_{len(names) - 1}), so they cannot be matched with "
            f"the dataset's ({format_names(class_names)}): put names into id2label of its config.json, or match them "
            f"by their order (--match_labels index) if you know that it is the same"
        )
    indices = _index_by_name(names, owner="model")
    _index_by_name(class_names, owner="dataset")
    missing = [name for name in class_names if normalize_class_name(name) not in indices]
    if missing:
        close = difflib.get_close_matches(normalize_class_name(missing[0]), indices, n=1, cutoff=0.6)
        nearest = f"; the nearest to {missing[0]!r} is {names[indices[close[0]]]!r}" if close else ""
        raise ClassMismatchError(
            f"{len(missing)} of the {len(class_names)} classes of the dataset are unknown to the model: "
            f"{format_names(missing)}{nearest}. The model knows {len(names)}: {format_names(names)}. Rename the "
            f"dataset's classes, or evaluate a model that was fine-tuned on them"
        )
    return [indices[normalize_class_name(name)] for name in class_names]


def _index_by_name(names: Sequence[str], *, owner: str) -> dict[str, int]:
    """Return the index of each class by its normalized name, which must be unique."""
    indices = {normalize_class_name(name): index for index, name in enumerate(names)}
    if len(indices) != len(names):
        plain = [normalize_class_name(name) for name in names]
        duplicates = [name for name, key in zip(names, plain, strict=True) if plain.count(key) > 1]
        raise ClassMismatchError(
            f"the {owner} has classes that differ only in case or punctuation: {format_names(duplicates)}"
        )
    return indices
