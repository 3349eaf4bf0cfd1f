"""Which licence a model or a data set has: that of what it was made of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .escaping import code_span
from .header import is_non_commercial, normalize_license

_VIDEOMAE_CHECKPOINTS = re.compile(r"(?:MCG-NJU/videomae|OpenGVLab/VideoMAEv2)", flags=re.IGNORECASE)
_VIDEOMAE_LICENSE = "cc-by-nc-4.0"


class LicenseError(ValueError):
    """A licence was asked for that the parents do not allow."""


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """Something that a model or a data set was made of.

    Attributes:
        name: as a card shows it.
        hub_id: its place on the Hub, where it has one.
        revision: the commit there, where it is known.
        license: as the Hub spells it; None: not known.
        is_data: a data set and not a checkpoint.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    license: str | None = None
    is_data: bool = False


@dataclass(frozen=True, kw_only=True)
class License:
    """The licence of a model or a data set, and a sentence that says where it comes from."""

    name: str | None
    reason: str


def known_checkpoint_license(hub_id: str) -> str | None:
    """The licence of the published VideoMAE checkpoints; None for others."""
    return _VIDEOMAE_LICENSE if _VIDEOMAE_CHECKPOINTS.match(hub_id) else None


def inherit_license(lineage: Sequence[Ancestor], *, requested: str | None = None) -> License:
    """The licence that what is made of `lineage` carries.

    One without commercial use stays, wherever it comes from. Otherwise it is what the user states, then that of the
    checkpoint, then that of the data. It is None, and the reason says so, where it is not known.

    Args:
        lineage: checkpoints, the nearest first, then the data.
        requested: what the user says.

    Raises:
        LicenceError: when the user states another licence than the one that has to stay, or none that the Hub knows.
    """
    requested = None if requested is None else _normalize(requested)
    non_commercial = next(
        (ancestor for ancestor in lineage if ancestor.license and is_non_commercial(ancestor.license)), None
    )
    if non_commercial is not None and non_commercial.license is not None:
        if requested not in (None, non_commercial.license.lower()):
            raise LicenseError(
                f"the licence cannot be {requested}: {non_commercial.name} is {non_commercial.license}, and so is what is made from it; "
                f"leave the licence out or give {non_commercial.license}"
            )
        return License(
            name=non_commercial.license,
            reason=f"{code_span(non_commercial.license)}, from {_describe_kind(non_commercial)} {code_span(non_commercial.name)}: {_NON_COMMERCIAL_NOTE}",
        )
    if requested is not None:
        return License(
            name=requested, reason=f"`{requested}`, as stated by who made this card.{_unknown_license_note(lineage)}"
        )
    unknown = [ancestor for ancestor in lineage if ancestor.license is None and not ancestor.is_data]
    known = [ancestor for ancestor in lineage if ancestor.license is not None]
    if unknown or not known:
        return License(name=None, reason=f"No licence is stated.{_unknown_license_note(lineage)}")
    return License(
        name=known[0].license,
        reason=f"{code_span(known[0].license)}, from {_describe_kind(known[0])} {code_span(known[0].name)}.",
    )


def _normalize(license: str) -> str:
    try:
        return normalize_license(license)
    except ValueError as error:
        raise LicenseError(str(error)) from None


_NON_COMMERCIAL_NOTE = (
    "no commercial use. Whatever is made of it, by fine-tuning or converting too, has that licence as well."
)


def _describe_kind(ancestor: Ancestor) -> str:
    return "the data" if ancestor.is_data else "the checkpoint"


def _unknown_license_note(lineage: Sequence[Ancestor]) -> str:
    names = [
        f"{_describe_kind(ancestor)} {code_span(ancestor.name)}" for ancestor in lineage if ancestor.license is None
    ]
    return f" The licence of {' and of '.join(names)} is not known here." if names else ""
