"""Which data a saved position is in: names of files, sizes of some of them, and of a Hub data set its id.

The number of videos says little: two folders may have as many. A folder that was moved is the same data; one file that
was replaced or mended in it changes nothing either.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from ..cards import is_hub_id
from ..errors import DataError
from .source import AnyData, Mixture, Source

DatasetFingerprint = dict[str, Any]
"""JSON-able: `name`, `files` (a digest of their names), `sizes` (of some of them, in bytes), `hub_id`."""

_NUM_SIZES = 16


def fingerprint_dataset(source: AnyData) -> DatasetFingerprint:
    """Return what tells a data set from others, as far as that is cheap to know."""
    if isinstance(source, Mixture):
        parts = [fingerprint_dataset(part) for part in source.parts]
        return {**_make_fingerprint(source.name, [part["files"] for part in parts]), "parts": parts}
    names, sampled_paths = _list_files(source)
    hub_id = source.name if getattr(source, "revision", None) is not None and is_hub_id(source.name) else None
    return {
        **_make_fingerprint(source.name, names),
        "sizes": [_size(index) for index in sampled_paths],
        "hub_id": hub_id,
    }


def _make_fingerprint(name: str, names: Sequence[str]) -> DatasetFingerprint:
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return {"name": name, "files": digest, "sizes": [], "hub_id": None}


def _list_files(source: Any) -> tuple[list[str], list[str]]:
    """The names of a source's files, and the places of some of them that lie here."""
    if isinstance(source, Source) and hasattr(source, "paths"):
        names = [str(path) for path in source.paths]
        root = getattr(source, "root", ".")
        return names, [os.path.join(root, names[index]) for index in _spread_indices(len(names))]
    if hasattr(source, "shard_names"):
        files = list(source.files)
        local = [files[index] for index in _spread_indices(len(files)) if "://" not in files[index]]
        return list(source.shard_names), local
    return [source.name], []


def _spread_indices(count: int) -> list[int]:
    return sorted({index * count // _NUM_SIZES for index in range(_NUM_SIZES)}) if count else []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # opening it will say so
        return -1


def check_same_dataset(saved: DatasetFingerprint | None, current: DatasetFingerprint) -> None:
    """Refuse to go on in other data than a position was saved in.

    Args:
        saved: with the position; None in states of releases that did not write it.
        current: of the data that are here.

    Raises:
        DataError: naming both.
    """
    if saved is None:
        return
    saved_sizes, current_sizes = saved.get("sizes") or [], current["sizes"]
    changed = sum(one != other for one, other in zip(saved_sizes, current_sizes, strict=False))
    other_files = saved["files"] != current["files"] or (
        len(saved_sizes) == len(current_sizes) and 2 * changed > len(current_sizes)
    )
    hub_ids = {saved.get("hub_id"), current["hub_id"]} - {None}
    if other_files or len(hub_ids) > 1:
        same = " (another set of this name)" if saved["name"] == current["name"] else ""
        what = "its files have other names" if saved["files"] != current["files"] else "its files have other sizes"
        what = "that is another data set of the Hub" if len(hub_ids) > 1 else what
        raise DataError(
            f"the position was saved in {saved['name']}, and this is {current['name']}{same}: {what}; give the data set "
            f"of the run, or start a new run from the weights"
        )
    for one, other in zip(saved.get("parts", ()), current.get("parts", ()), strict=False):
        check_same_dataset(one, other)
