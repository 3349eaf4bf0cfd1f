"""Describe machines for the doctor: a healthy one as facts, and a real torchcodec that cannot load its libraries."""

import dataclasses
import os
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_videomae.doctor import DiskSpace, Environment

GIB = 2**30
HUB_VARIABLES = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
)  # fmt: skip

HEALTHY = Environment(
    system="linux",
    installers=("apt-get",),
    in_container=False,
    packages={
        "torch": "2.13.0", "torchcodec": "0.13.0", "av": "18.1.0", "transformers": "5.23.0",
        "huggingface_hub": "2.4.0", "numpy": "2.4.6", "accelerate": "1.15.0", "datasets": "5.2.0",
        "matplotlib": "3.10.0", "pyyaml": "6.0.2", "tqdm": "4.67.1", "pillow": "12.0.0", "safetensors": "0.8.0",
        "peft": None, "gradio": None, "torchvision": None,
    },
    minimum={
        "": {"huggingface_hub": "1.31", "numpy": "2.0", "pillow": "10.1", "safetensors": "0.8", "torch": "2.11",
             "torchcodec": "0.11.1", "transformers": "5.19"},
        "av": {"av": "17"},
        "lora": {"peft": "0.18"},
        "train": {"accelerate": "1.15", "datasets": "5.0", "matplotlib": "3.9", "pyyaml": "6", "tqdm": "4.66.3"},
    },
    imports={"error": None},
    output=DiskSpace("outputs", 500 * GIB, 100 * GIB),
    cache=DiskSpace("/home/me/.cache/huggingface/hub", 500 * GIB, 100 * GIB),
    shared_memory=DiskSpace("/dev/shm", 32 * GIB, 32 * GIB),
    endpoint="https://huggingface.co",
    token="/home/me/.cache/huggingface/token",
    offline_variables=(),
    network_asked=True,
    ffmpeg_program="6.1.1",
    driver="580.95.05",
    torch={"error": None, "version": "2.13.0+cu130", "cuda": "13.0"},
    gpu={"names": ["NVIDIA H100 80GB HBM3"] * 8, "error": None, "driver_cuda": "13.0"},
    torchcodec={"missing": None, "decode_error": None, "ffmpeg": "6"},
    pyav={"missing": None, "decode_error": None, "ffmpeg": "8.1"},
    hub={"error": None, "status": 200, "user": "me"},
)  # fmt: skip


def machine(**changes: Any) -> Environment:
    """Return the healthy machine with some facts changed; `packages` are added to its own."""
    if "packages" in changes:
        changes["packages"] = {**HEALTHY.packages, **changes["packages"]}
    return dataclasses.replace(HEALTHY, **changes)


def damaged_torchcodec(folder: Path, changes: Mapping[bytes, bytes]) -> Path:
    """Copy the installed torchcodec so that its loader looks for other names. Goes first on PYTHONPATH."""
    copy, installed = folder / "torchcodec", Path(sysconfig.get_path("purelib"))
    if (installed / "torchcodec.libs").is_dir():  # from 0.16 on: what its image decoders need
        (folder / "torchcodec.libs").symlink_to(installed / "torchcodec.libs")
    # Python files and libraries only; the C++ sources that come along are not needed.
    keep = (".py", ".so")
    for path in (installed / "torchcodec").rglob("*"):
        target = copy / path.relative_to(installed / "torchcodec")
        if path.suffix in keep:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for library in copy.glob("*.so"):
        content = library.read_bytes()
        for old, new in changes.items():
            assert len(old) == len(new)
            content = content.replace(old, new)
        library.write_bytes(content)
    return folder


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment, without what would reach the network or name a user."""
    return {name: value for name, value in os.environ.items() if name not in HUB_VARIABLES} | changes
