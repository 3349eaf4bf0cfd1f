"""Print lines for the user from the main process, and exit with one line on an error that the user can fix."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .credentials import redact_credentials
from .errors import RunError
from .stop_signals import SignalInterrupt, claim_stop_report, handle_signals
from .text import escape_control_characters

DEBUG_ENV = "HF_VIDEOMAE_DEBUG"


def is_main_process() -> bool:
    """Return whether this is the first of the launched processes (known before the processes are connected)."""
    return int(os.environ.get("RANK", "0")) == 0


def log_main(message: str) -> None:
    """Print one line for the user, from the main process alone."""
    if is_main_process():
        try:
            print(escape_control_characters(redact_credentials(message)), flush=True)
        except BrokenPipeError:
            _redirect_stdout_to_devnull()


def _redirect_stdout_to_devnull() -> None:
    """Continue without a reader, as after `| head`; the files of a run hold its output as well."""
    null_descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_descriptor, sys.stdout.fileno())
    os.close(null_descriptor)
    with suppress(OSError):
        print("note: nobody reads the output any more; the work continues", file=sys.stderr, flush=True)


def log_error(message: str, *, all_ranks: bool = False) -> None:
    """Print one line on stderr, from the main process, or from any process that has an error of its own."""
    if is_main_process() or all_ranks:
        place = "" if is_main_process() else f" in process {os.environ['RANK']}"
        line = escape_control_characters(redact_credentials(" ".join(message.split())))
        with suppress(BrokenPipeError):
            print(f"error{place}: {line}", file=sys.stderr, flush=True)


@contextmanager
def exit_on_user_error(*error_types: type[Exception]) -> Iterator[None]:
    """Turn errors in a user's input into one line and exit code 2, and a signal into one line and 128 + its number.

    Args:
        *error_types: the errors to report so. None given: all errors that wrong input raises during the set-up of a
            run. They are raised in all processes alike, so only the main process reports them.

    HF_VIDEOMAE_DEBUG=1 shows the traceback as well.
    """
    caught = error_types or (ValueError, OSError, ImportError, _backend_error())
    try:
        with handle_signals():
            yield
    except caught as error:
        if os.environ.get(DEBUG_ENV):
            traceback.print_exc()
        log_error(str(error) or type(error).__name__, all_ranks=bool(error_types) and not isinstance(error, RunError))
        _destroy_process_group()
        raise SystemExit(2) from None
    except KeyboardInterrupt as error:
        raise SystemExit(log_signal_exit(error)) from None


def log_signal_exit(error: KeyboardInterrupt) -> int:
    """Log that a signal ended the program, and return its exit code."""
    was_immediate = not isinstance(error, SignalInterrupt) or error.is_second_signal
    if claim_stop_report() or was_immediate:
        log_error("interrupted at once: nothing more was saved" if was_immediate else str(error))
    return int(getattr(error, "code", 130))


def _destroy_process_group() -> None:
    """Leave the process group in order.

    The threads of gloo hold tensors of Python. A thread that frees them while the interpreter exits aborts the process
    ("terminate called without an active exception"), and the launcher then reports signal 6 instead of the error.
    """
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _backend_error() -> type[Exception]:
    from .video.decoding import VideoBackendError

    return VideoBackendError
