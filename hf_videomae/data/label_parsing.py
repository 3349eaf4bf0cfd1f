"""Parse labels in the cells of tables: one class, or several in one cell, separated or as a list."""

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .labels import LABEL_SEPARATOR, MISSING_VALUES, SINGLE_LABEL, LabelKind
from .tables import Cell

_MULTI_LABEL_FLAG = "--problem_type multi_label_classification"
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
# With an empty cell, pandas turns a column of class numbers into floats: 0.0, 1.0.
_WHOLE_NUMBER = re.compile(r"(-?\d+)(\.0+)?")
# numpy and pandas print lists without commas between strings, which Python would join.
_UNSEPARATED_STRINGS = re.compile(r"""['"]\s+['"]|['"]{2}\s*['"]""")
_SEPARATORS = (LABEL_SEPARATOR, ";", ",")


def is_missing_label(cell: Cell, *, kind: LabelKind = SINGLE_LABEL) -> bool:
    """Return whether a cell holds no label: it is empty, an empty list, or one of `MISSING_VALUES` in any case.

    In a multi-label dataset, an empty list means that the video belongs to no class.
    """
    entries = parse_list_cell(cell)
    if entries is None:
        return str(cell).strip().lower() in MISSING_VALUES
    if not entries:
        return kind != "multi_label_classification"
    return all(map(is_missing_label, entries))


def parse_list_cell(cell: Cell) -> list[str] | None:
    """Return the entries of a list, written as JSON or as Python prints it; None for any other text.

    Class names such as "[Something] falling on [something]" are not lists.
    """
    if isinstance(cell, list):
        return cell
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")) or _UNSEPARATED_STRINGS.search(text):
        return None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    is_flat = isinstance(value, list) and all(isinstance(entry, (str, int, float)) for entry in value)
    return [str(entry).strip() for entry in value] if is_flat else None


def parse_label_cells(
    cells: Sequence[Cell], *, all_cells: Sequence[Cell], kind: LabelKind, file: Path | str, ids: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the labels of some rows as `parse_labels` takes them, and notes for the user.

    Args:
        cells: the labels of these rows, none of them missing.
        all_cells: the labels of the whole file, to distinguish a separator from a character in a class name.
        kind: what the labels mean.
        file: for errors.
        ids: of these rows, for errors.

    Raises:
        DataError: for a cell that reads as several classes if one is wanted, or in two ways.
    """
    lists = [parse_list_cell(cell) for cell in cells]
    texts = sorted(
        {str(cell).strip() for cell in all_cells if parse_list_cell(cell) is None and not is_missing_label(cell)}
    )
    if kind in (SINGLE_LABEL, "regression"):
        labels = [
            _parse_single_label(cell, entries, file=file, id=id, kind=kind)
            for cell, entries, id in zip(cells, lists, ids, strict=True)
        ]
        if kind != SINGLE_LABEL:
            return labels, []
        comma_notes = _check_single_labels(labels, lists, texts, file=file, ids=ids)
        _check_minus_one(labels, texts, file=file, ids=ids)
        return _strip_zero_fractions(labels, texts), comma_notes
    separator, notes = _find_separator(texts, file=file)
    split_labels = [
        entries if entries is not None else [part.strip() for part in str(cell).split(separator or "\0")]
        for cell, entries in zip(cells, lists, strict=True)
    ]
    odd = next((part for parts in split_labels for part in parts if LABEL_SEPARATOR in part), None)
    if odd is not None:
        raise DataError(
            f"{file}: the class name {odd!r} holds a {LABEL_SEPARATOR}, which separates classes; rename it"
        )
    return [LABEL_SEPARATOR.join(filter(None, parts)) for parts in split_labels], notes


def _strip_zero_fractions(labels: list[str], texts: Sequence[str]) -> list[str]:
    """Return class numbers without `.0` (`3.0` is class 3), if all labels of a file are numbers."""
    if not any("." in text for text in texts) or not all(map(_WHOLE_NUMBER.fullmatch, texts)):
        return labels
    return [label.partition(".")[0] for label in labels]


def _check_minus_one(labels: Sequence[str], texts: Sequence[str], *, file: Path | str, ids: Sequence[str]) -> None:
    """Raise for -1 among class numbers: it may mean "no label" or a class."""
    if not all(map(_WHOLE_NUMBER.fullmatch, texts)) or not {"0", "0.0"}.intersection(texts):
        return
    bad = next((id for label, id in zip(labels, ids, strict=True) if label in ("-1", "-1.0")), None)
    if bad is not None:
        raise DataError(
            f"{file}: the label of {bad} is -1, next to 0 and more; if it means that there is no label, remove "
            f"those rows; if it is a class, write the classes as names"
        )


def _parse_single_label(cell: Cell, entries: list[str] | None, *, file: Path | str, id: str, kind: LabelKind) -> str:
    if entries is None:
        return str(cell).strip()
    if len(entries) != 1:
        wanted = "a number" if kind == "regression" else f"one class; {_MULTI_LABEL_FLAG} trains on several"
        raise DataError(f"{file}: the label of {id} is a list of {len(entries)} ({', '.join(entries)}), not {wanted}")
    return entries[0]


def _check_single_labels(
    labels: Sequence[str],
    lists: Sequence[list[str] | None],
    texts: Sequence[str],
    *,
    file: Path | str,
    ids: Sequence[str],
) -> list[str]:
    """Raise for labels that read as several classes; return a note if commas were taken for part of the names."""
    odd = {text: (sign, parts) for sign in _SEPARATORS for text, parts in _find_separable(texts, sign)}
    for label, entries, id in zip(labels, lists, ids, strict=True):
        if entries is None and label in odd:
            sign, parts = odd[label]
            raise DataError(
                f"{file}: the label of {id} is {label!r}, which reads as several classes ({', '.join(parts)}); "
                f"for these separate them by {LABEL_SEPARATOR} and give {_MULTI_LABEL_FLAG}, or rename a single class "
                f"so that it holds no {sign!r}"
            )
    commas = sorted({label for label, entries in zip(labels, lists, strict=True) if entries is None and "," in label})
    if not commas:
        return []
    return [
        f"{file}: {len(commas)} class names hold a comma and are taken for one class each, such as {commas[0]!r}; "
        f"several classes of a video are separated by {LABEL_SEPARATOR}, with {_MULTI_LABEL_FLAG}"
    ]


def _find_separable(texts: Sequence[str], sign: str) -> list[tuple[str, list[str]]]:
    """Return the texts that a character separates into several classes, with these classes.

    Only a comma may be part of a name: "jump, high" is a name unless "jump" or "high" is a class elsewhere. A part
    that begins several names ("Inside, small room", "Inside, large room") proves nothing; one that is also at another
    position of other labels is a class.
    """
    split = {text: [part.strip() for part in text.split(sign) if part.strip()] for text in texts if sign in text}
    if sign != ",":
        return list(split.items())
    whole = set(texts) - split.keys()
    uses = Counter(part for parts in split.values() for part in set(parts))
    later = {part for parts in split.values() for part in parts[1:]}
    separable = []
    for text, parts in split.items():
        are_numbers = len(parts) > 1 and all(map(_NUMBER.fullmatch, parts))
        is_shared = any(uses[part] > 1 and part in later for part in parts)
        is_unspaced = re.search(r",(?=\S)", text) is not None and not re.search(r"\d,\d", text)
        if are_numbers or is_unspaced or is_shared or whole & set(parts):
            separable.append((text, parts))
    return separable


def _find_separator(texts: Sequence[str], *, file: Path | str) -> tuple[str, list[str]]:
    """Return the separator of the classes of a multi-label dataset ("" if none), and a note if it is not `|`."""
    found_separators = [sign for sign in _SEPARATORS if any(sign in text for text in texts)]
    if not found_separators or found_separators == [LABEL_SEPARATOR]:
        return "".join(found_separators), []
    if found_separators[0] == ",":
        if not _find_separable(texts, ","):
            example = next(text for text in texts if "," in text)
            raise DataError(
                f"{file}: {example!r} may be one class or several; separate classes by {LABEL_SEPARATOR}, and write a "
                f'name that holds a comma as a JSON list, ["{example}"]'
            )
        return ",", [f"{file}: several classes of a video are read as separated by ','"]
    if found_separators[:2] == [LABEL_SEPARATOR, ";"]:
        example = next(text for text in texts if ";" in text)
        raise DataError(
            f"{file} separates classes by {LABEL_SEPARATOR} and by ; ({example!r}); use {LABEL_SEPARATOR} everywhere"
        )
    if found_separators[0] == LABEL_SEPARATOR:
        parts = sorted({part.strip() for text in texts for part in text.split(LABEL_SEPARATOR)})
        odd = _find_separable(parts, ",")
        if odd:
            raise DataError(
                f"{file} separates classes by {LABEL_SEPARATOR} and by commas ({odd[0][0]!r}); use {LABEL_SEPARATOR} "
                f"everywhere"
            )
        return LABEL_SEPARATOR, []
    return ";", [f"{file}: several classes of a video are read as separated by ';'"]
