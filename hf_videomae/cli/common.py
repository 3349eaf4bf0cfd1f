"""What the commands share: how they end, and what they tell."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from ..credentials import redact_credentials
from ..stop_signals import claim_stop_report
from ..text import escape_control_characters

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 128 + getattr(signal, "SIGPIPE", 13)
"""The exit status of a program whose output nobody reads any more, as `head` leaves it."""


def report_interrupted(error: KeyboardInterrupt, *, is_resumable: bool) -> int:
    """Say that a signal ended the command; returns the exit status, 128 + the signal.

    Args:
        error: that the signal raised.
        is_resumable: the same command goes on where it was.
    """
    claim_stop_report()
    remedy = "; the same command goes on from here" if is_resumable else ""
    print(f"hf-videomae: interrupted{remedy}", file=sys.stderr)
    return getattr(error, "code", _EXIT_INTERRUPTED)


def silence_closed_output() -> bool:
    """Return whether a stream of this program is a pipe that nobody reads, and lead it nowhere then."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_reader_gone(stream)]
    for stream in closed:
        # What is left in its buffer would be tried again when the interpreter ends.
        null_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_fd, stream.fileno())
        os.close(null_fd)
    return bool(closed)


def _is_reader_gone(stream: TextIO) -> bool:
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # of a test, or closed
        return False
    if not hasattr(select, "poll"):
        return True  # a pipe broke, and this is the likeliest
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def exit_with_error(message: str) -> NoReturn:
    """End with one line on stderr."""
    print(
        f"hf-videomae: error: {escape_control_characters(redact_credentials(' '.join(message.split())))}",
        file=sys.stderr,
    )
    raise SystemExit(_EXIT_USER_ERROR)


def print_notes(notes: Sequence[str]) -> None:
    """What was left out or assumed, on stderr."""
    for note in notes:
        print(f"note: {escape_control_characters(redact_credentials(note))}", file=sys.stderr)


def default_device() -> str:
    """Return where models run: the accelerator if there is one, or the CPU."""
    import torch

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
