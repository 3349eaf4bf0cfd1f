"""Which data a saved position is in: names of files, sizes of some of them, and of a Hub data set its id.

The number of videos says little: two folders may have as many. A folder that was moved is the same data; one file that
was replaced or mended in it changes nothing either.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from ..cards import is_hub_id
from .samples import AnyData, DataError, Mixture, Source

Identity = dict[str, Any]
"""JSON-able: `name`, `files` (a digest of their names), `sizes` (of some of them, in bytes), `hub_id`."""

_SIZES = 16


def identity_of(source: AnyData) -> Identity:
    """Return what tells a data set from others, as far as that is cheap to know."""
    if isinstance(source, Mixture):
        parts = [identity_of(part) for part in source.parts]
        return {**_identity(source.name, [part["files"] for part in parts]), "parts": parts}
    names, places = _files_of(source)
    hub_id = source.name if getattr(source, "revision", None) is not None and is_hub_id(source.name) else None
    return {**_identity(source.name, names), "sizes": [_size(place) for place in places], "hub_id": hub_id}


def _identity(name: str, names: Sequence[str]) -> Identity:
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return {"name": name, "files": digest, "sizes": [], "hub_id": None}


def _files_of(source: Any) -> tuple[list[str], list[str]]:
    """The names of a source's files, and the places of some of them that lie here."""
    if isinstance(source, Source) and hasattr(source, "paths"):
        names = [str(path) for path in source.paths]
        root = getattr(source, "root", ".")
        return names, [os.path.join(root, names[place]) for place in _spread(len(names))]
    if hasattr(source, "shard_names"):
        files = list(source.files)
        local = [files[place] for place in _spread(len(files)) if "://" not in files[place]]
        return list(source.shard_names), local
    return [source.name], []


def _spread(count: int) -> list[int]:
    return sorted({place * count // _SIZES for place in range(_SIZES)}) if count else []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # opening it will say so
        return -1


def check_identity(saved: Identity | None, now: Identity) -> None:
    """Refuse to go on in other data than a position was saved in.

    Args:
        saved: with the position; None in states of releases that did not write it.
        now: of the data that are here.

    Raises:
        DataError: naming both.
    """
    if saved is None:
        return
    before, after = saved.get("sizes") or [], now["sizes"]
    changed = sum(one != other for one, other in zip(before, after, strict=False))
    other_files = saved["files"] != now["files"] or (len(before) == len(after) and 2 * changed > len(after))
    hubs = {saved.get("hub_id"), now["hub_id"]} - {None}
    if other_files or len(hubs) > 1:
        same = " (another set of this name)" if saved["name"] == now["name"] else ""
        what = "its files have other names" if saved["files"] != now["files"] else "its files have other sizes"
        what = "that is another data set of the Hub" if len(hubs) > 1 else what
        raise DataError(
            f"the position was saved in {saved['name']}, and this is {now['name']}{same}: {what}; give the data set "
            f"of the run, or start a new run from the weights"
        )
    for one, other in zip(saved.get("parts", ()), now.get("parts", ()), strict=False):
        check_identity(one, other)
