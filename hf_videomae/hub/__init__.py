"""What goes to the Hub beside the weights: the model card."""

from .card import render_run_card, write_card
from .facts import CardError, RunFacts, read_run
from .header import check_card
from .licences import Licence, LicenceError, Origin, inherited_licence

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
