"""Read class names from files next to an annotation list: `classInd.txt` and `labels.json`."""

import json
import re
from dataclasses import replace
from pathlib import Path

from ..errors import DataError
from .tables import Table, cell_text, read_text_file

CLASS_IND_FILE, LABELS_JSON_FILE = "classInd.txt", "labels.json"
_NUMBERED_CLASS = re.compile(r"(\d+)\s+(\S.*)")


def apply_class_ind(table: Table) -> tuple[Table, list[str] | None]:
    """Return a list of UCF101 with its class names as labels, and all classes in order.

    The names are in `classInd.txt` next to it, as `1 ApplyEyeMakeup`. Its test lists have no labels, so the folder of
    each video is its class. Any other list is returned unchanged.

    Raises:
        DataError: for a number that is not in `classInd.txt`.
    """
    class_file = table.file.parent / CLASS_IND_FILE
    if (
        table.file.suffix.lower() != ".txt"
        or not table.columns
        or table.columns[0] != "path"
        or not class_file.is_file()
    ):
        return table, None
    matches = (_NUMBERED_CLASS.fullmatch(line.strip()) for line in read_text_file(class_file).splitlines())
    names = {int(match[1]): match[2] for match in matches if match}
    if not names:
        return table, None
    class_names = [names[number] for number in sorted(names)]
    rows = []
    for number, row in zip(table.row_numbers, table.rows, strict=True):
        text, folder = cell_text(row.get("label")), cell_text(row["path"]).replace("\\", "/").split("/")[-2:-1]
        name = names.get(int(text)) if text.isdecimal() else text or (folder[0] if folder else "")
        if name not in class_names:
            what = f"the number {text}" if text.isdecimal() else f"the class {name!r}"
            raise DataError(
                f"{table.file}: row {number} has {what}, which {class_file} does not; take both from one version"
            )
        rows.append({**row, "label": name})
    return replace(table, columns=["path", "label"], rows=rows), class_names


def apply_something_labels(table: Table) -> tuple[Table, list[str] | None]:
    """Return a list of Something-Something with its classes as labels, and all classes in the order of their numbers.

    Its `label` is a caption; the class is the `template` without brackets. The numbers are in `labels.json` next to
    it. Any other list is returned unchanged.

    Raises:
        DataError: for a class that is not in `labels.json`.
    """
    if "template" not in table.columns:
        return table, None
    rows = [{**row, "label": re.sub(r"[\[\]]", "", cell_text(row.get("template")))} for row in table.rows]
    table = replace(table, columns=list(dict.fromkeys([*table.columns, "label"])), rows=rows)
    class_file = table.file.parent / LABELS_JSON_FILE
    names = _read_numbered_names(class_file) if class_file.is_file() else None
    unknown_class = next(
        (cell_text(row["label"]) for row in rows if cell_text(row["label"]) not in (names or ())), None
    )
    if names is not None and unknown_class is not None:
        raise DataError(
            f"{table.file}: {class_file} does not have the class {unknown_class!r}; take both from one version"
        )
    return table, names


def _read_numbered_names(file: Path) -> list[str]:
    try:
        numbers = json.loads(read_text_file(file))
        return sorted(numbers, key=lambda name: int(numbers[name]))
    except (json.JSONDecodeError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{file} does not hold class names with their numbers ({error}); fix or remove it") from error
