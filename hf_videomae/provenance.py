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


def utc_timestamp() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_hardware(processes: int, device: "torch.device") -> dict[str, Any]:
    """Return the hardware of this machine."""
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


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the numbers."""
    installed = {"hf_videomae": __version__, "python": platform.python_version()}
    for name in _REPORTED_PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed as a package"
    return installed


def redacted_command_line() -> str:
    """Return the command line of this process, without credentials."""
    import shlex

    return redact_credentials(shlex.join([Path(sys.executable).name, *sys.argv]))
