"""Share what all commands do: exit codes, errors and notes."""

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
"""The exit status of a program whose output is no longer read, as after `| head`."""


def both_spellings(name: str) -> tuple[str, str]:
    """Return a flag with underscores and with hyphens: `--short_side`, `--short-side`."""
    return f"--{name}", f"--{name.replace('_', '-')}"


def report_interrupted(error: KeyboardInterrupt, *, is_resumable: bool) -> int:
    """Print that a signal ended the command, and return the exit status, 128 + the signal.

    Args:
        error: the error that the signal raised.
        is_resumable: whether the same command continues from here.
    """
    claim_stop_report()
    remedy = "; run the same command to continue from here" if is_resumable else ""
    print(f"hf-videomae: interrupted{remedy}", file=sys.stderr)
    return getattr(error, "code", _EXIT_INTERRUPTED)


def silence_closed_output() -> bool:
    """Return whether an output stream is a pipe that nobody reads; such streams are redirected to /dev/null."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_reader_gone(stream)]
    for stream in closed:
        # Otherwise the rest of its buffer would be written when the interpreter exits.
        null_fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_fd, stream.fileno())
        os.close(null_fd)
    return bool(closed)


def _is_reader_gone(stream: TextIO) -> bool:
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # replaced by a test, or closed
        return False
    if not hasattr(select, "poll"):
        return True  # a pipe broke, most likely this one
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
    """Print what was left out or assumed, on stderr."""
    for note in notes:
        print(f"note: {escape_control_characters(redact_credentials(note))}", file=sys.stderr)


def default_device() -> str:
    """Return where models run: the accelerator if there is one, or the CPU."""
    import torch

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
