"""Fingerprint a dataset, to refuse a resume in other data: file names, some file sizes, and the id on the Hub.

The number of videos says little, because two folders may have the same. A moved folder is the same data, and so is a
folder in which one file was replaced or repaired.
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
    """Return what distinguishes a dataset from others and is cheap to know."""
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
    """Return the names of a source's files, and the paths of some local ones."""
    if isinstance(source, Source) and hasattr(source, "paths"):
        names = [str(path) for path in source.paths]
        root = getattr(source, "root", ".")
        return names, [os.path.join(root, names[index]) for index in _spread_indices(len(names))]
    if hasattr(source, "shard_names"):
        files = list(getattr(source, "files", ()))
        local = [files[index] for index in _spread_indices(len(files)) if "://" not in files[index]]
        return list(source.shard_names), local
    return [source.name], []


def _spread_indices(count: int) -> list[int]:
    return sorted({index * count // _NUM_SIZES for index in range(_NUM_SIZES)}) if count else []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # opening it reports the error
        return -1


def check_same_dataset(saved: DatasetFingerprint | None, current: DatasetFingerprint) -> None:
    """Raise `DataError` if a position was saved in other data than the current.

    Args:
        saved: the fingerprint saved with the position; None if an earlier release saved it.
        current: the fingerprint of the dataset.
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
        same = " (another dataset of this name)" if saved["name"] == current["name"] else ""
        what = "its files have other names" if saved["files"] != current["files"] else "its files have other sizes"
        what = "it is another dataset of the Hub" if len(hub_ids) > 1 else what
        raise DataError(
            f"the position was saved in {saved['name']}, and this is {current['name']}{same}: {what}; give the "
            f"dataset of the run, or start a new run from the weights"
        )
    for one, other in zip(saved.get("parts", ()), current.get("parts", ()), strict=False):
        check_same_dataset(one, other)
