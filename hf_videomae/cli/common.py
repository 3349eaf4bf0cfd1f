"""What the commands share: how they end, and what they tell."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from ..records import without_credentials

_USER_ERROR = 2
INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell has it."""


def fail(message: str) -> NoReturn:
    """End with one line on stderr."""
    print(f"hf-videomae: error: {without_credentials(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(_USER_ERROR)


def tell_notes(notes: Sequence[str]) -> None:
    """What was left out or assumed, on stderr."""
    for note in notes:
        print(f"note: {without_credentials(note)}", file=sys.stderr)


def device() -> str:
    """Where models run: the accelerator that is there, or the CPU."""
    import torch

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
