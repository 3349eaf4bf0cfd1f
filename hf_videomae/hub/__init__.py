"""What goes to the Hub: models, while they are trained or afterwards, their cards, Spaces, and `endpoint` that serves.

The names below are loaded when they are first used: a server needs nothing of what cards are made of.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..cards import CardError, Licence, LicenceError, Origin, inherited_licence
    from .card import render_run_card, write_card
    from .facts import RunFacts, read_run
    from .header import check_card
    from .publishing import Publisher, Timing, build_publisher
    from .pushing import Published, describe, push_run
    from .repository import ModelTarget
    from .space import Space, SpaceError, write_space

_HOMES = {
    "CardError": "..cards",
    "Licence": "..cards",
    "LicenceError": "..cards",
    "ModelTarget": ".repository",
    "Origin": "..cards",
    "Published": ".pushing",
    "Publisher": ".publishing",
    "RunFacts": ".facts",
    "Space": ".space",
    "SpaceError": ".space",
    "Timing": ".publishing",
    "build_publisher": ".publishing",
    "check_card": ".header",
    "describe": ".pushing",
    "inherited_licence": "..cards",
    "push_run": ".pushing",
    "read_run": ".facts",
    "render_run_card": ".card",
    "write_card": ".card",
    "write_space": ".space",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


__all__ = [
    "CardError",
    "Licence",
    "LicenceError",
    "ModelTarget",
    "Origin",
    "Published",
    "Publisher",
    "RunFacts",
    "Space",
    "SpaceError",
    "Timing",
    "build_publisher",
    "check_card",
    "describe",
    "inherited_licence",
    "push_run",
    "read_run",
    "render_run_card",
    "write_card",
    "write_space",
]
