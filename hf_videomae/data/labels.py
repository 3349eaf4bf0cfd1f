"""Parse labels (one class, several classes or a number per video) and encode them into the tensor of a batch.

Shapes: B clips, K classes.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import DataError
from .source import Label, Sample
from .tables import parse_number

# The names of transformers' `problem_type`.
LabelKind = Literal["single_label_classification", "multi_label_classification", "regression"]
SINGLE_LABEL: LabelKind = "single_label_classification"
LABEL_SEPARATOR = "|"
# How pandas, R, SQL, JSON and spreadsheets write a missing value, in lower case.
MISSING_VALUES = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nil"))

# Python refuses to parse numbers with many more digits.
_MAX_DIGITS = 1000


def parse_labels(
    texts: Sequence[str], *, kind: LabelKind, ids: Sequence[str], name: str
) -> tuple[list[str] | None, list[Label]]:
    """Parse labels from an index file or from folder names.

    Args:
        texts: of each video: a class, classes separated by `|`, or a number.
        kind: which of the three.
        ids: of the videos, for errors.
        name: of the dataset, for errors.

    Returns:
        class names (numbers in their order, other names sorted; None for regression), and labels.

    Raises:
        DataError: for a label that is not a finite number, in a regression.
    """
    if kind == "regression":
        return None, [_parse_number(text, id=id, name=name) for text, id in zip(texts, ids, strict=True)]
    split_texts = [
        [part.strip() for part in text.split(LABEL_SEPARATOR)] if kind != SINGLE_LABEL else [text] for text in texts
    ]
    names = sorted({part for parts in split_texts for part in parts if part}, key=_class_sort_key)
    number = {part: index for index, part in enumerate(names)}
    if kind == SINGLE_LABEL:
        return names, [number[text] for text in texts]
    return names, [tuple(sorted({number[part] for part in parts if part})) for parts in split_texts]


def note_similar_class_names(class_names: Sequence[str] | None, *, name: str) -> list[str]:
    """Return a note on classes whose names differ only in case, blanks or the spelling of accents."""
    spellings: dict[str, list[str]] = {}
    for known in class_names or ():
        plain = unicodedata.normalize("NFKC", known).casefold()
        plain = plain.lstrip("0") if plain.isdecimal() else re.sub(r"[\s_-]+", " ", plain).strip()
        spellings.setdefault(plain, []).append(known)
    similar = [names for names in spellings.values() if len(names) > 1]
    if not similar:
        return []
    shown = " and ".join(ascii(known) for known in similar[0])
    return [
        f"{name}: {len(similar)} classes are spelled in several ways and are taken for different classes, such as "
        f"{shown}; if they are one class, give it one name"
    ]


def _class_sort_key(name: str) -> tuple[bool, int, str]:
    """Return a sort key that puts numbers first, in the order of numbers: 10 comes after 9."""
    is_number = name.isdecimal() and len(name) <= _MAX_DIGITS
    return not is_number, int(name) if is_number else 0, name


def _parse_number(text: str, *, id: str, name: str) -> float:
    value = parse_number(text)
    if value is None:
        raise DataError(
            f"{name}: the label of {id} is {text!r}, but regression wants a finite number for every video; fix it, "
            f"or leave --problem_type out to train on classes"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class LabelEncoder:
    """Encode the labels of a batch as a tensor; every sample must have one.

    Args:
        kind: of the labels.
        num_classes: K; for regression, the numbers that each video has.
    """

    kind: LabelKind = SINGLE_LABEL
    num_classes: int = 1

    def encode(self, samples: Sequence[Sample]) -> Tensor:
        """Return (B,) class numbers, (B, K) zeros and ones, or (B,) numbers ((B, K) if K is above 1).

        Raises:
            DataError: for a label that is missing, of another kind or out of range, with the id of its sample.
        """
        for sample in samples:
            label_error = self.label_error(sample.label)
            if label_error is not None:
                raise DataError(f"{sample.id} {label_error}; fix its label or remove it")
        return self.encode_valid([sample.label for sample in samples if sample.label is not None])

    def encode_valid(self, labels: Sequence[Label]) -> Tensor:
        """Return the same from labels without a `label_error`."""
        if self.kind == "regression":
            return torch.tensor(labels, dtype=torch.float32)
        if self.kind == SINGLE_LABEL:
            return torch.tensor(labels)
        targets = torch.zeros(len(labels), self.num_classes)
        for row, label in zip(targets, labels, strict=True):
            row[list(label)] = 1  # type: ignore[arg-type]
        return targets

    def label_error(self, label: Label | None) -> str | None:
        """Return what is wrong with a label, to follow the name of its video; None for a valid label."""
        if label is None:
            return "has no label"
        if self.kind == "regression":
            return self._find_number_error(label)
        classes = label if isinstance(label, tuple) else (label,)
        whole = all(isinstance(number, int) for number in classes)
        if not whole or isinstance(label, tuple) == (self.kind == SINGLE_LABEL):
            wanted = "one class number" if self.kind == SINGLE_LABEL else "class numbers"
            return f"has the label {label!r}, but {wanted} of 0 to {self.num_classes - 1} is wanted"
        if not all(0 <= number < self.num_classes for number in classes):
            return f"has the label {label!r}, but the classes are 0 to {self.num_classes - 1}"
        return None

    def _find_number_error(self, label: Label) -> str | None:
        numbers = label if isinstance(label, tuple) else (label,)
        finite = all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)
        if finite and len(numbers) == self.num_classes and isinstance(label, tuple) == (self.num_classes > 1):
            return None
        wanted = "a finite number" if self.num_classes == 1 else f"{self.num_classes} finite numbers"
        return f"has the label {label!r}, but regression wants {wanted}"
