"""What one process does for all, however long it takes."""

import contextlib
import itertools
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..errors import RunError

_Result = TypeVar("_Result")
# Far below what the backends wait for a process that is silent (10 minutes for NCCL).
_HEARTBEAT_SECONDS = 5.0


def run_on_main_process(work: Callable[[], _Result], *, what: str) -> _Result:
    """Do something in the first process; the others wait for it, and have its result too.

    Args:
        work: what it does; `RunError` where it fails.
        what: in words, for the other processes.

    Raises:
        RunError: in all processes, when the work failed.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    processes = PartialState()
    if processes.num_processes == 1:
        return work()
    working = _BackgroundWork(work) if processes.is_main_process else None
    while True:
        # Told again and again: a process that hears nothing for long takes the others for dead.
        poll_status: list[Any] = [None if working is None else working.poll_status(_HEARTBEAT_SECONDS)]
        state, value = broadcast_object_list(poll_status)[0]
        if state == "done":
            result: _Result = value
            return result
        if state == "failed":
            raise value if isinstance(value, RunError) else RunError(f"{what} failed in the first process")


class StopSignalChannel:
    """Tell the other processes of a run of a stop signal, through the store that connects them.

    A signal may reach one process alone while another waits for its data, and takes part in nothing.
    """

    _runs = itertools.count()

    def __init__(self) -> None:
        self._key = f"hf_videomae/stop/{next(self._runs)}"

    def broadcast_stop(self, number: int) -> None:
        """Tell them of a signal."""
        with contextlib.suppress(RuntimeError, ValueError):  # the process that holds the store may have left
            _default_store().set(self._key, str(number))

    def received_stop(self) -> int:
        """Return the signal that one of them told of, or 0."""
        with contextlib.suppress(RuntimeError, ValueError):
            if _default_store().check([self._key]):
                return int(_default_store().get(self._key))
        return 0


def _default_store() -> Any:
    from torch.distributed.distributed_c10d import _get_default_store

    return _get_default_store()


class _BackgroundWork(Generic[_Result]):
    """Work in a thread, so that the process can tell the others that it is at it."""

    def __init__(self, work: Callable[[], _Result]) -> None:
        self._work = work
        self._status: tuple[str, Any] = ("failed", None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._status = ("done", self._work())
        except RunError as error:
            self._status = ("failed", error)

    def poll_status(self, seconds: float) -> tuple[str, Any]:
        """(working, done or failed; the result or the error), after so many seconds at most."""
        self._thread.join(seconds)
        return ("working", None) if self._thread.is_alive() else self._status
