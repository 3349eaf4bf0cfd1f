"""Decide the license of a model or a dataset from the licenses of what it was made of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .escaping import code_span
from .header import is_non_commercial, normalize_license

_VIDEOMAE_CHECKPOINTS = re.compile(r"(?:MCG-NJU/videomae|OpenGVLab/VideoMAEv2)", flags=re.IGNORECASE)
_VIDEOMAE_LICENSE = "cc-by-nc-4.0"


class LicenseError(ValueError):
    """Raise for a license that the parents do not allow, or that the Hub does not know."""


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A checkpoint or a dataset that a model or a dataset was made of.

    Attributes:
        name: as a card shows it.
        hub_id: its repository on the Hub; None: it has none.
        revision: the commit there; None: not known.
        license: as the Hub spells it; None: not known.
        is_data: whether it is a dataset and not a checkpoint.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    license: str | None = None
    is_data: bool = False


@dataclass(frozen=True, kw_only=True)
class License:
    """The license of a model or a dataset, None if not known, and a sentence that explains it."""

    name: str | None
    reason: str


def known_checkpoint_license(hub_id: str) -> str | None:
    """Return the license of a published VideoMAE checkpoint; None for other models."""
    return _VIDEOMAE_LICENSE if _VIDEOMAE_CHECKPOINTS.match(hub_id) else None


def inherit_license(lineage: Sequence[Ancestor], *, requested: str | None = None) -> License:
    """Return the license of something that was made of `lineage`.

    A non-commercial license of any ancestor is kept. Otherwise the license is the one that the user states, then that
    of the nearest checkpoint, then that of the data. If it is not known, its name is None and the reason says so.

    Args:
        lineage: checkpoints, the nearest first, then the data.
        requested: the license that the user states.

    Raises:
        LicenseError: when the user states another license than the non-commercial one, or one unknown to the Hub.
    """
    requested = None if requested is None else _normalize(requested)
    for ancestor in lineage:
        if ancestor.license and is_non_commercial(ancestor.license):
            if requested not in (None, ancestor.license.lower()):
                raise LicenseError(
                    f"the license cannot be {requested}: {ancestor.name} is {ancestor.license}, and so is what is "
                    f"made from it; leave the license out or give {ancestor.license}"
                )
            return License(name=ancestor.license, reason=f"{_describe_origin(ancestor)}: {_NON_COMMERCIAL_NOTE}")
    if requested is not None:
        reason = f"`{requested}`, as stated by who made this card.{_unknown_license_note(lineage)}"
        return License(name=requested, reason=reason)
    unknown = [ancestor for ancestor in lineage if ancestor.license is None and not ancestor.is_data]
    known = [ancestor for ancestor in lineage if ancestor.license is not None]
    if unknown or not known:
        return License(name=None, reason=f"No license is stated.{_unknown_license_note(lineage)}")
    return License(name=known[0].license, reason=f"{_describe_origin(known[0])}.")


def _normalize(license: str) -> str:
    try:
        return normalize_license(license)
    except ValueError as error:
        raise LicenseError(str(error)) from None


_NON_COMMERCIAL_NOTE = (
    "no commercial use. Whatever is made of it, by fine-tuning or converting too, has that license as well."
)


def _describe_origin(ancestor: Ancestor) -> str:
    return f"{code_span(ancestor.license)}, from {_describe_ancestor(ancestor)}"


def _describe_ancestor(ancestor: Ancestor) -> str:
    return f"{'the data' if ancestor.is_data else 'the checkpoint'} {code_span(ancestor.name)}"


def _unknown_license_note(lineage: Sequence[Ancestor]) -> str:
    names = [_describe_ancestor(ancestor) for ancestor in lineage if ancestor.license is None]
    return f" The license of {' and of '.join(names)} is not known here." if names else ""
