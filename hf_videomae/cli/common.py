"""What the commands share: how they end, and what they tell."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from ..records import printable, without_credentials
from ..stopping import tell_once

_USER_ERROR = 2
_INTERRUPTED = 130
BROKEN_PIPE = 128 + getattr(signal, "SIGPIPE", 13)
"""The exit status of a program whose output nobody reads any more, as `head` leaves it."""


def tell_interrupted(error: KeyboardInterrupt, *, goes_on: bool) -> int:
    """Say that a signal ended the command; returns the exit status, 128 + the signal.

    Args:
        error: that the signal raised.
        goes_on: the same command goes on where it was.
    """
    tell_once()
    remedy = "; the same command goes on from here" if goes_on else ""
    print(f"hf-videomae: interrupted{remedy}", file=sys.stderr)
    return getattr(error, "code", _INTERRUPTED)


def is_output_closed() -> bool:
    """Return whether a stream of this program is a pipe that nobody reads, and lead it nowhere then."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
    for stream in closed:
        # What is left in its buffer would be tried again when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return bool(closed)


def _has_no_reader(stream: TextIO) -> bool:
    try:
        place = stream.fileno()
    except (OSError, ValueError):  # of a test, or closed
        return False
    if not hasattr(select, "poll"):
        return True  # a pipe broke, and this is the likeliest
    poll = select.poll()
    poll.register(place, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def fail(message: str) -> NoReturn:
    """End with one line on stderr."""
    print(f"hf-videomae: error: {printable(without_credentials(' '.join(message.split())))}", file=sys.stderr)
    raise SystemExit(_USER_ERROR)


def tell_notes(notes: Sequence[str]) -> None:
    """What was left out or assumed, on stderr."""
    for note in notes:
        print(f"note: {printable(without_credentials(note))}", file=sys.stderr)


def device() -> str:
    """Where models run: the accelerator that is there, or the CPU."""
    import torch

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
