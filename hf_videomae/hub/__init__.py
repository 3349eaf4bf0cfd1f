"""What goes to the Hub: models, while they are trained or afterwards, and their cards."""

from .card import render_run_card, write_card
from .facts import CardError, RunFacts, read_run
from .header import check_card
from .licences import Licence, LicenceError, Origin, inherited_licence
from .publishing import Publisher, Timing, build_publisher
from .pushing import Published, describe, push_run
from .repository import ModelTarget

__all__ = [
    "CardError",
    "Licence",
    "LicenceError",
    "ModelTarget",
    "Origin",
    "Published",
    "Publisher",
    "RunFacts",
    "Timing",
    "build_publisher",
    "check_card",
    "describe",
    "inherited_licence",
    "push_run",
    "read_run",
    "render_run_card",
    "write_card",
]
