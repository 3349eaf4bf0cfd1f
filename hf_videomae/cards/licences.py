"""Which licence a model or a data set has: that of what it was made of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .escaping import code_span
from .header import check_licence, is_non_commercial

_PUBLISHED = re.compile(r"(?:MCG-NJU/videomae|OpenGVLab/VideoMAEv2)", flags=re.IGNORECASE)
_PUBLISHED_LICENCE = "cc-by-nc-4.0"


class LicenceError(ValueError):
    """A licence was asked for that the parents do not allow."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Something that a model or a data set was made of.

    Attributes:
        name: as a card shows it.
        hub_id: its place on the Hub, where it has one.
        revision: the commit there, where it is known.
        licence: as the Hub spells it; None: not known.
        is_data: a data set and not a checkpoint.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    licence: str | None = None
    is_data: bool = False


@dataclass(frozen=True, kw_only=True)
class Licence:
    """The licence of a model or a data set, and a sentence that says where it comes from."""

    name: str | None
    reason: str


def known_licence(hub_id: str) -> str | None:
    """The licence of the published VideoMAE checkpoints; None for others."""
    return _PUBLISHED_LICENCE if _PUBLISHED.match(hub_id) else None


def inherited_licence(origins: Sequence[Origin], *, stated: str | None = None) -> Licence:
    """The licence that what is made of `origins` carries.

    One without commercial use stays, wherever it comes from. Otherwise it is what the user states, then that of the
    checkpoint, then that of the data. It is None, and the reason says so, where it is not known.

    Args:
        origins: checkpoints, the nearest first, then the data.
        stated: what the user says.

    Raises:
        LicenceError: when the user states another licence than the one that has to stay, or none that the Hub knows.
    """
    stated = None if stated is None else _checked(stated)
    bound = next((origin for origin in origins if origin.licence and is_non_commercial(origin.licence)), None)
    if bound is not None and bound.licence is not None:
        if stated not in (None, bound.licence.lower()):
            raise LicenceError(
                f"the licence cannot be {stated}: {bound.name} is {bound.licence}, and so is what is made from it; "
                f"leave the licence out or give {bound.licence}"
            )
        return Licence(
            name=bound.licence,
            reason=f"{code_span(bound.licence)}, from {_kind(bound)} {code_span(bound.name)}: {_NOT_SOLD}",
        )
    if stated is not None:
        return Licence(name=stated, reason=f"`{stated}`, as stated by who made this card.{_unknown(origins)}")
    unknown = [origin for origin in origins if origin.licence is None and not origin.is_data]
    known = [origin for origin in origins if origin.licence is not None]
    if unknown or not known:
        return Licence(name=None, reason=f"No licence is stated.{_unknown(origins)}")
    return Licence(
        name=known[0].licence,
        reason=f"{code_span(known[0].licence)}, from {_kind(known[0])} {code_span(known[0].name)}.",
    )


def _checked(licence: str) -> str:
    try:
        return check_licence(licence)
    except ValueError as error:
        raise LicenceError(str(error)) from None


_NOT_SOLD = "no commercial use. Whatever is made of it, by fine-tuning or converting too, has that licence as well."


def _kind(origin: Origin) -> str:
    return "the data" if origin.is_data else "the checkpoint"


def _unknown(origins: Sequence[Origin]) -> str:
    names = [f"{_kind(origin)} {code_span(origin.name)}" for origin in origins if origin.licence is None]
    return f" The licence of {' and of '.join(names)} is not known here." if names else ""
