"""What goes to the Hub beside the weights: the model card, and the page of a Space."""

from .card import render_run_card, write_card
from .facts import CardError, RunFacts, read_run
from .header import check_card
from .licences import Licence, LicenceError, Origin, inherited_licence
from .space import Space, SpaceError, write_space

__all__ = [
    "CardError",
    "Licence",
    "LicenceError",
    "Origin",
    "RunFacts",
    "Space",
    "SpaceError",
    "check_card",
    "inherited_licence",
    "read_run",
    "render_run_card",
    "write_card",
    "write_space",
]
