"""Find the classes of plain label columns (text, whole numbers, bools or floats) in their values.

A column of type `ClassLabel` lists its classes. Any other column is read completely when the dataset is opened,
without the videos: Parquet stores columns separately, and a local tar file is read from header to header. So all
processes have the same classes in the same order, that of class folders (`parse_labels`).
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from .label_parsing import parse_label_cells
from .labels import LABEL_SEPARATOR, MISSING_VALUES, SINGLE_LABEL, LabelKind, note_similar_class_names, parse_labels
from .source import Label

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "label_name", "category")
"""Plain columns that are taken for labels, and keys of the JSON of a WebDataset; the first one present is used."""
LABEL_MEMBERS = ("cls", "label", "class", "label.txt", "class.txt", "json", "txt")
"""Members of a WebDataset that are taken for labels."""
MULTI_LABEL: LabelKind = "multi_label_classification"
# If most texts are different, they are captions. Fewer rows say nothing.
_MIN_ROWS_TO_JUDGE, _MAX_DISTINCT_SHARE = 10, 0.5
_REMEDY = "label all of them, or remove those rows"


@dataclass
class ColumnLabels:
    """The labels of a plain column.

    Attributes:
        column: its name.
        kind: what the labels mean.
        name: of the dataset, for errors.
        ids: for each text in the column, the first sample that has it.
        class_names: None for regression.
        has_lists: whether its values are lists; their names may hold any character but the separator.
        notes: how the values were read, for the user.
    """

    column: str
    kind: LabelKind
    name: str
    ids: dict[str, str] = field(default_factory=dict)
    class_names: list[str] | None = None
    has_lists: bool = False
    notes: list[str] = field(default_factory=list)
    _numbers: dict[str, Label] = field(default_factory=dict)

    def read(self, values: Iterable[tuple[str, Any]], *, require: bool, is_named: bool) -> None:
        """Find the classes in all values of the column.

        Args:
            values: (sample id, value) of every sample.
            require: raise `DataError` if labels are missing.
            is_named: whether the user named the column, so that its texts are not captions.

        Raises:
            DataError: for missing labels if they are required, and for labels that are not classes.
        """
        total, missing = 0, list[str]()
        for id, value in values:
            total += 1
            text = self.text(value, id=id)
            if text is None:
                missing.append(id)
            else:
                self.ids.setdefault(text, id)
        self._check_minus_one()
        if require and missing and self.ids:
            raise DataError(
                f"{self.name}: {len(missing)} of {total} rows have no {self.column!r}, the first is {missing[0]}; "
                f"{_REMEDY}"
            )
        num_distinct = len(self.ids)
        if is_named and not num_distinct:
            raise DataError(f"{self.name}: {self.column!r} is empty in all of {total} rows; name another column")
        if (
            not is_named
            and total >= _MIN_ROWS_TO_JUDGE
            and num_distinct > _MAX_DISTINCT_SHARE * total
            and self.kind == SINGLE_LABEL
        ):
            raise DataError(
                f"{self.name}: {self.column!r} holds {num_distinct} different texts in {total} rows, more like "
                f"captions than classes; --label_column {self.column} takes them as classes, --label_column OTHER "
                f"names others"
            )
        self.find_classes()

    def find_classes(self) -> None:
        """Number the classes of all known texts.

        Raises:
            DataError: for a text that reads as several classes if one is wanted, or in two ways.
        """
        texts, ids, self.notes = list(self.ids), list(self.ids.values()), []
        if self.kind != "regression" and not self.has_lists:
            source = f"{self.name} ({self.column})"
            texts, self.notes = parse_label_cells(texts, all_cells=texts, kind=self.kind, file=source, ids=ids)
        names, labels = parse_labels(texts, kind=self.kind, ids=ids, name=self.name)
        self.class_names = names
        self.notes += note_similar_class_names(names, name=self.name)
        self._numbers = dict(zip(self.ids, labels, strict=True))

    def label(self, value: Any, *, id: str) -> Label | None:
        """Return the label of one sample; None if it has none.

        Raises:
            DataError: for a value that was not in the column when it was read, or that is not a number.
        """
        text = self.text(value, id=id)
        if text is None:
            return None
        if self.kind == "regression":
            return parse_labels([text], kind=self.kind, ids=[id], name=self.name)[1][0]
        if text not in self._numbers:
            raise DataError(f"{self.name} has changed: the {self.column!r} {text!r} of {id} is new; start again")
        return self._numbers[text]

    def text(self, value: Any, *, id: str) -> str | None:
        """Return a value of the column as an index file would write it; None for a missing value.

        Raises:
            DataError: for a value that is not a label.
        """
        column, _, key = self.column.partition(".")
        if column == "json" and isinstance(value, (str, dict)):
            value = _label_from_json(value, key=key, id=id, name=self.name)
        if isinstance(value, (list, tuple)):
            self.has_lists = True
            texts = [self._text(part, id=id) for part in value]
            if self.kind == SINGLE_LABEL and len(texts) > 1:
                raise self._label_error(value, id, "several labels; give --problem_type multi_label_classification")
            if any(LABEL_SEPARATOR in (text or "") for text in texts):
                raise self._label_error(
                    value, id, f"a name with {LABEL_SEPARATOR}, which separates names; use another character"
                )
            joined = LABEL_SEPARATOR.join(text for text in texts if text)
            # In a multi-label dataset, a video may belong to no class.
            return joined if joined or self.kind == MULTI_LABEL else None
        return self._text(value, id=id)

    def _text(self, value: Any, *, id: str) -> str | None:
        if isinstance(value, float) and not (self.kind == "regression" and math.isfinite(value)):
            if math.isnan(value):
                return None
            if not value.is_integer():
                raise self._label_error(value, id, "a number with a fraction; give --problem_type regression")
            value = int(value)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if value is not None and not isinstance(value, (str, int, float)):
            raise self._label_error(value, id, f"{type(value).__name__}, no label")
        text = "" if value is None else str(value).strip()
        return None if text.lower() in MISSING_VALUES else text

    def _label_error(self, value: Any, id: str, what: str) -> DataError:
        shown = str(value) if len(str(value)) <= 60 else f"{str(value)[:60]}..."
        return DataError(
            f"{self.name}: {self.column!r} of {id} is {shown}: it holds {what}, or name another column with "
            f"--label_column"
        )

    def _check_minus_one(self) -> None:
        """Distinguish -1 for a missing class, as `datasets` writes it, from -1 as a class."""
        if self.kind == SINGLE_LABEL and self.ids.keys() == {"-1"}:
            self.ids.clear()
        elif self.kind == SINGLE_LABEL and {"-1", "0"} <= self.ids.keys():
            raise DataError(
                f"{self.name}: {self.column!r} holds -1 (as in {self.ids['-1']}) next to 0 and more; if it means "
                f"that there is no label, remove those rows; if it is a class, write the classes as text"
            )


def _label_from_json(value: str | dict[str, Any], *, key: str, id: str, name: str) -> Any:
    """Return the label in a JSON member: the value of a key, or the member itself if it is not an object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}: the .json of {id} is not JSON ({error}); fix or remove it") from None
    if not isinstance(value, dict):
        return value
    return value.get(key or next((known for known in LABEL_COLUMNS if known in value), ""))


def share_classes(parts: Sequence[ColumnLabels]) -> None:
    """Give each split of a dataset the classes of all splits together."""
    ids: dict[str, str] = {}
    for part in parts:
        ids = {**part.ids, **ids}
    for part in parts:
        part.ids = dict(ids)
        part.find_classes()


def find_label_column(features: Any, *, requested: str | None, path: str, kind: LabelKind) -> ColumnLabels | None:
    """Return the plain column that holds the labels.

    Args:
        features: of the dataset.
        requested: its name, or `json.KEY` for a key in the JSON of a WebDataset; None: the first of `LABEL_COLUMNS`,
            in a WebDataset of `LABEL_MEMBERS`.
        path: of the dataset.
        kind: what the labels mean.

    Raises:
        DataError: if the requested column is not there.
    """
    is_webdataset = "__key__" in features
    if requested is None:
        known = LABEL_MEMBERS if is_webdataset else LABEL_COLUMNS
        requested = next((name for name in known if name in features and _is_plain(features[name])), None)
    if requested is None:
        return None
    column = requested if requested in features else requested.partition(".")[0]
    if column not in features or (column != requested and column != "json"):
        columns = ", ".join(map(str, features))
        raise DataError(f"{path} has no column {requested!r}: its columns are {columns}; give one of them")
    if not _is_plain(features[column]) and column != "json":
        kinds = " of ".join(type(part).__name__ for part in _nested_types(features[column]))
        raise DataError(
            f"{path}: column {requested!r} holds {kinds}, not labels for {kind}; name another column or kind"
        )
    return ColumnLabels(column=requested, kind=kind, name=path)


def _nested_types(feature: Any) -> list[Any]:
    inner = getattr(feature, "feature", None)
    return [feature] if inner is None else [feature, *_nested_types(inner)]


def _is_plain(feature: Any) -> bool:
    """Return whether a column holds text, numbers or bools, or lists of them; a `ClassLabel` has its own names."""
    feature = getattr(feature, "feature", feature)
    if hasattr(feature, "names"):
        return False
    dtype = str(getattr(feature, "dtype", ""))
    return dtype.startswith(("string", "large_string", "int", "uint", "float", "bool", "binary"))
