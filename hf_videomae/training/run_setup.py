"""Before a run: what it needs of its task and its data, its processes, its length, and where it starts."""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    gather_object,
    set_seed,
)
from torch import Tensor, nn
from transformers.utils import logging

from .. import run_files
from ..checkpoint_dir import (
    CheckpointError,
    checkpoint_run_id,
    checkpoint_step,
    find_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    read_state,
)
from ..console import log_main
from ..errors import RunError
from ..filesystem import check_folder_writable, create_folder
from ..folder_lock import check_folder_unlocked, lock_folder
from ..hub.retry import OUTAGE_SECONDS, outage_retry_seconds
from .distributed import run_on_main_process
from .hub_checkpoints import HubCheckpoint, download_checkpoint, is_hub_resume, latest_hub_checkpoint
from .optim import CosineSchedule, scale_lr
from .recipe import AUTO, RunRecipe

Batch = dict[str, Any]
Result = TypeVar("Result")

DEFAULT_WARMUP_FRACTION = 0.05
_UNSUPPORTED_LAUNCH_MODES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration (tensor, context or sequence parallel)",
}
_RUN_FILE_PATTERNS = (
    run_files.METRICS_FILE,
    run_files.RUN_FILE,
    run_files.LOSS_CURVE_FILE,
    run_files.BAD_VIDEOS_FILE,
    run_files.NONFINITE_FILE,
    run_files.PUBLISHED_FILE,
    "samples-*.jsonl",
    "reconstruction-*",
    "evaluation.json",
    "predictions.jsonl",
    "confusion.png",
    "config.json",
    "model.safetensors",
)


_RESULT_FILES = (run_files.LOSS_CURVE_FILE, "evaluation.json", "predictions.jsonl", "config.json", "model.safetensors")
"""Of these, what only a run with a checkpoint or a result has."""


class TrainLoader(Protocol):
    """What a run needs of `hf_videomae.data.build_loader`'s result."""

    epoch: int
    steps_per_epoch: int | None
    bad_videos: list[dict[str, Any]]
    seconds: Mapping[str, float]

    def __iter__(self) -> Iterator[Batch]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_states(self, states: Sequence[dict[str, Any]]) -> None: ...


class Task(Protocol):
    """What a run trains.

    Attributes:
        name: of the task, e.g. "pretrain".
        baseline_name: what `baseline` measures, for the loss picture; None: nothing.
    """

    name: str
    baseline_name: str | None

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss over a batch. Accumulation averages it over equal batches."""

    def baseline(self, batch: Batch) -> float | None:
        """The loss of the simplest prediction on this batch."""

    def save(self, folder: Path) -> None:
        """Write the model and what belongs to it, as `from_pretrained` reads it."""

    def run_metadata(self) -> dict[str, Any]:
        """What `run.json` says of the task: `data` (a dictionary), `parents`, and so on."""

    def finalize_output(self, output_dir: Path) -> list[str]:
        """After the last step, in the first process: pictures and the like. Returns what was written, for the user."""


@dataclass(frozen=True)
class ValidationResult:
    """What a validation found.

    Attributes:
        numbers: by the names that they have in `metrics.jsonl`.
        summary: a line for the user.
    """

    numbers: dict[str, float]
    summary: str


class Validator(Protocol):
    """What a run measures on other data. All processes call it at the same time and get the same."""

    def is_due(self, step: int, *, last: bool) -> bool:
        """Whether to measure after a step, which may be the run's last."""

    def validate(self) -> ValidationResult:
        """Of the model in training; `RunError` where nothing can be measured."""

    def test(self) -> None:
        """Of the final model, once it is saved."""


class RunPublisher(Protocol):
    """Where a run is published. Only the first process calls it."""

    def start(self, run_id: str) -> None:
        """Take the repository for this run, before its first step; `ValueError` in one line where that cannot be."""

    def publish_checkpoint(self, checkpoint: Path) -> None:
        """A checkpoint in the middle of the run was written. Returns at once, and never raises for the network."""

    def publish_final(self, step: int, checkpoint: Path | None, *, is_interrupted: bool = False) -> int:
        """Publish how the run ended, wait for it, and tell the user.

        Args:
            step: the last one done.
            checkpoint: whose model it is; None: the finished one at the top of the output directory.
            is_interrupted: a signal asked to stop: wait for a push that gets on, but not for a Hub that does not answer.

        Returns:
            0; 1 when it could not be published; 128 + the signal that ended the waiting.
        """

    def report_unpublished(self) -> None:
        """The run failed: tell what of its saves is not published."""


def raise_on_all_ranks(attempt: Callable[[], Result], *errors: type[Exception]) -> Result:
    """Something that may fail in one process alone: then all of them stop, and the reason is told in one voice.

    Args:
        attempt: called in every process.
        errors: that it may raise.

    Raises:
        RunError: in the processes where it did not fail, with the reason of the first in which it did.
    """
    result, fault = None, None
    try:
        result = attempt()
    except errors as error:
        fault = error
    faults = [text for text in gather_object([None if fault is None else str(fault)]) if text is not None]
    if fault is not None:
        raise fault
    if faults:
        raise RunError(faults[0])
    return cast(Result, result)


# Before the run.


def build_accelerator(recipe: RunRecipe) -> Accelerator:
    """The processes of the run, connected and seeded.

    Raises:
        RunError: for what this loop does not train with (fp16, DeepSpeed, FSDP), or a tracker that is not installed.
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
            # One process may wait for the network as long as that; NCCL's own 10 minutes would end the others first.
            InitProcessGroupKwargs(timeout=timedelta(seconds=2 * max(OUTAGE_SECONDS, outage_retry_seconds()))),
        ],
    )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise RunError(f"mixed precision {accelerator.mixed_precision} is not supported; use bf16 or no")
    if accelerator.gradient_accumulation_steps != 1:
        raise RunError("set accumulation with --gradient_accumulation, not in Accelerate's configuration")
    plain = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    if accelerator.distributed_type not in plain:
        raise RunError(f"{accelerator.distributed_type.value} is not supported; launch with one process per GPU (DDP)")
    set_seed(recipe.seed, device_specific=True)  # drop path must not be the same everywhere
    if accelerator.device.type == "cpu":
        _limit_cpu_threads()
    logging.disable_progress_bar()  # one for each checkpoint would break ours
    return accelerator


def _limit_cpu_threads() -> None:
    """On a CPU half of a process's cores compute and half are left to decode, whatever the number of workers.

    Threads that wait for each other on a core which a worker has taken cost ten times the speed. The number must not
    depend on the workers: sums over other numbers of threads differ in their last bits, and a resumed run would.
    """
    mine = _available_cores() // _local_world_size()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), mine // 2)))


def _available_cores() -> int:
    """Of this machine, those that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _local_world_size() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def describe_compute(recipe: RunRecipe, *, device: torch.device) -> list[str]:
    """Who computes and who decodes on this machine."""
    cores, processes, workers = _available_cores(), _local_world_size(), recipe.num_workers
    computes = f"computes on {device.type}"
    if device.type == "cpu":
        computes = f"computes in {_pluralize(torch.get_num_threads(), 'thread')}"
    decodes = f"{_pluralize(workers, 'worker')} of one thread {'decodes' if workers == 1 else 'each decode'} for it"
    who = "the process" if processes == 1 else f"each of {processes} processes"
    lines = [f"{_pluralize(cores, 'core')}: {who} {computes}, {decodes if workers else 'and decodes in between'}"]
    if workers * processes > max(cores, processes):
        fitting = max(1, cores // processes)
        lines.append(
            f"note: {workers * processes} workers share {_pluralize(cores, 'core')}; with --num_workers {fitting} each "
            f"has its own"
        )
    return lines


def _pluralize(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _check_launch() -> None:
    """Refuse what `accelerate launch` was asked for and would leave out without a word.

    `accelerate launch --num_processes 2` starts one process on a CPU and says nothing; its traces do.

    Raises:
        RunError: naming what was asked for.
    """
    for variable, name in _UNSUPPORTED_LAUNCH_MODES.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            # Without GPUs Accelerate leaves these out and trains plainly.
            raise RunError(
                f"Accelerate's configuration asks for {name} ({variable}), which is not supported; set "
                f"distributed_type to MULTI_GPU for one process per GPU (DDP), or NO, as in examples/accelerate"
            )
    asked = "ACCELERATE_USE_CPU" in os.environ and os.environ.get("MASTER_ADDR") == "127.0.0.1"
    if asked and "MASTER_PORT" in os.environ and "LOCAL_RANK" not in os.environ:
        raise RunError(
            "accelerate launch was asked for several processes, but without GPUs it starts one; launch them with "
            "--config_file examples/accelerate/cpu-2.yaml, or add --multi_gpu (they will run on the CPU over gloo)"
        )


def resolve_resume_checkpoint(recipe: RunRecipe) -> Path | None:
    """The checkpoint that the run goes on from, or None for a new run.

    Raises:
        CheckpointError: when `--resume` names something that cannot be resumed, or the model is another one.
        RunError: when the output directory holds an earlier run and neither `--resume` nor `--overwrite` was given.
    """
    raise_on_all_ranks(partial(_check_output_dir, recipe), RunError)
    if recipe.resume is None:
        _check_no_previous_run(recipe)
        return None
    if is_hub_resume(recipe.resume):
        fetched = run_on_main_process(
            partial(_resolve_hub_checkpoint, recipe), what=f"fetching a checkpoint of {recipe.resume}"
        )
        if not all(gather_object([fetched.is_dir()])):
            raise RunError(
                f"--output_dir {recipe.output_dir} is not visible to all processes; give a shared directory"
            )
        return fetched
    checkpoint = find_checkpoint(recipe.resume, output_dir=recipe.output_dir)
    if checkpoint is None:
        if is_fresh_restart(recipe):
            log_main(
                f"note: --resume: the run in {recipe.output_dir} was interrupted before its first checkpoint, and "
                f"starts at step 0 in place of its files"
            )
        else:
            _check_no_previous_run(recipe)
            log_main(f"note: --resume: no checkpoint in {recipe.output_dir} yet, starting at step 0")
        return None
    _check_resume_compatible(read_state(checkpoint), recipe, name=str(checkpoint))
    if has_other_run(Path(recipe.output_dir), checkpoint) and not recipe.overwrite:
        raise CheckpointError(
            f"{recipe.output_dir} holds another run than that of {checkpoint}; give another --output_dir, or "
            f"--overwrite to drop what is there"
        )
    later = [
        path
        for path in list_checkpoints(recipe.output_dir)
        if (checkpoint_step(path) or 0) > (checkpoint_step(checkpoint.resolve()) or 0)
    ]
    if later and checkpoint != find_checkpoint("auto", output_dir=recipe.output_dir) and not recipe.overwrite:
        raise CheckpointError(
            f"{recipe.output_dir} holds {later[-1].name}, later than {checkpoint.name}; resume that one, give another "
            f"--output_dir, or --overwrite to drop the later ones"
        )
    return checkpoint


def _resolve_hub_checkpoint(recipe: RunRecipe) -> Path:
    """The newest checkpoint of the Hub, in the output directory, or a local one of the same run that is as new."""
    assert recipe.resume is not None
    folder, remote = Path(recipe.output_dir), latest_hub_checkpoint(recipe.resume)
    _check_resume_compatible(remote.state, recipe, name=f"{remote.name} of {remote.repo}")
    local = None if recipe.overwrite else remote.find_local_checkpoint(folder)
    if local is not None:
        log_main(
            f"note: {local} is of the same run and no older than {remote.name} of {remote.repo}: going on from it"
        )
        return local
    lock = lock_folder(create_folder(folder, kind=RunError), kind=RunError)
    try:
        return _download_into(folder, remote, recipe)
    except RunError:
        lock.release()
        raise


def _download_into(folder: Path, remote: HubCheckpoint, recipe: RunRecipe) -> Path:
    """Bring a checkpoint of the Hub into a folder that this process has, unless it holds another run."""
    if remote.is_same_run(folder):
        return download_checkpoint(remote, folder)
    earlier = find_run_outputs(folder)
    if earlier and not recipe.overwrite:
        raise CheckpointError(
            f"{folder} holds another run than that of {remote.repo}; give another --output_dir, or --overwrite to "
            f"drop what is there"
        )
    _check_no_previous_run(recipe)
    return download_checkpoint(remote, folder, replacing=earlier)


def _check_resume_compatible(state: Mapping[str, Any], recipe: RunRecipe, *, name: str) -> None:
    """Whether these settings can go on with a run."""
    if recipe.task not in (None, state["task"]):
        raise CheckpointError(
            f"{name} is of a {state['task']} run, it cannot go on as {recipe.task}; start a new run from its weights "
            f"with --model"
        )
    trained = state["recipe"].get("model")
    if trained != recipe.model:
        raise CheckpointError(
            f"{name} was trained with --model {trained}, not {recipe.model}; give its --model or leave it out"
        )


def _check_output_dir(recipe: RunRecipe) -> None:
    """Refuse, in the first process, a directory that cannot be written or that another run writes into."""
    if int(os.environ.get("RANK", "0")) == 0:
        check_folder_writable(recipe.output_dir, kind=RunError)
        check_folder_unlocked(recipe.output_dir, kind=RunError)


def is_fresh_restart(recipe: RunRecipe) -> bool:
    """Return whether `--resume` finds a run of the same task that ended before it had a checkpoint or a result.

    Its lines go, and the run begins again: one command line serves the first and every later start.
    """
    folder = Path(recipe.output_dir)
    found = find_run_outputs(folder)
    if recipe.resume != AUTO or not found or any(path.name in _RESULT_FILES or path.is_dir() for path in found):
        return False
    run = run_files.read_run_record(folder)
    is_same_task = recipe.task is None or run.get("task", recipe.task) == recipe.task
    return run.get("status") != "finished" and is_same_task


def resolve_run_id(recipe: RunRecipe, resume: Path | None) -> str | None:
    """Return the id of the run that goes on or begins again; None for a new one."""
    if resume is None and is_fresh_restart(recipe):
        return run_files.read_run_id(Path(recipe.output_dir))  # its repository on the Hub knows it by this
    return checkpoint_run_id(resume)


def _check_no_previous_run(recipe: RunRecipe) -> None:
    folder = Path(recipe.output_dir)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--output_dir {folder} is a file; give a directory")
    if not recipe.overwrite and find_run_outputs(folder):
        found = "an earlier run; go on with --resume"
        if recipe.resume == "auto":
            found = "an earlier run without a whole checkpoint to go on from"
        raise RunError(f"{folder} holds {found}, start anew with --overwrite, or give another --output_dir")


def find_run_outputs(folder: Path) -> list[Path]:
    """What an earlier run left in an output directory."""
    files = [path for pattern in _RUN_FILE_PATTERNS for path in folder.glob(pattern)]
    return [*files, *list_checkpoints(folder)]


def has_other_run(folder: Path, checkpoint: Path) -> bool:
    """Whether an output directory holds files of a run that a checkpoint from elsewhere is not of."""
    if checkpoint.resolve().parent == folder.resolve() or not find_run_outputs(folder):
        return False
    return checkpoint_run_id(checkpoint) not in (
        run_files.read_run_id(folder),
        checkpoint_run_id(latest_checkpoint(folder)),
    )


def build_lr_schedule(recipe: RunRecipe, *, global_batch: int, steps_per_epoch: int | None) -> CosineSchedule:
    """Length, warm-up and learning rate of a run, in steps.

    Epochs are converted with the steps that one pass over the data takes. A warm-up given in epochs keeps its share
    when `--max_steps` makes the run shorter or longer.

    Raises:
        RunError: when the length cannot be known or the warm-up does not fit.
    """
    if recipe.base_lr is None:
        raise RunError("the learning rate is missing; give --base_lr, for 256 clips per step")
    total = recipe.max_steps
    if total is None:
        if recipe.epochs is None:
            raise RunError("the length of the run is missing; give --max_steps, or --epochs")
        if steps_per_epoch is None:
            raise RunError("--epochs needs a data set whose size is known, this one is streamed; give --max_steps")
        total = max(1, round(recipe.epochs * steps_per_epoch))
    if recipe.warmup_steps is not None:
        warmup = recipe.warmup_steps
    elif recipe.warmup_epochs is not None and recipe.epochs is not None:
        warmup = round(total * recipe.warmup_epochs / recipe.epochs)
    elif recipe.warmup_epochs is not None and steps_per_epoch is not None:
        warmup = round(recipe.warmup_epochs * steps_per_epoch)
    else:
        warmup = round(total * DEFAULT_WARMUP_FRACTION)
    return CosineSchedule(
        peak=scale_lr(recipe.base_lr, global_batch),
        floor=scale_lr(recipe.min_lr, global_batch),
        total_steps=total,
        warmup_steps=warmup,
    )
