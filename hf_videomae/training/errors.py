"""Errors that a user can put right, told in one line."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ..records import without_credentials

DEBUG_VARIABLE = "HF_VIDEOMAE_DEBUG"


class RunError(ValueError):
    """Something about the run that its user can change; the message says what came, what is wanted and what to do."""


def is_main_process() -> bool:
    """Whether this is the first of the launched processes (known before the processes are connected)."""
    return int(os.environ.get("RANK", "0")) == 0


def say(message: str) -> None:
    """One line for the user, from the first process alone."""
    if is_main_process():
        print(without_credentials(message), flush=True)


def say_error(message: str, *, everywhere: bool = False) -> None:
    """One line on the error stream, from the first process, or from any that has something of its own to say."""
    if is_main_process() or everywhere:
        place = "" if is_main_process() else f" in process {os.environ['RANK']}"
        print(f"error{place}: {without_credentials(' '.join(message.split()))}", file=sys.stderr, flush=True)


@contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of a user's input into one line and exit code 2, and Ctrl-C into exit code 130.

    Args:
        *kinds: the errors to report so. Without any: all that wrong input raises while a run is being set up, in all
            processes alike, so that one of them reports it. HF_VIDEOMAE_DEBUG=1 shows the traceback as well.
    """
    caught = kinds or (ValueError, OSError, ImportError, _backend_error())
    try:
        yield
    except caught as error:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        say_error(str(error) or type(error).__name__, everywhere=bool(kinds) and not isinstance(error, RunError))
        _disconnect()
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        say_error("interrupted at once: nothing more was saved")
        raise SystemExit(130) from None


def _disconnect() -> None:
    """Leave the other processes in order.

    The threads of gloo hold tensors of Python: one that lets go of them while the interpreter ends aborts the process
    ("terminate called without an active exception"), and the launcher then tells of signal 6 in place of the error.
    """
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _backend_error() -> type[Exception]:
    from ..video.decoding import VideoBackendError

    return VideoBackendError
