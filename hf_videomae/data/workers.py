"""Worker processes that decode: which signals they take, and when they end."""

import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from .. import stop_signals
from ..errors import DataError

_Result = TypeVar("_Result")

_POLL_SECONDS = 0.25


class Workers:
    """The worker processes of one iteration over a DataLoader.

    Args:
        count: of processes; 0 decodes in the process that iterates.
        start_method: `fork`, `spawn` or `forkserver`; None for the platform's.
    """

    def __init__(self, count: int, *, start_method: str | None = None) -> None:
        self.count, self._start_method = count, start_method
        # Without a lock: a worker may be killed at any time.
        self._exit_flag: Any = multiprocessing.get_context(start_method).RawValue("b", 0) if count else None

    @property
    def options(self) -> dict[str, Any]:
        """Return the arguments of the DataLoader."""
        if not self.count:
            return {"num_workers": 0}
        init = functools.partial(_init_worker, exit_flag=self._exit_flag)
        return {"num_workers": self.count, "worker_init_fn": init, "multiprocessing_context": self._start_method}

    def exit_on_stop_signal(self) -> None:
        """End the workers at once after a stop signal: one may be in the middle of a wait for the network."""
        if self._exit_flag is not None and stop_signals.is_stop_requested():
            self._exit_flag.value = 1

    def results(self, loader: Iterable[_Result]) -> Iterator[_Result]:
        """Start the workers of a DataLoader and return an iterator over what they make.

        The iterator raises `DataError` when one of them was killed; the others end.
        """
        results_iterator = iter(loader)
        _reset_sigchld_handler()
        return self._raise_on_killed_worker(results_iterator)

    def _raise_on_killed_worker(self, results_iterator: Iterator[_Result]) -> Iterator[_Result]:
        try:
            yield from results_iterator
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            self._exit_flag.value = 1
            raise DataError(
                f"a worker process that decodes was killed ({' '.join(str(error).split())}); most often the memory "
                f"is full: give fewer --num_workers or a smaller --batch_size"
            ) from None


def _reset_sigchld_handler() -> None:
    """Take back torch's handler of SIGCHLD: it raises in the middle of whatever the program does.

    The loader itself looks for dead workers while it waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _init_worker(worker: int, *, exit_flag: Any) -> None:
    """Ignore Ctrl-C and one SIGTERM, which reach every process of the group: only the training process decides.

    It may want to finish its step and save. A second SIGTERM, or the end of the training process, ends a worker.
    """

    def ignore_first_sigterm(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_first_sigterm)
    sys.excepthook = _report_unless_disconnected
    threading.Thread(target=_exit_with_parent, args=(os.getppid(), exit_flag), daemon=True).start()


def _report_unless_disconnected(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print the traceback of an error, except where the training process left while it was sent a tensor.

    The thread of `multiprocessing.resource_sharer` that sends it reports the broken connection through this hook.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    if is_main_thread or not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


def _exit_with_parent(parent: int, exit_flag: Any) -> None:
    """End a worker whose training process was killed: half a job in its pipe would keep it waiting for ever."""
    while os.getppid() == parent:
        if exit_flag.value:
            os._exit(0)  # any other status counts as a crash
        time.sleep(_POLL_SECONDS)
    os._exit(1)
