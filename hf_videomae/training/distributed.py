"""Connect the processes of a run, and let them decide, fail and wait together."""

import contextlib
import importlib.util
import itertools
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    broadcast_object_list,
    gather_object,
    set_seed,
)
from transformers.utils import logging

from ..errors import RunError
from ..hub.retry import OUTAGE_SECONDS, outage_retry_seconds
from .recipe import RunRecipe

_Result = TypeVar("_Result")

_UNSUPPORTED_LAUNCH_MODES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration (tensor, context or sequence parallel)",
}
# Far below what the backends wait for a silent process (10 minutes for NCCL).
_HEARTBEAT_SECONDS = 5.0


# Connecting.


def build_accelerator(recipe: RunRecipe) -> Accelerator:
    """Connect the processes of the run and seed them.

    Raises:
        RunError: for what the trainer does not support (fp16, DeepSpeed, FSDP), or a tracker that is not installed.
    """
    for tracker in recipe.report_to:
        if importlib.util.find_spec(tracker) is None and not (
            tracker == "tensorboard" and importlib.util.find_spec("tensorboardX")
        ):
            raise RunError(f"--report_to {tracker}: it is not installed; pip install {tracker}")
    _check_launch()
    accelerator = Accelerator(
        # Without this, several processes on a machine without a GPU would each train by themselves.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=recipe.mixed_precision,
        log_with=list(recipe.report_to) or None,
        project_dir=recipe.output_dir,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            # One process may wait so long for the network; the 10 minutes of NCCL would end the others before.
            InitProcessGroupKwargs(timeout=timedelta(seconds=2 * max(OUTAGE_SECONDS, outage_retry_seconds()))),
        ],
    )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise RunError(f"mixed precision {accelerator.mixed_precision} is not supported; use bf16 or no")
    if accelerator.gradient_accumulation_steps != 1:
        raise RunError("set accumulation with --gradient_accumulation, not in Accelerate's configuration")
    supported = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    if accelerator.distributed_type not in supported:
        raise RunError(f"{accelerator.distributed_type.value} is not supported; launch with one process per GPU (DDP)")
    set_seed(recipe.seed, device_specific=True)  # drop path must differ between the processes
    if accelerator.device.type == "cpu":
        _limit_cpu_threads()
    logging.disable_progress_bar()  # one for each checkpoint would break ours
    return accelerator


def _check_launch() -> None:
    """Refuse what `accelerate launch` was asked for and would ignore silently.

    `accelerate launch --num_processes 2` starts one process on a CPU without a message, but it leaves these variables.

    Raises:
        RunError: naming what was asked for.
    """
    for variable, name in _UNSUPPORTED_LAUNCH_MODES.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            # Without GPUs Accelerate ignores them and trains in one process.
            raise RunError(
                f"Accelerate's configuration asks for {name} ({variable}), which is not supported; set "
                f"distributed_type to MULTI_GPU for one process per GPU (DDP), or NO, as in examples/accelerate"
            )
    is_launched_on_cpu = "ACCELERATE_USE_CPU" in os.environ and os.environ.get("MASTER_ADDR") == "127.0.0.1"
    if is_launched_on_cpu and "MASTER_PORT" in os.environ and "LOCAL_RANK" not in os.environ:
        raise RunError(
            "accelerate launch was asked for several processes, but without GPUs it starts one; launch them with "
            "--config_file examples/accelerate/cpu-2.yaml, or add --multi_gpu (they will run on the CPU over gloo)"
        )


def _limit_cpu_threads() -> None:
    """Compute with half of the cores of this process on a CPU, and leave the other half to decoding.

    Threads that wait for each other on a core that a worker has taken make training ten times slower. The number of
    threads must not depend on the number of workers: sums over another number of threads differ in their last bits,
    and a resumed run would no longer equal one that was not interrupted.
    """
    own_cores = available_cores() // local_world_size()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), own_cores // 2)))


def available_cores() -> int:
    """Return the number of cores of this machine that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_world_size() -> int:
    """Return the number of training processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


# Failing and waiting together.


def raise_on_all_ranks(attempt: Callable[[], _Result], *errors: type[Exception]) -> _Result:
    """Call something that may fail in one process only; if it does, raise in all of them. Returns its result.

    Args:
        attempt: called in every process.
        errors: what it may raise.

    Raises:
        RunError: in the processes in which it did not fail, with the message of the first one in which it did.
    """
    result, failure = None, None
    try:
        result = attempt()
    except errors as error:
        failure = error
    messages = gather_object([None if failure is None else str(failure)])
    if failure is not None:
        raise failure
    message = next((message for message in messages if message is not None), None)
    if message is not None:
        raise RunError(message)
    return cast(_Result, result)


def run_on_main_process(work: Callable[[], _Result], *, what: str) -> _Result:
    """Do something in the main process while the others wait, however long it takes; return its result in all of them.

    Args:
        work: raises `RunError` if it fails.
        what: its name in a message of the other processes.

    Raises:
        RunError: in all processes, if the work failed.
    """
    processes = PartialState()
    if processes.num_processes == 1:
        return work()
    background = _BackgroundWork(work) if processes.is_main_process else None
    while True:
        # Repeat the status: a process that hears nothing for long takes the others for dead.
        status: list[Any] = [None if background is None else background.poll_status(_HEARTBEAT_SECONDS)]
        state, value = broadcast_object_list(status)[0]
        if state == "done":
            result: _Result = value
            return result
        if state == "failed":
            raise value if isinstance(value, RunError) else RunError(f"{what} failed in the first process")


class _BackgroundWork(Generic[_Result]):
    """Work in a thread, so that the process can report meanwhile that it is still working."""

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
        """Return (working, done or failed; the result or the error), after so many seconds at most."""
        self._thread.join(seconds)
        return ("working", None) if self._thread.is_alive() else self._status


class StopSignalChannel:
    """Send a stop signal to the other processes of a run, through the store that connects them.

    A signal may reach one process alone while another waits for its data and takes part in no collective operation.
    """

    _runs = itertools.count()

    def __init__(self) -> None:
        self._key = f"hf_videomae/stop/{next(self._runs)}"

    def broadcast_stop(self, number: int) -> None:
        """Send the number of a signal."""
        with contextlib.suppress(RuntimeError, ValueError):  # the process that holds the store may have left
            _default_store().set(self._key, str(number))

    def received_stop(self) -> int:
        """Return the signal that another process has sent, or 0."""
        with contextlib.suppress(RuntimeError, ValueError):
            if _default_store().check([self._key]):
                return int(_default_store().get(self._key))
        return 0


def _default_store() -> Any:
    from torch.distributed.distributed_c10d import _get_default_store

    return _get_default_store()
