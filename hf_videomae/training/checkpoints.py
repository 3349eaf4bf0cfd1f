"""Write checkpoints completely or not at all, and read them without pickle.

OUTPUT_DIR/checkpoint-STEP/ holds the model as `from_pretrained` reads it, and the state of the run:

    optimizer.safetensors     moments by parameter name
    rank-R.safetensors, .json random generators and position in the data of process R
    run_state.json            step, counters, recipe, the other files with size and SHA-256; written last

The folder is filled under a temporary name and renamed when everything is on the disk.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..checkpoint_checksums import CHECKSUMS_KEY, compute_checksums, dump_checksummed_state
from ..checkpoint_dir import (
    STATE_FILE,
    STATE_FORMAT,
    CheckpointError,
    incomplete_reason,
    list_checkpoints,
    read_checkpoint_json,
)
from ..errors import RunError
from ..filesystem import sync_folder, wrap_write_errors
from ..run_files import copy_file_mode
from .distributed import raise_on_all_ranks

OPTIMIZER_FILE = "optimizer.safetensors"
TEMPORARY_PREFIX = ".unfinished-"


# Optimizer state, by parameter name.


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimizer state as ENTRY/PARAMETER -> tensor on the CPU. Its groups have `names` (`optim`)."""
    tensors = {}
    for name, parameter in _named_parameters(optimizer):
        for entry, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{entry}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors


def load_optimizer_state(checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
    """Fill an optimizer from the file of a checkpoint that holds the result of `optimizer_tensors`.

    Raises:
        CheckpointError: if the file is damaged, or a name or shape does not belong to this optimizer.
    """
    by_name: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in _load_tensors(checkpoint / OPTIMIZER_FILE).items():
        entry, _, name = key.partition("/")
        by_name.setdefault(name, {})[entry] = value
    known = dict(_named_parameters(optimizer))
    if by_name and by_name.keys() != known.keys():
        different = sorted(by_name.keys() ^ known.keys())
        raise CheckpointError(
            f"the checkpoint's optimizer state is of another model: {different[0]} and {len(different) - 1} more "
            f"differ"
        )
    for name, entries in by_name.items():
        for entry, value in entries.items():
            if value.ndim and value.shape != known[name].shape:
                raise CheckpointError(
                    f"the checkpoint's optimizer state for {name} is {tuple(value.shape)}, "
                    f"the parameter {tuple(known[name].shape)}"
                )
            # AdamW counts its steps in a scalar tensor that stays on the CPU unless its kernels are fused.
            device = known[name].device if value.ndim or optimizer.defaults.get("fused") else value.device
            optimizer.state[known[name]][entry] = value.to(device)


def _named_parameters(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, torch.Tensor]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)


# Random generators.


def capture_rng_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state of the random generators of Python, numpy and torch: tensors by name, and JSON values."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        tensors["cuda"] = torch.cuda.get_rng_state()
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    tensors["numpy"] = torch.from_numpy(np.asarray(keys, dtype=np.int64).copy())
    version, internal, gauss_next = random.getstate()
    values = {
        "python": [version, list(internal), gauss_next],
        "numpy": [name, int(position), int(has_gauss), float(gauss)],
    }
    return tensors, values


def restore_rng_state(tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
    """Restore the random generators from the result of `capture_rng_state`."""
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    name, position, has_gauss, gauss = values["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = values["python"]
    random.setstate((version, tuple(internal), gauss_next))


# Checkpoints.


def save_rank_state(folder: Path, rank: int, *, stream: dict[str, Any]) -> None:
    """Write the random generators and the position in the data of one process."""
    tensors, values = capture_rng_state()
    save_file(tensors, folder / f"rank-{rank}.safetensors")
    (folder / f"rank-{rank}.json").write_text(json.dumps({"generators": values, "stream": stream}), encoding="utf-8")


def load_rank_state(checkpoint: Path, rank: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the random generators of one process: tensors and values for `restore_rng_state`."""
    values = read_checkpoint_json(checkpoint / f"rank-{rank}.json")
    return _load_tensors(checkpoint / f"rank-{rank}.safetensors"), values["generators"]


def load_loader_states(checkpoint: Path, processes: int) -> list[dict[str, Any]]:
    """Return the position in the data of each process that wrote a checkpoint."""
    return [read_checkpoint_json(checkpoint / f"rank-{rank}.json")["stream"] for rank in range(processes)]


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); resume from another checkpoint") from None


def save_checkpoint(
    output_dir: Path,
    step: int,
    *,
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    save_model: Callable[[Path], None],
    stream: dict[str, Any],
    rank: int = 0,
    keep: int = 2,
) -> Path:
    """Write checkpoint-STEP from all processes, then remove the oldest ones beyond `keep`; return its folder.

    Args:
        output_dir: a folder that all processes share.
        step: steps done.
        state: JSON values for `run_state.json`.
        optimizer: its groups have `names`.
        save_model: writes the model and what belongs to it into a folder; called in the main process.
        stream: position in the data of this process.
        rank: rank of this process.
        keep: how many checkpoints to keep.

    Raises:
        RunError: in all processes, in one line, if the disk does not accept it in one of them. The unfinished
            checkpoint is removed, and earlier ones stay as they were.
    """
    final, folder = output_dir / f"checkpoint-{step}", output_dir / f"{TEMPORARY_PREFIX}{step}"

    def begin() -> None:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def fill() -> None:
        save_rank_state(folder, rank, stream=stream)
        if rank == 0:
            save_model(folder)
            save_file(optimizer_tensors(optimizer), folder / OPTIMIZER_FILE)

    def finish() -> None:
        if rank == 0:
            _write_manifest(folder, {**state, "format": STATE_FORMAT, "step": step})
            rename_into_place(folder, final)
            prune_checkpoints(output_dir, keep=keep)

    size = _estimate_bytes(output_dir, optimizer)
    in_one_line = wrap_write_errors(
        final.name, output_dir, needed_bytes=size, kind=CheckpointError, also=_describe_last_checkpoint(output_dir)
    )
    try:
        for part in (begin, fill, finish):
            raise_on_all_ranks(in_one_line(part), RunError)
    except RunError:  # maybe of another process
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return final


def save_final_model(output_dir: Path, save_model: Callable[[Path], None]) -> None:
    """Write the model to the top of the output folder, each file completely or not at all.

    Raises:
        CheckpointError: in one line, if the disk does not accept it; unfinished files are removed.
    """
    folder = output_dir / f"{TEMPORARY_PREFIX}model"
    needed_bytes = max(
        (path.stat().st_size for path in output_dir.glob("checkpoint-*/model.safetensors")), default=None
    )

    try:
        with wrap_write_errors(
            "the final model",
            output_dir,
            needed_bytes=needed_bytes,
            kind=CheckpointError,
            also=_describe_last_checkpoint(output_dir),
        ):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            save_model(folder)
            for path in folder.iterdir():
                _fsync_file(path)
                path.replace(output_dir / path.name)
            sync_folder(output_dir)
            folder.rmdir()
    except CheckpointError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _describe_last_checkpoint(output_dir: Path) -> str:
    """Return which checkpoint a user still has, for the message about one that cannot be written."""
    complete = [path for path in list_checkpoints(output_dir) if incomplete_reason(path) is None]
    if not complete:
        return "; no checkpoint was written yet"
    return f"; {complete[-1].name} is intact, continue from it with --resume"


def _estimate_bytes(output_dir: Path, optimizer: torch.optim.Optimizer) -> int:
    """Return the size of the next checkpoint: that of the last one, or of the weights and their two moments."""
    earlier = list_checkpoints(output_dir)
    if earlier:
        return sum(path.stat().st_size for path in earlier[-1].rglob("*") if path.is_file())
    return 3 * sum(parameter.nbytes for _, parameter in _named_parameters(optimizer))


def _write_manifest(folder: Path, state: dict[str, Any]) -> None:
    """List all files with their checksums in the state file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    text = dump_checksummed_state({**state, "files": sizes, CHECKSUMS_KEY: compute_checksums(folder, sizes)})
    (folder / STATE_FILE).write_text(text, encoding="utf-8")
    copy_file_mode(folder / STATE_FILE, files)


def rename_into_place(folder: Path, final: Path) -> None:
    """Sync a complete checkpoint to the disk, then move it to its final name on the same disk.

    A checkpoint of that name is replaced: a resumed run may write a step again.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            _fsync_file(path)
    sync_folder(folder)
    old = _move_aside(final) if final.exists() else None
    folder.rename(final)
    sync_folder(final.parent)
    if old is not None:
        shutil.rmtree(old)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _move_aside(checkpoint: Path) -> Path:
    """Rename a checkpoint before it is removed, so that a kill leaves no incomplete one under its name."""
    old = checkpoint.with_name(f"{TEMPORARY_PREFIX}old-{checkpoint.name}")
    shutil.rmtree(old, ignore_errors=True)
    return checkpoint.rename(old)


def prune_checkpoints(output_dir: Path, *, keep: int) -> None:
    """Remove the oldest complete checkpoints beyond `keep`, and what an interrupted write left."""
    complete = [path for path in list_checkpoints(output_dir) if incomplete_reason(path, contents=False) is None]
    for path in complete[:-keep]:
        _move_aside(path)
    for path in output_dir.glob(f"{TEMPORARY_PREFIX}*"):  # an unfinished image is a file
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
