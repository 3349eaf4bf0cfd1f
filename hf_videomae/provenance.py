"""Record where numbers come from: date, versions, hardware, command."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .credentials import redact_credentials

if TYPE_CHECKING:
    import torch

_REPORTED_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "torchcodec", "safetensors")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hardware(processes: int, device: "torch.device") -> dict[str, Any]:
    """What the run ran on."""
    import torch

    facts = {
        "platform": platform.platform(),
        "cpu": _find_cpu_name(),
        "cpu_cores": os.cpu_count(),
        "processes": processes,
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return {**facts, "device": device.type, "threads_per_process": torch.get_num_threads()}


def _find_cpu_name() -> str:
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
    for name in _REPORTED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def command_line() -> str:
    """Return the command as it was typed, as far as the process can know, without credentials."""
    import shlex

    return redact_credentials(shlex.join([Path(sys.executable).name, *sys.argv]))
