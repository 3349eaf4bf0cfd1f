"""Run worker processes that decode: start them, choose which signals they obey, end them, and trim their memory."""

import atexit
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from .. import stop_signals
from ..errors import DataError

_Result = TypeVar("_Result")

_POLL_SECONDS = 0.25
# glibc keeps the memory that decoding frees: without trimming, a worker grew by a gigabyte in 500 batches.
TRIM_EVERY_NUM_VIDEOS = 25


class Workers:
    """The worker processes of one iteration over a DataLoader.

    Args:
        count: number of processes; 0 decodes in the process that iterates.
        start_method: `fork`, `spawn` or `forkserver`; None for the platform's.
    """

    def __init__(self, count: int, *, start_method: str | None = None) -> None:
        self.count, self._start_method = count, start_method
        # Without a lock: a worker may be killed at any time.
        self._exit_flag: Any = multiprocessing.get_context(start_method).RawValue("b", 0) if count else None
        _all_workers.add(self)

    @property
    def options(self) -> dict[str, Any]:
        """Return the arguments for the DataLoader."""
        if not self.count:
            return {"num_workers": 0}
        init = functools.partial(_init_worker, exit_flag=self._exit_flag)
        return {"num_workers": self.count, "worker_init_fn": init, "multiprocessing_context": self._start_method}

    def exit(self) -> None:
        """End the workers at once, whatever they are doing."""
        if self._exit_flag is not None:
            self._exit_flag.value = 1

    def exit_on_stop_signal(self) -> None:
        """End the workers at once after a stop signal, because one may be waiting for the network."""
        if stop_signals.is_stop_requested():
            self.exit()

    def results(self, loader: Iterable[_Result]) -> Iterator[_Result]:
        """Start the workers of a DataLoader and yield their results. An error ends the workers.

        Raises:
            DataError: when a worker was killed.
        """
        try:
            results_iterator = iter(loader)  # reads the first items of the sampler, which may raise
            _reset_sigchld_handler()
            yield from results_iterator
        except Exception as error:
            # The traceback keeps torch's iterator alive, so it does not end the workers itself.
            self.exit()
            if not (isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")):
                raise
            raise DataError(
                f"a worker process that decodes was killed ({' '.join(str(error).split())}); usually because "
                f"the memory is full: give fewer --num_workers or a smaller --batch_size"
            ) from None


_all_workers: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _exit_all_workers() -> None:
    """End what was left running. multiprocessing would send one SIGTERM, which workers ignore, and wait forever."""
    for workers in list(_all_workers):
        workers.exit()


def _reset_sigchld_handler() -> None:
    """Remove torch's handler of SIGCHLD, which raises at any point of the program.

    The loader itself looks for dead workers while it waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _init_worker(worker: int, *, exit_flag: Any) -> None:
    """Make a worker ignore Ctrl-C and one SIGTERM, because only the training process decides when to stop.

    Signals reach every process of the group, but the training process may want to finish its step and save. A second
    SIGTERM, or the end of the training process, ends a worker.
    """

    def ignore_first_sigterm(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_first_sigterm)
    sys.excepthook = _report_unless_disconnected
    threading.Thread(target=_exit_with_parent, args=(os.getppid(), exit_flag), daemon=True).start()


def _report_unless_disconnected(
    error_type: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print the traceback of an error, unless the training process exited while a tensor was being sent to it.

    The sending thread of `multiprocessing.resource_sharer` reports the broken connection through this hook.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    if is_main_thread or not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(error_type, error, traceback)


def _exit_with_parent(parent: int, exit_flag: Any) -> None:
    """End a worker when its training process is gone: half a spec in its pipe would keep it waiting forever."""
    while os.getppid() == parent:
        if exit_flag.value:
            os._exit(0)  # any other status counts as a crash
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def trim_malloc() -> None:
    """Return freed memory to the system, if the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
