"""Collect facts about this machine without judging them, as plain values that a test can write in a few lines."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__

DISTRIBUTION = "hf-videomae"
PACKAGES = (
    "torch", "torchcodec", "av", "transformers", "huggingface_hub", "numpy", "accelerate", "datasets", "matplotlib",
    "pyyaml", "tqdm", "pillow", "safetensors", "peft", "gradio", "torchvision",
)  # fmt: skip
# A line of the metadata, such as `accelerate>=1.15; extra == "train"`.
_REQUIREMENT = re.compile(r"([\w.-]+)\s*(?:\[[^]]*\])?[^;]*?>=\s*([\w.]+)")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)""")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
# From the start of Python to the last answer: importing torch from a cold network disk takes a minute. Network
# requests have a limit of their own, of seconds.
_PROBE_TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True)
class DiskSpace:
    """Space at a path, in bytes; `error` is why it cannot be read or written."""

    path: str
    total: int = 0
    free: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Environment:
    """All facts that the checks look at.

    Attributes:
        system: `sys.platform`.
        installers: those of `apt-get`, `conda` and `brew` that exist.
        packages: name -> installed version, or None.
        minimum: extra of this package ("" for what is always needed) -> name -> lowest version that its metadata
            allows. Empty if the package is not installed but imported from its path.
        imports: answer of the probe of the public classes.
        torchvision: answer of its probe; empty if it is not installed.
        torch, gpu, torchcodec, pyav: answers of these probes; `{"crash": ...}` if one died, empty if it was not run.
        hub: the same; empty if the network was not used.
        ffmpeg_program: version of the program `ffmpeg`; not needed, but its libraries usually come with it.
        driver: version of the NVIDIA driver.
        visible_gpus: `CUDA_VISIBLE_DEVICES`.
        library_path: the folders of `LD_LIBRARY_PATH`, which the loader searches first.
        output, cache: space for runs and for downloads.
        shared_memory: None if the system has no `/dev/shm`.
        token: source of the token (`HF_TOKEN`, a file), never the token itself.
        offline_variables: environment variables that forbid the network.
        network_asked: whether the user allows the network.
    """

    system: str
    installers: tuple[str, ...]
    in_container: bool
    packages: dict[str, str | None]
    output: DiskSpace
    cache: DiskSpace
    shared_memory: DiskSpace | None
    endpoint: str
    token: str | None
    offline_variables: tuple[str, ...]
    network_asked: bool
    ffmpeg_program: str | None = None
    driver: str | None = None
    visible_gpus: str | None = None
    library_path: tuple[str, ...] = ()
    minimum: dict[str, dict[str, str]] = field(default_factory=dict)
    imports: dict[str, Any] = field(default_factory=dict)
    torchvision: dict[str, Any] = field(default_factory=dict)
    torch: dict[str, Any] = field(default_factory=dict)
    gpu: dict[str, Any] = field(default_factory=dict)
    torchcodec: dict[str, Any] = field(default_factory=dict)
    pyav: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _HubSettings:
    endpoint: str
    cache: Path
    token_file: Path


def collect_environment(output_dir: str | os.PathLike = ".", *, network: bool = True) -> Environment:
    """Collect the facts about this machine; takes some seconds, for importing torch.

    Args:
        output_dir: folder for runs; need not exist yet.
        network: whether the Hub may be asked. It is never asked if the environment forbids it.
    """
    hub = _hub_settings()
    offline = tuple(name for name in OFFLINE_VARIABLES if _is_truthy(os.environ.get(name)))
    packages = {name: _version(name) for name in PACKAGES}
    answers = run_probes(["torch", "gpu", "torchcodec", "pyav", "imports"])
    if packages["torchvision"] is not None:
        answers |= run_probes(["torchvision"])
    if network and not offline:
        answers |= run_probes(["hub"])
    return Environment(
        system=sys.platform,
        installers=tuple(name for name in ("conda", "apt-get", "brew") if shutil.which(name)),
        in_container=any(Path(path).exists() for path in ("/.dockerenv", "/run/.containerenv")),
        packages=packages,
        minimum=declared_minimum(),
        output=_disk_space(Path(output_dir)),
        cache=_disk_space(hub.cache),
        shared_memory=_disk_space(Path("/dev/shm")) if Path("/dev/shm").is_dir() else None,
        endpoint=hub.endpoint,
        token=_token_source(hub.token_file),
        offline_variables=offline,
        network_asked=network,
        ffmpeg_program=_program_version(["ffmpeg", "-version"], word=2),
        driver=_program_version(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], word=0),
        visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        library_path=tuple(filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))),
        **answers,
    )


def declared_minimum() -> dict[str, dict[str, str]]:
    """Return the lowest versions that the installed package asks for, by extra ("" for what is always needed)."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    minimum: dict[str, dict[str, str]] = {}
    for line in lines:
        wanted, _, marker = line.partition(";")
        requirement, extra = _REQUIREMENT.match(wanted), _EXTRA.search(marker)
        if requirement:
            name, version = requirement[1].lower().replace("-", "_"), requirement[2]
            minimum.setdefault(extra[1] if extra else "", {})[name] = version
    return minimum


def version_line() -> str:
    """Return the versions of this package, Python and the system, in one line."""
    return f"hf_videomae {__version__}, Python {platform.python_version()}, {platform.platform()}"


def run_probes(names: Sequence[str], *, seconds: float = _PROBE_TIMEOUT_SECONDS) -> dict[str, dict[str, Any]]:
    """Return the answers of probes. One that dies answers `{"crash": why}`; later ones run in a new process."""
    answers: dict[str, dict[str, Any]] = {}
    remaining = list(names)
    while remaining:
        output, crash = _run_python(remaining, seconds=seconds)
        for line in output.splitlines():
            reply = json.loads(line)
            answers[reply["probe"]] = reply["answer"]
            remaining.remove(reply["probe"])
        if remaining:
            answers[remaining.pop(0)] = {"crash": crash}
    return answers


def _run_python(probes: Sequence[str], *, seconds: float) -> tuple[str, str]:
    """Return what the probes printed, and why there are no more answers."""
    # With -P and this path the process imports what this one would, whatever is in the current folder.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    command = [sys.executable, "-P", "-m", "hf_videomae.doctor.subprocess_probes", *probes]
    try:
        completed = subprocess.run(
            command,
            capture_output=True,
            timeout=seconds,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        reply = output.decode() if isinstance(output, bytes) else output
        return reply[: reply.rfind("\n") + 1], f"no answer within {seconds:.0f} s"
    return completed.stdout, _exit_reason(completed.returncode, completed.stderr)


def _exit_reason(status: int, errors: str) -> str:
    """Describe the end of a process: a signal by name, an exception by type alone, as its message may hold a token."""
    if status < 0:
        import signal

        return f"the process was killed by {signal.Signals(-status).name}"
    last = (errors.strip().splitlines() or [""])[-1]
    return f"the process ended with {last.partition(':')[0][:80] or f'status {status}'}"


def _hub_settings() -> _HubSettings:
    try:
        from huggingface_hub import constants
    except ImportError:  # the check of the packages reports it
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        return _HubSettings("https://huggingface.co", home / "hub", home / "token")
    return _HubSettings(constants.ENDPOINT, Path(constants.HF_HUB_CACHE), Path(constants.HF_TOKEN_PATH))


def _is_truthy(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _disk_space(path: Path) -> DiskSpace:
    """Return the space at a path, or at its nearest existing parent."""
    existing = path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        usage = shutil.disk_usage(existing)
    except OSError as error:
        return DiskSpace(str(path), error=(error.strerror or str(error)).lower())
    if not existing.is_dir():
        return DiskSpace(str(path), usage.total, usage.free, f"{existing} is a file")
    writable = os.access(existing, os.W_OK)
    return DiskSpace(str(path), usage.total, usage.free, None if writable else "not writable")


def _token_source(token_file: Path) -> str | None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(name, "").strip():
            return name
    return str(token_file) if token_file.is_file() and token_file.stat().st_size else None


def _program_version(command: Sequence[str], *, word: int) -> str | None:
    """Return one word of what a program prints; None if it is missing or fails."""
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = completed.stdout.split()
    return words[word] if completed.returncode == 0 and len(words) > word else None
