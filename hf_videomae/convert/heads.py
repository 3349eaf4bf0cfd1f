"""A classifier cut to the classes of another label set: V2's K710 heads to Kinetics 400, 600 or 700.

VideoMAE V2 publishes the lists in its repository (misc/label_710to400.json, ...600.json, ...700.json): entry j is the
row of the 710 classes that class j of the smaller set is. No training is needed.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..modeling_videomae import VideoMAEForVideoClassification
from .originals import Converted
from .report import Report


def read_indices(path: str) -> list[int]:
    """A list of class indices.

    Raises:
        ValueError: where the file is not a JSON list of whole numbers.
    """
    found = _read_json(path)
    if not isinstance(found, list) or not found or not all(type(entry) is int for entry in found):
        raise ValueError(f"{path} is not a JSON list of class indices, such as [0, 3, 1]")
    return found


def read_names(path: str) -> dict[int, str]:
    """Names of classes: a JSON list, a JSON object id -> name, or a text file with one name a line.

    Raises:
        ValueError: where it is none of these.
    """
    if Path(path).suffix != ".json":
        lines = _read_text(path).splitlines()
        return {number: line.strip() for number, line in enumerate(line for line in lines if line.strip())}
    found = _read_json(path)
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return dict(enumerate(found))
    if isinstance(found, dict) and all(key.isdecimal() and isinstance(name, str) for key, name in found.items()):
        return {int(key): name for key, name in found.items()}
    raise ValueError(f'{path} is neither a JSON list of names nor an object such as {{"0": "boxing"}}')


def pick_classes(model: Converted, indices: list[int], report: Report) -> None:
    """Keep these rows of the classifier, in this order; names follow.

    Args:
        model: changed in place.
        indices: entry j is the present class that becomes class j.
        report: told of it.

    Raises:
        ValueError: for a model without a classifier, or an index that is no class of it.
    """
    head = model.classifier if isinstance(model, VideoMAEForVideoClassification) else None
    if not isinstance(head, nn.Linear) or not isinstance(model, VideoMAEForVideoClassification):
        raise ValueError(f"{report.source} has no classifier, so there are no classes to pick: leave the indices out")
    wrong = [index for index in indices if not 0 <= index < head.out_features]
    if wrong:
        raise ValueError(
            f"the indices hold {wrong[0]}, but {report.source} has the classes 0 to {head.out_features - 1}"
        )
    picked = nn.Linear(head.in_features, len(indices), dtype=head.weight.dtype)
    with torch.no_grad():
        picked.weight.copy_(head.weight[indices])
        picked.bias.copy_(head.bias[indices])
    names = dict(model.config.id2label)
    report.assumed.append(f"{len(indices)} of {head.out_features} classes were picked by the given indices")
    model.classifier, model.num_labels = picked, len(indices)
    name_classes(model, _following(names, indices), report)


def name_classes(model: Converted, names: dict[int, str], report: Report) -> None:
    """Give the classes of the classifier their names.

    Raises:
        ValueError: where names and classes differ in number.
    """
    count = model.num_labels if isinstance(model, VideoMAEForVideoClassification) else 0
    if sorted(names) != list(range(count)):
        raise ValueError(f"{len(names)} names of classes came, and {report.source} has {count} classes")
    model.config.id2label = names
    model.config.label2id = {name: number for number, name in names.items()}


def _following(names: dict[int, str], indices: list[int]) -> dict[int, str]:
    """The names of the picked classes; numbered anew where the classes had numbers alone."""
    if all(name == f"LABEL_{number}" for number, name in names.items()):
        return {number: f"LABEL_{number}" for number in range(len(indices))}
    return {number: names[index] for number, index in enumerate(indices)}


def _read_json(path: str) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text ({error})") from error


__all__ = ["name_classes", "pick_classes", "read_indices", "read_names"]
