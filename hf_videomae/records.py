"""What every written record says of where its numbers come from: date, versions, hardware, command."""

import json
import os
import platform
import re
import stat
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .storage import replace

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "torchcodec", "safetensors")

_TOKEN = re.compile(r"\b(?:hf|api_org|sk|ghp)_[A-Za-z0-9]{16,}\b")


def without_tokens(text: str, *known: str | None) -> str:
    """A text without what looks like a token of the Hub or of others, and without those that are known."""
    for token in filter(None, known):
        text = text.replace(token, "TOKEN")
    return _TOKEN.sub("TOKEN", text)


def write_whole(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file whole or not at all; with `sync`, also through a power cut."""
    temporary = path.with_name(path.name + ".unfinished")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        (replace if sync else os.replace)(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is None:  # where the disk is full
            error.filename = str(path)
        raise


def write_json(path: Path, values: dict[str, Any], *, sync: bool = True) -> None:
    """Write a JSON file whole or not at all; with `sync`, also through a power cut."""
    write_whole(path, json.dumps(values, indent=2) + "\n", sync=sync)


def with_access_of(sample: Path, files: Iterable[Path]) -> None:
    """Give files the access rights of one that `open` made: safetensors lets nobody else read what it writes."""
    mode = stat.S_IMODE(sample.stat().st_mode)
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware(processes: int, device: "torch.device") -> dict[str, Any]:
    """What the run ran on."""
    import torch

    facts = {"platform": platform.platform(), "cpu": _cpu_name(), "cpu_cores": os.cpu_count(), "processes": processes}
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return {**facts, "device": device.type, "threads_per_process": torch.get_num_threads()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers."""
    found = {"hf_videomae": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def command_line() -> str:
    """The command as it was typed, as far as the process can know."""
    import shlex

    return shlex.join([Path(sys.executable).name, *sys.argv])
