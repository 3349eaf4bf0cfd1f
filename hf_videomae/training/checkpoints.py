"""Checkpoints of a run: written whole or not at all, and read without pickle.

OUTPUT_DIR/checkpoint-STEP/ holds the model as `from_pretrained` reads it, and beside it the state of the run:

    optimizer.safetensors     moments by parameter name
    rank-R.safetensors, .json generators and position in the data of process R
    run_state.json            step, counters, recipe, the other files with size and SHA-256; written last

The directory is filled under a temporary name and renamed when everything is on the disk.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..records import read_json, with_access_of
from ..storage import sync_folder, writing
from .checksums import CHECKSUMS, checksums_of, damage_in, is_sealed, sealed
from .errors import RunError, say

STATE_FILE = "run_state.json"
OPTIMIZER_FILE = "optimizer.safetensors"
ORIGIN_FILE = "fetched_from.json"
FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d+)")
TEMPORARY = ".unfinished-"


class CheckpointError(RunError):
    """A checkpoint that is missing, incomplete, or of another model or run."""


# Finding.


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint's name, or None for another name."""
    match = _NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """All directories named checkpoint-STEP, oldest first, whole or not."""
    root = Path(output_dir)
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if path.is_dir() and step_of(path) is not None]
    return sorted(found, key=lambda path: step_of(path) or 0)


def fault_of(checkpoint: Path, *, contents: bool = True) -> str | None:
    """Why a checkpoint is not whole, or None when it is: every file that its state names, as it was written.

    Args:
        checkpoint: the directory.
        contents: compare what the files hold, not only their sizes; checkpoints of before have no checksums, of them
            the JSON and the headers of safetensors are read.
    """
    try:
        files = (path for path in checkpoint.rglob("*") if path.is_file())
        sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
        text = None
        if STATE_FILE in sizes:
            text = (checkpoint / STATE_FILE).read_text(encoding="utf-8", errors="replace")
        fault = fault_in(sizes, text)
        return damage_in(checkpoint, json.loads(text or "")) if fault is None and contents else fault
    except OSError as error:  # of a run that goes on, the oldest is dropped while it is looked at
        return f"it cannot be read: {error.strerror}: {error.filename}"


def fault_in(sizes: Mapping[str, int], state_text: str | None) -> str | None:
    """What is wrong with files of these sizes, by what their state file says; None: nothing."""
    if state_text is None:
        return f"it has no {STATE_FILE}"
    try:
        state = json.loads(state_text)
    except ValueError:
        return f"its {STATE_FILE} cannot be read"
    if not isinstance(state, dict) or state.get("format") != FORMAT or not isinstance(state.get("files"), dict):
        return f"its {STATE_FILE} is of another format"
    if not is_sealed(state):
        return f"its {STATE_FILE} is damaged or was edited: its checksum does not fit"
    for name, size in state["files"].items():
        if name not in sizes:
            return f"{name} is missing"
        if sizes[name] != size:
            return f"{name} has {sizes[name]} bytes instead of {size}"
    return None


def newest_checkpoint(output_dir: str | Path, *, contents: bool = True) -> Path | None:
    """The newest whole checkpoint; half-written and damaged ones are passed over, visibly."""
    for checkpoint in reversed(list_checkpoints(output_dir)):
        fault = fault_of(checkpoint, contents=contents)
        if fault is None:
            return checkpoint
        say(f"note: {checkpoint} is not whole ({fault}) and is passed over")
    return None


def find_checkpoint(resume: str, *, output_dir: str | Path) -> Path | None:
    """The checkpoint that `--resume` means, of those on this machine (of the Hub's: `fetching`).

    Args:
        resume: `auto`, a checkpoint directory, or a directory of checkpoints.
        output_dir: where `auto` looks.

    Returns:
        the checkpoint; None when `auto` finds none yet: one command line serves the first and every later start.

    Raises:
        CheckpointError: for a directory that is no checkpoint, holds none, or is not whole.
    """
    if resume == "auto":
        return newest_checkpoint(output_dir)
    folder = Path(resume)
    if not folder.is_dir():
        raise CheckpointError(
            f"--resume {resume}: there is no such directory; give OUTPUT_DIR/checkpoint-STEP, or auto"
        )
    if step_of(folder.resolve()) is None and not (folder / STATE_FILE).exists():
        newest = newest_checkpoint(folder)
        if newest is None:
            raise CheckpointError(f"--resume {resume}: no whole checkpoint-STEP directory is in there")
        return newest
    fault = fault_of(folder)
    if fault is not None:
        older = [path for path in list_checkpoints(folder.resolve().parent) if _is_older(path, folder)]
        whole = next((path for path in reversed(older) if fault_of(path) is None), None)
        remedy = "give an earlier one, or auto" if whole is None else f"the newest whole one before it is {whole}"
        raise CheckpointError(f"--resume {resume}: this checkpoint is not whole: {fault}; {remedy}")
    return folder


def _is_older(path: Path, checkpoint: Path) -> bool:
    return (step_of(path) or 0) < (step_of(checkpoint.resolve()) or 0)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `run_state.json` holds: step, counters, recipe, processes, optimizer settings, files."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state


def settings_in(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resumed run takes over from a checkpoint's state: its recipe, and whether it logs its samples."""
    kept = {"log_samples": True} if state.get("log_samples") else {}
    return {**state["recipe"], **kept}


def run_id_of(checkpoint: Path | None) -> str | None:
    """The id of the run that a checkpoint is of; None for a new run, or one of before there were ids."""
    found = None if checkpoint is None else read_state(checkpoint).get("run_id")
    return found if isinstance(found, str) else None


def origin_of(checkpoint: Path) -> str:
    """Where a checkpoint comes from: `org/name@commit` of one that was fetched, else its path."""
    path = checkpoint / ORIGIN_FILE
    if not path.exists():
        return str(checkpoint)
    origin = _read_json(path)
    return f"{origin.get('repository')}@{origin.get('commit')}"


# Optimizer state, by parameter name.


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's tensors as `ENTRY/PARAMETER`, on the CPU. Groups carry `names` (`optim.parameter_groups`)."""
    tensors = {}
    for name, parameter in _named(optimizer):
        for entry, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{entry}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `optimizer_tensors`.

    Raises:
        CheckpointError: when a tensor's name or shape does not belong to this optimizer.
    """
    by_name: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        entry, _, name = key.partition("/")
        by_name.setdefault(name, {})[entry] = value
    known = dict(_named(optimizer))
    if by_name and by_name.keys() != known.keys():
        odd = sorted(by_name.keys() ^ known.keys())
        raise CheckpointError(
            f"the checkpoint's optimizer state is of another model: {odd[0]} and {len(odd) - 1} more differ"
        )
    for name, entries in by_name.items():
        for entry, value in entries.items():
            if value.ndim and value.shape != known[name].shape:
                raise CheckpointError(
                    f"the checkpoint's optimizer state for {name} is {tuple(value.shape)}, "
                    f"the parameter {tuple(known[name].shape)}"
                )
            # AdamW counts its steps in a tensor that stays on the CPU unless its kernels are fused.
            device = known[name].device if value.ndim or optimizer.defaults.get("fused") else value.device
            optimizer.state[known[name]][entry] = value.to(device)


def _named(optimizer: torch.optim.Optimizer) -> Iterable[tuple[str, torch.Tensor]]:
    for group in optimizer.param_groups:
        yield from zip(group["names"], group["params"], strict=True)


# Generators.


def generator_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """State of Python's, numpy's and torch's generators of this process: tensors, and JSON values."""
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


def restore_generators(tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
    """The inverse of `generator_state`."""
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    name, position, has_gauss, gauss = values["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = values["python"]
    random.setstate((version, tuple(internal), gauss_next))


# Writing and reading a whole checkpoint.


def save_rank(folder: Path, rank: int, *, stream: dict[str, Any]) -> None:
    """One process's share: its generators and its position in the data."""
    tensors, values = generator_state()
    save_file(tensors, folder / f"rank-{rank}.safetensors")
    (folder / f"rank-{rank}.json").write_text(json.dumps({"generators": values, "stream": stream}), encoding="utf-8")


def load_rank(checkpoint: Path, rank: int) -> tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, Any]]:
    """Generator tensors, generator values and stream state of one process, for `restore_generators` and the loader."""
    values = _read_json(checkpoint / f"rank-{rank}.json")
    return _load_tensors(checkpoint / f"rank-{rank}.safetensors"), values["generators"], values["stream"]


def load_streams(checkpoint: Path, processes: int) -> list[dict[str, Any]]:
    """The position in the data of each of the processes that wrote a checkpoint."""
    return [_read_json(checkpoint / f"rank-{rank}.json")["stream"] for rank in range(processes)]


def load_optimizer(checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
    """Fill an optimizer from a checkpoint.

    Raises:
        CheckpointError: when the state is damaged or of another model.
    """
    load_optimizer_tensors(optimizer, _load_tensors(checkpoint / OPTIMIZER_FILE))


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); resume from another checkpoint") from None


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, remedy="resume from another checkpoint", kind=CheckpointError)


def write_checkpoint(
    output_dir: Path,
    step: int,
    *,
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    save_model: Callable[[Path], None],
    stream: dict[str, Any],
    rank: int = 0,
    together: Callable[[Callable[[], None]], None] = lambda attempt: attempt(),
    keep: int = 2,
) -> Path:
    """Write checkpoint-STEP from all processes, then drop the oldest beyond `keep`.

    Args:
        output_dir: a directory that all processes share.
        step: steps done.
        state: JSON values that go into `run_state.json`.
        optimizer: its groups carry `names`.
        save_model: writes the model (and what belongs to it) into a directory; called in process 0.
        stream: this process's position in the data.
        rank: of this process.
        together: calls its argument in all processes, and raises in all of them what it raises in one.
        keep: how many checkpoints stay.

    Raises:
        CheckpointError: in one line, where the disk does not take it. What was written of it is removed, and earlier
            checkpoints are as they were.
    """
    final, folder = output_dir / f"checkpoint-{step}", output_dir / f"{TEMPORARY}{step}"

    def begin() -> None:
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def fill() -> None:
        save_rank(folder, rank, stream=stream)
        if rank == 0:
            save_model(folder)
            save_file(optimizer_tensors(optimizer), folder / OPTIMIZER_FILE)

    def seal() -> None:
        if rank == 0:
            _seal(folder, {**state, "format": FORMAT, "step": step})
            _replace(folder, final)
            prune(output_dir, keep=keep)

    needs = _expected_bytes(output_dir, optimizer)
    try:
        for part in (begin, fill, seal):
            together(lambda part=part: _told(part, final, needs=needs, also=_kept(output_dir)))  # type: ignore[misc]
    except RunError:  # of another process, it may be
        if rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return final


def write_final_model(output_dir: Path, save_model: Callable[[Path], None]) -> None:
    """Write the model at the top of the output directory, each file whole or not at all.

    Raises:
        CheckpointError: in one line, where the disk does not take it; what was written of it is removed.
    """
    folder = output_dir / f"{TEMPORARY}model"
    needs = max((path.stat().st_size for path in output_dir.glob("checkpoint-*/model.safetensors")), default=None)

    def write() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_model(folder)
        for path in folder.iterdir():
            _sync(path)
            path.replace(output_dir / path.name)
        sync_folder(output_dir)
        folder.rmdir()

    try:
        with writing("the final model", output_dir, needs=needs, kind=CheckpointError, also=_kept(output_dir)):
            write()
    except CheckpointError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _told(part: Callable[[], None], final: Path, *, needs: int, also: str) -> None:
    with writing(final.name, final.parent, needs=needs, kind=CheckpointError, also=also):
        part()


def _kept(output_dir: Path) -> str:
    """Return what a user still has where a checkpoint cannot be written."""
    whole = [path for path in list_checkpoints(output_dir) if fault_of(path) is None]
    return f"; {whole[-1].name} is intact, go on from it with --resume" if whole else "; no checkpoint was written yet"


def _expected_bytes(output_dir: Path, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of the next checkpoint: those of the last one, or the weights and two moments of each."""
    earlier = list_checkpoints(output_dir)
    if earlier:
        return sum(path.stat().st_size for path in earlier[-1].rglob("*") if path.is_file())
    return 3 * sum(parameter.nbytes for _, parameter in _named(optimizer))


def _seal(folder: Path, state: dict[str, Any]) -> None:
    """Bring every file to the disk and name them all in the state file, which is written last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    text = sealed({**state, "files": sizes, CHECKSUMS: checksums_of(folder, sizes)})
    (folder / STATE_FILE).write_text(text, encoding="utf-8")
    with_access_of(folder / STATE_FILE, files)
    _sync(folder / STATE_FILE)
    sync_folder(folder)


def place(folder: Path, final: Path) -> None:
    """Give a whole checkpoint that was filled elsewhere on the same disk its name, once it is on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    sync_folder(folder)
    _replace(folder, final)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace(folder: Path, final: Path) -> None:
    """Rename; a directory of that name (a resumed run writes a step again) gives way only to the finished one."""
    old = _put_aside(final) if final.exists() else None
    folder.rename(final)
    sync_folder(final.parent)
    if old is not None:
        shutil.rmtree(old)


def _put_aside(checkpoint: Path) -> Path:
    """Take its name away first: killed while it is removed, a run leaves no half of a checkpoint under that name."""
    old = checkpoint.with_name(f"{TEMPORARY}old-{checkpoint.name}")
    shutil.rmtree(old, ignore_errors=True)
    return checkpoint.rename(old)


def prune(output_dir: Path, *, keep: int) -> None:
    """Drop the oldest whole checkpoints beyond `keep`, and what an interrupted write left."""
    whole = [path for path in list_checkpoints(output_dir) if fault_of(path, contents=False) is None]
    for path in whole[:-keep]:
        _put_aside(path)
    for path in output_dir.glob(f"{TEMPORARY}*"):  # a half-written picture is a file
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
