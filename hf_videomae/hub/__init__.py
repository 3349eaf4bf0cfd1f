"""What goes to the Hub beside the weights: the model card, and `endpoint`, which serves a model there.

The names below are loaded when they are first used: a server needs nothing of what cards are made of.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import render_run_card, write_card
    from .facts import CardError, RunFacts, read_run
    from .header import check_card
    from .licences import Licence, LicenceError, Origin, inherited_licence

_HOMES = {
    "CardError": "facts",
    "Licence": "licences",
    "LicenceError": "licences",
    "Origin": "licences",
    "RunFacts": "facts",
    "check_card": "header",
    "inherited_licence": "licences",
    "read_run": "facts",
    "render_run_card": "card",
    "write_card": "card",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


__all__ = [
    "CardError",
    "Licence",
    "LicenceError",
    "Origin",
    "RunFacts",
    "check_card",
    "inherited_licence",
    "read_run",
    "render_run_card",
    "write_card",
]
