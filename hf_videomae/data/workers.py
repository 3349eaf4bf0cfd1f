"""Decode in worker processes: send each item of work to one, and bring back what was decoded or a typed error.

Training and evaluation both call `run_in_workers`. They differ in what an item is (the spec of a batch, or a video),
and in the function that a worker calls with it. Workers list bad videos and HDR videos, return freed memory to the
system, ignore the first stop signal, and end with the process that started them.
"""

import atexit
import ctypes
import functools
import inspect
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from .. import stop_signals
from ..credentials import redact_credentials
from ..errors import DataError
from ..video.decoding import VideoBackendError, VideoDecodeError
from ..video.hdr import Transfer, hdr_counter
from .source import Sample
from .stage_timer import StageTimer
from .url_videos import retry_video

_Content = TypeVar("_Content")
_Decoded = TypeVar("_Decoded")

_POLL_SECONDS = 0.25
# glibc keeps the memory that decoding frees: without trimming, a worker grew by a gigabyte in 500 batches. Videos
# differ in size a hundredfold, and about as much memory as was used lies idle: so count bytes.
_TRIM_BYTES = 128 * 2**20


@dataclass(slots=True)
class WorkerResult(Generic[_Content]):
    """What comes back for one item.

    Attributes:
        content: what the worker made of the item; None after an error.
        bad: videos that cannot be decoded: `path`, `id`, `reason`.
        timer: time by stage.
        decoded_bytes: bytes of the tensors decoded.
        hdr: the videos of high dynamic range that the worker decoded.
        error, error_type: an error that ends the iteration; raised in a worker, it would arrive inside a traceback,
            but users should read its one line.
    """

    content: _Content | None = None
    bad: list[dict[str, str]] = field(default_factory=list)
    timer: StageTimer = field(default_factory=StageTimer)
    decoded_bytes: int = 0
    hdr: Mapping[str, Transfer] = field(default_factory=dict)
    error: str = ""
    error_type: type[Exception] | None = None

    def decode(self, sample: Sample, decode: Callable[[Sample], _Decoded]) -> _Decoded | None:
        """Return `decode(sample)`, called again while the network fails; None for a bad video, which joins `bad`."""
        try:
            decoded = retry_video(sample, decode)
        except (VideoDecodeError, OSError) as error:
            # A file that vanished, or that may not be read, is as bad as a broken one.
            reason = redact_credentials(error.reason if isinstance(error, VideoDecodeError) else str(error))
            self.bad.append({"path": sample.location, "id": sample.id, "reason": reason})
            return None
        self.decoded_bytes += _tensor_bytes(decoded)
        return decoded

    def unwrap(self) -> _Content:
        """Return the content, or raise the error."""
        if self.error_type is not None:
            raise self.error_type(self.error)
        assert self.content is not None
        return self.content


Work = Callable[[Any, WorkerResult[_Content]], _Content]
"""Makes the content of an item, in any process, and records bad videos and times in the result. It is picklable."""


def run_in_workers(
    work: Work[_Content],
    items: Iterable[Any],
    *,
    num_workers: int,
    prefetch: int = 2,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> Generator[WorkerResult[_Content], None, None]:
    """Yield the result of each item, in order.

    Items are read ahead, in this process. A `DataError` of reading them comes as the last result. A stop signal ends
    the wait for a result, even if the work is part of a training. Close the generator when done with it
    (`contextlib.closing`): this ends the workers, at once after a stop signal, because one may wait for the network.

    Args:
        work: makes the content of an item.
        items: of work; what they are is between the reader and `work`.
        num_workers: processes; 0 works in this one.
        prefetch: results that each worker keeps ready.
        pin_memory: for copies to a GPU in the background.
        start_method: `fork`, `spawn` or `forkserver`; None for the platform's.

    Raises:
        DataError: while iterating, when a worker was killed.
    """
    exit_flag: Any = SimpleNamespace(value=0)
    options: dict[str, Any] = {}
    if num_workers:
        # Without a lock: a worker may be killed at any time.
        exit_flag = multiprocessing.get_context(start_method).RawValue("b", 0)
        init = functools.partial(_init_worker, exit_flag=exit_flag)
        options = {"worker_init_fn": init, "multiprocessing_context": start_method, "prefetch_factor": prefetch}
    sampler: Any = _read_until_error(items)
    loader: DataLoader[Any] = DataLoader(
        _WorkDataset(work),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # a generator of its own keeps the process's global random state untouched
        **options,
    )
    results: Generator[WorkerResult[_Content], None, None] = _receive_results(loader, exit_flag)
    _open_results[results] = exit_flag
    return results


def _read_until_error(items: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from items
    except DataError as error:  # raised here, it would come before the results of earlier items
        yield WorkerResult(error=str(error), error_type=type(error))


class _WorkDataset(Dataset[WorkerResult[_Content]]):
    """Works on items, in any process."""

    def __init__(self, work: Work[_Content]) -> None:
        self.work, self._untrimmed_bytes = work, 0

    def __getitem__(self, item: Any) -> WorkerResult[_Content]:
        if isinstance(item, WorkerResult):
            return item
        if self._untrimmed_bytes >= _TRIM_BYTES:
            self._untrimmed_bytes = 0
            _trim_malloc()
        result: WorkerResult[_Content] = WorkerResult()
        try:
            result.content = self.work(item, result)
        except (DataError, VideoBackendError) as error:
            result.error, result.error_type = str(error), type(error)
        self._untrimmed_bytes += result.decoded_bytes
        result.hdr = hdr_counter.take()
        return result


def _tensor_bytes(decoded: Any) -> int:
    if isinstance(decoded, torch.Tensor):
        return decoded.nbytes
    parts = decoded.values() if isinstance(decoded, dict) else decoded if isinstance(decoded, (list, tuple)) else ()
    return sum(map(_tensor_bytes, parts))


def _receive_results(loader: DataLoader[Any], exit_flag: Any) -> Generator[WorkerResult[_Content], None, None]:
    """Start the workers of a DataLoader and yield their results. An error ends the workers."""
    try:
        with stop_signals.interruptible():
            results = iter(loader)  # reads the first items, which may raise
        _reset_sigchld_handler()
        while True:
            with stop_signals.interruptible():
                result = next(results, None)
            if result is None:
                return
            hdr_counter.add(result.hdr)
            yield result
    except BaseException as error:
        # The traceback of an error keeps torch's iterator alive, so it does not end the workers itself.
        if not isinstance(error, GeneratorExit) or stop_signals.is_stop_requested():
            exit_flag.value = 1
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid"):
            raise DataError(
                f"a worker process that decodes was killed ({' '.join(str(error).split())}); usually because "
                f"the memory is full: give fewer --num_workers or a smaller --batch_size"
            ) from None
        raise


_open_results: weakref.WeakKeyDictionary[Generator[Any, None, None], Any] = weakref.WeakKeyDictionary()


@atexit.register
def _end_open_results() -> None:
    """End what was left running, while the modules that it needs are still there.

    multiprocessing would send one SIGTERM, which workers ignore, and wait forever.
    """
    for results, exit_flag in list(_open_results.items()):
        if inspect.getgeneratorstate(results) != inspect.GEN_RUNNING:
            results.close()
        exit_flag.value = 1


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


def _trim_malloc() -> None:
    """Return freed memory to the system, if the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
