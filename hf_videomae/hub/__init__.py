"""What goes to the Hub beside the weights: the model card."""

from ..cards import CardError, Licence, LicenceError, Origin, inherited_licence
from .card import render_run_card, write_card
from .facts import RunFacts, read_run
from .header import check_card

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
