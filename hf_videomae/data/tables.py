"""Read tables of videos: CSV with any usual separator, JSON Lines, JSON, Parquet, and lists without a header.

`read_table` finds the separator and the header, and raises an error instead of guessing.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line

Cell = str | list[str]
"""The text of a cell, or the texts of a list in JSON."""

# In the order in which they are tried. Split at commas, the first line of "path;label" is one cell.
DELIMITERS = (",", ";", "\t", "|", " ")
# A file extension: "x.mp4", "x.3gp", but not the fraction of "0.25".
_EXTENSION = r"\.(?=[0-9]*[a-z])[a-z0-9]{2,5}"
_PATH = re.compile(rf".*{_EXTENSION}", flags=re.IGNORECASE)
_PATH_AND_REST = re.compile(rf"(.*{_EXTENSION})(?:\s+(.*))?", flags=re.IGNORECASE)
_NUMBERS = re.compile(r"-?\d+(\s+-?\d+)+")
_EXCEL_SEPARATOR = re.compile(r"sep=(.)\r?\n", flags=re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a file.

    Attributes:
        file: for errors.
        columns: names in their order, normalized by `normalize_column_name`; empty for a list without a header.
        rows: cells by column, without blanks around them; by "0", "1", ... for a list without a header.
        delimiter: of a CSV file; "" for JSON.
        row_numbers: the number of each row in the file, counted from 1 without the header, for errors.
    """

    file: Path
    columns: list[str]
    rows: list[dict[str, Cell]]
    delimiter: str = ""
    row_numbers: list[int] = field(default_factory=list)

    @property
    def has_header(self) -> bool:
        """Return whether the file names its columns."""
        return bool(self.columns)

    def texts(self, column: str) -> Iterator[str]:
        """Yield the text of each cell of a column."""
        return (cell_text(row.get(column)) for row in self.rows)


def normalize_column_name(name: str) -> str:
    """Return a column's name in lower case, without blanks around it, and with `_` for blanks and dashes inside.

    `Video Path` and ` video-path` both become `video_path`, `fileName` becomes `filename`.
    """
    return re.sub(r"[\s\-]+", "_", name.strip().strip("\"'").strip().lower())


def has_file_extension(text: str) -> bool:
    """Return whether a text ends with a file extension."""
    return _PATH.fullmatch(text.strip()) is not None


def cell_text(cell: Cell | None) -> str:
    """Return the text of a cell; a list with several entries is returned as JSON."""
    if isinstance(cell, list):
        return cell[0] if len(cell) == 1 else json.dumps(cell, ensure_ascii=False) if cell else ""
    return cell or ""


def parse_number(text: str) -> float | None:
    """Return the finite number in a text; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_table(file: Path, *, known: Iterable[str]) -> Table:
    """Read a table of videos.

    Args:
        file: CSV (any suffix), `.jsonl`, `.ndjson`, `.json` or `.parquet`.
        known: column names that identify a header.

    Raises:
        DataError: for a file that cannot be read, is not UTF-8, or whose rows do not fit its header.
    """
    if file.suffix == ".parquet":
        return _table_from_objects(file, _read_parquet(file))
    text = read_text_file(file)
    try:
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            return _table_from_objects(file, _parse_json_lines(text))
        if file.suffix.lower() == ".json":
            return _table_from_objects(file, _parse_json_array(text))
        return _parse_csv(file, text, known=frozenset(known))
    except (json.JSONDecodeError, csv.Error, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{file} cannot be read ({reason}); write it as UTF-8 text, one video in a row") from error


def read_text_file(file: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        DataError: when it cannot be read or decoded.
    """
    try:
        content = file.read_bytes()
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = content.decode(encoding)
    except OSError as error:
        remedy = "give the path of a CSV or JSONL file"
        raise DataError(f"{file} cannot be read ({error.strerror or error}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} cannot be read ({error}); write it as UTF-8 text") from error
    if "\0" in text:
        raise DataError(f"{file} cannot be read (it holds NUL bytes, so it is not text); write it as UTF-8 text")
    return text


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{file} needs pyarrow to be read ({error}): pip install pyarrow") from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read ({first_line(error)}); write it again, or as CSV") from error
    return rows


# JSON.


def _parse_json_lines(text: str) -> Iterator[object]:
    for line in filter(str.strip, text.split("\n")):
        yield json.loads(line)


def _parse_json_array(text: str) -> Iterator[object]:
    content = json.loads(text)
    if isinstance(content, dict) and content and all(map(_is_kinetics_entry, content.values())):
        content = [_kinetics_row(name, value) for name, value in content.items()]
    if not isinstance(content, list):
        raise json.JSONDecodeError('not a list of objects, as in [{"path": "a.mp4", "label": "run"}]', text[:1], 0)
    yield from content


def _is_kinetics_entry(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("annotations"), dict)


def _kinetics_row(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of Kinetics' JSON with the column names of its CSV."""
    segment = value["annotations"].get("segment")
    start, end = segment if isinstance(segment, list) and len(segment) == 2 else (None, None)
    label = value["annotations"].get("label")
    return {"youtube_id": name, "label": label, "time_start": start, "time_end": end, "split": value.get("subset")}


def _table_from_objects(file: Path, objects: Iterable[object]) -> Table:
    rows, columns = [], dict[str, None]()
    for number, entry in enumerate(objects, start=1):
        if not isinstance(entry, dict):
            raise json.JSONDecodeError(f"row {number} is not a JSON object", "", 0)
        cells = list(_flatten(entry))
        names = [name for name, _ in cells]
        _refuse_duplicate_columns(file, names)
        rows.append({name: _json_cell(value) for name, value in cells})
        columns |= dict.fromkeys(names)
    return Table(file=file, columns=list(columns), rows=rows, row_numbers=list(range(1, len(rows) + 1)))


def _flatten(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the columns of a JSON object; `label.name` is the value of `name` in the object `label`."""
    for key, value in row.items():
        name = prefix + normalize_column_name(key)
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for inner in dict.fromkeys(key for entry in value for key in entry):
                yield f"{name}.{normalize_column_name(inner)}", [entry.get(inner) for entry in value]
        else:
            yield name, value


def _json_cell(value: object) -> Cell:
    if isinstance(value, list):
        return [str(entry).strip() for entry in value if entry is not None]
    return "" if value is None else str(value).strip()


# CSV.


def _parse_csv(file: Path, text: str, *, known: frozenset[str]) -> Table:
    hint = _EXCEL_SEPARATOR.match(text)
    text = text[hint.end() :] if hint else text
    for delimiter in (hint[1],) if hint else DELIMITERS:
        header = [normalize_column_name(name) for name in _first_record(text, delimiter)]
        if known & set(header) and not any(map(has_file_extension, header)):
            return _parse_with_header(file, text, delimiter, header)
    return _parse_without_header(file, text, hint[1] if hint else None)


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    lines = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
    for record in csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True):
        cells = [cell.strip() for cell in record]
        # When splitting at blanks, several blanks count as one, and those at the end do not count.
        yield [cell for cell in cells if cell] if delimiter == " " else cells


def _first_record(text: str, delimiter: str) -> list[str]:
    return next((record for record in _records(text, delimiter) if any(record)), [])


def _parse_with_header(file: Path, text: str, delimiter: str, header: list[str]) -> Table:
    _refuse_duplicate_columns(file, header)
    rows, row_numbers, is_header = [], [], True
    for number, record in enumerate(_records(text, delimiter)):
        if not any(record):
            continue  # a spreadsheet leaves ",,," behind
        if is_header:
            is_header = False
            continue
        if any(record[len(header) :]):
            separator_name = {"\t": "tab", " ": "blank"}.get(delimiter, delimiter)
            raise DataError(
                f"{file}: row {number} has {len(record)} cells for {len(header)} columns ({', '.join(header)}); put "
                f'text that holds a {separator_name!r} into quotes, as in "{_example_cell(record)}{delimiter} ..."'
            )
        rows.append(dict[str, Cell](zip(header, [*record, *[""] * (len(header) - len(record))], strict=False)))
        row_numbers.append(number)
    columns = [name for name in header if name]
    return Table(file=file, columns=columns, rows=rows, delimiter=delimiter, row_numbers=row_numbers)


def _example_cell(record: Sequence[str]) -> str:
    return next((cell for cell in record[1:] if cell), "a")


def _refuse_duplicate_columns(file: Path, names: Sequence[str]) -> None:
    duplicate = next((name for name in names if name and list(names).count(name) > 1), None)
    if duplicate is not None:
        raise DataError(f"{file} has {names.count(duplicate)} columns `{duplicate}`; remove or rename all but one")


def _parse_without_header(file: Path, text: str, hint: str | None) -> Table:
    """Return a list whose first column holds paths, or else a table whose header has none of the known names."""
    for delimiter in (hint,) if hint else DELIMITERS:
        first = next(_list_records(text, delimiter), None)
        records = list(_list_records(text, delimiter)) if first and has_file_extension(first[0]) else []
        if records and all(has_file_extension(record[0]) for record in records):
            rows = [
                dict[str, Cell]((str(position), cell) for position, cell in enumerate(record)) for record in records
            ]
            return Table(
                file=file, columns=[], rows=rows, delimiter=delimiter, row_numbers=list(range(1, len(records) + 1))
            )
    best = max(DELIMITERS[:4], key=lambda delimiter: len(_first_record(text, delimiter)))
    header = [normalize_column_name(name) for name in _first_record(text, best)]
    return _parse_with_header(file, text, best, header) if header else Table(file=file, columns=[], rows=[])


def _list_records(text: str, delimiter: str) -> Iterator[list[str]]:
    if delimiter != " ":
        yield from (record for record in _records(text, delimiter) if any(record))
        return
    # A path and a label may hold blanks: the path ends at the last file extension in the line.
    for line in filter(str.strip, text.splitlines()):
        match = _PATH_AND_REST.fullmatch(line.strip())
        rest = (match and match[2]) or ""
        yield [match[1] if match else line, *(rest.split() if _NUMBERS.fullmatch(rest) else filter(None, [rest]))]
