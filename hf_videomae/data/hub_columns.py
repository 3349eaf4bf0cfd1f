"""Find the columns of the videos and of typed labels (`ClassLabel`, numbers) in shards, by types and names."""

from typing import Any

from ..errors import DataError
from .labels import LabelKind
from .source import Label


def describe_columns(features: Any) -> str:
    """Return a part of an error message that lists the columns."""
    return "its columns are " + (
        ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items()) or "unknown"
    )


def find_video_column(features: Any, *, requested: str | None, path: str) -> str:
    """Return the column that holds the videos: the requested one, or one found by its type `Video` or its name.

    Raises:
        DataError: when there is no such column, or several could be meant.
    """
    import datasets

    if requested is not None:
        if requested in features:
            return requested
        raise DataError(f"{path} has no column {requested!r}: {describe_columns(features)}")
    typed = [name for name, feature in features.items() if isinstance(feature, datasets.Video)]
    if len(typed) == 1 or "video" in typed:
        return "video" if "video" in typed else typed[0]
    if not typed:
        # Files written without `datasets` hold the bytes in a plain column.
        plain = [name for name in ("video", "mp4", "bytes") if name in features]
        if plain:
            return plain[0]
    what = "several video columns" if typed else "no video column"
    if typed and "__key__" in features:
        raise DataError(
            f"{path} has several videos of one name ({', '.join(typed[:3])}): in a tar file the name of a sample ends "
            f"at its first dot; rename the members (v.0.mp4 to v_0.mp4), or name one column with --video_column"
        )
    raise DataError(f"{path} has {what}: {describe_columns(features)}; name one with --video_column")


REQUIRED_LABEL_COLUMNS = {
    "single_label_classification": "a ClassLabel",
    "multi_label_classification": "a list of ClassLabel",
    "regression": "a column of numbers called label",
}


def find_class_column(
    features: Any, *, requested: str | None, path: str, kind: LabelKind
) -> tuple[str | None, list[str] | None]:
    """Return the label column found by its type, and its class names (None for regression).

    It returns (None, None) if no column has that type: the classes may then be in the values of a plain column.
    """
    import datasets

    if requested is not None and requested not in features:
        return None, None  # a key in the JSON of a WebDataset
    if kind == "regression":
        return _find_number_column(features, column=requested or "label", path=path), None
    # `feature` is the type of a list's items.
    inner = {
        name: getattr(feature, "feature", None) if kind == "multi_label_classification" else feature
        for name, feature in features.items()
    }
    classes = {name: feature for name, feature in inner.items() if isinstance(feature, datasets.ClassLabel)}
    chosen = requested or ("label" if "label" in classes else next(iter(classes)) if len(classes) == 1 else None)
    return (chosen, list(classes[chosen].names)) if chosen in classes else (None, None)


def _find_number_column(features: Any, *, column: str, path: str) -> str | None:
    if column not in features:
        return None
    dtype = str(getattr(features[column], "dtype", ""))
    if dtype.startswith(("string", "large_string")):
        return None  # numbers written as text
    if not dtype.startswith(("int", "uint", "float")):
        raise DataError(f"{path}: column {column!r} holds {dtype or 'no numbers'}, but regression wants numbers")
    return column


def parse_label(value: Any) -> Label | None:
    """Return a row's label; `datasets` writes -1 for a missing class."""
    if isinstance(value, list):
        return tuple(value)
    return None if isinstance(value, int) and value < 0 else value
