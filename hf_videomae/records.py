"""What every written record says of where its numbers come from: date, versions, hardware, command."""

import io
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

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "torchcodec", "safetensors")

_TOKEN = re.compile(r"\b(?:hf|api_org|sk|ghp)_[A-Za-z0-9]{16,}\b")


def without_tokens(text: str, *known: str | None) -> str:
    """A text without what looks like a token of the Hub or of others, and without those that are known."""
    for token in filter(None, known):
        text = text.replace(token, "TOKEN")
    return _TOKEN.sub("TOKEN", text)


def readable(text: str) -> str:
    """Return a path or name as text in UTF-8: `\\xe9` stands for a byte that is none, as names on a disk may hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_utf8(path: str | None, *, name: str) -> None:
    """Raise ValueError for a path that is no UTF-8, which safetensors can neither read nor write.

    Args:
        path: of a folder of weights; None is left alone.
        name: what the path is, for the error.
    """
    if path is not None and readable(path) != path:
        raise ValueError(
            f"{name} {readable(path)} is no UTF-8, and weights cannot be kept under such a name; rename the folder, "
            f"or give another"
        )


def print_any_name() -> None:
    """Let stdout escape the characters that it cannot encode, where it would raise by default.

    Names of files may hold any bytes, and a terminal need not know every script.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(readable(text), encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, json.dumps(values, indent=2) + "\n")


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
