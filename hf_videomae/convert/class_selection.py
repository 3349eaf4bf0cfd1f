"""Select classes of a classifier, without training: Kinetics-710 heads become those of Kinetics-400, 600 or 700.

Rows are found by class name, whatever their order. VideoMAE V2's own checkpoints have no names. Its repository has
them (misc/label_map_k710.txt), and lists of rows in its own order (misc/label_710to400.json, ...600.json,
...700.json: entry j is the row of the 710 classes for class j of the smaller dataset).
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..modeling_videomae import VideoMAEForVideoClassification
from ..ops.class_names import find_class_rows, normalize_class_name
from .key_report import ConversionReport
from .originals import ConvertedModel


def read_class_indices(path: str) -> list[int]:
    """Return the class indices in a JSON file.

    Raises:
        ValueError: if the file is not a JSON list of whole numbers.
    """
    indices = _read_json(path)
    if not isinstance(indices, list) or not indices or not all(type(entry) is int for entry in indices):
        raise ValueError(f"{path} is not a JSON list of class indices, such as [0, 3, 1]")
    return indices


def read_class_names(path: str) -> dict[int, str]:
    """Return the class names in a JSON list, a JSON object id -> name, or a text file with one name per line.

    Raises:
        ValueError: if it is none of these.
    """
    if Path(path).suffix != ".json":
        lines = _read_text(path).splitlines()
        return {number: line.strip() for number, line in enumerate(line for line in lines if line.strip())}
    names = _read_json(path)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return dict(enumerate(names))
    if isinstance(names, dict) and all(key.isdecimal() and isinstance(name, str) for key, name in names.items()):
        return {int(key): name for key, name in names.items()}
    raise ValueError(f'{path} is neither a JSON list of names nor an object such as {{"0": "boxing"}}')


def select_classes(
    model: ConvertedModel,
    report: ConversionReport,
    *,
    indices: list[int] | None,
    id2label: dict[int, str] | None,
    names: list[str] | None,
) -> None:
    """Select classes by index, then set the class names, then select by name; None leaves a step out.

    Raises:
        ValueError: for a model without a classifier, or classes that it does not have.
    """
    if indices is not None:
        _select_by_index(model, indices, report)
    if id2label is not None:
        _set_class_names(model, id2label, report)
    if names is not None:
        _select_by_name(model, names, report)


def _select_by_index(model: ConvertedModel, indices: list[int], report: ConversionReport) -> None:
    """Keep these rows of the classifier, with their names: entry j is the current class that becomes class j."""
    classifier = _require_classifier(model, report)
    count = classifier.num_labels
    wrong = [index for index in indices if not 0 <= index < count]
    if wrong:
        raise ValueError(f"the indices hold {wrong[0]}, but {report.source} has the classes 0 to {count - 1}")
    names = dict(classifier.config.id2label or {})
    report.assumed.append(f"{len(indices)} of {count} classes were selected by index")
    select_classifier_rows(classifier, indices, _remaining_names(names, indices))


def _select_by_name(model: ConvertedModel, names: list[str], report: ConversionReport) -> None:
    """Keep the rows of the classifier that belong to these classes, in this order and with these names."""
    classifier = _require_classifier(model, report)
    known = [str(name) for name in (classifier.config.id2label or {}).values()]
    rows = find_class_rows(names, known, owner=report.source)
    renamed = [
        f"{name!r} is {known[row]!r}"
        for name, row in zip(names, rows, strict=True)
        if normalize_class_name(name) != normalize_class_name(known[row])
    ]
    note = f" ({'; '.join(renamed)})" if renamed else ""
    report.assumed.append(f"{len(names)} of {len(known)} classes were selected by name{note}")
    select_classifier_rows(classifier, rows, dict(enumerate(names)))


def select_classifier_rows(model: VideoMAEForVideoClassification, rows: list[int], names: dict[int, str]) -> None:
    """Keep these rows of a classifier, in this order, as the classes of these names."""
    head = model.classifier
    assert isinstance(head, nn.Linear)
    selected = nn.Linear(head.in_features, len(rows), dtype=head.weight.dtype, device=head.weight.device)
    with torch.no_grad():
        selected.weight.copy_(head.weight[rows])
        selected.bias.copy_(head.bias[rows])
    model.classifier, model.num_labels = selected, len(rows)
    model.config.id2label = names


def _require_classifier(model: ConvertedModel, report: ConversionReport) -> VideoMAEForVideoClassification:
    if not isinstance(model, VideoMAEForVideoClassification) or not isinstance(model.classifier, nn.Linear):
        raise ValueError(f"{report.source} has no classifier, so there are no classes to select: leave the option out")
    return model


def _set_class_names(model: ConvertedModel, names: dict[int, str], report: ConversionReport) -> None:
    count = model.num_labels if isinstance(model, VideoMAEForVideoClassification) else 0
    if sorted(names) != list(range(count)):
        raise ValueError(f"{len(names)} class names were given, and {report.source} has {count} classes")
    model.config.id2label = names


def _remaining_names(names: dict[int, str], indices: list[int]) -> dict[int, str]:
    """Return the names of the selected classes; placeholders LABEL_n are renumbered."""
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
