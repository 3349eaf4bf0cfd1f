"""Provide a real file system of a few MiB that can be filled."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: float) -> Iterator[Path]:
    """Mount a small file system in memory on a folder; skip if that is not permitted."""
    folder.mkdir()
    size = f"size={int(megabytes * 1024)}k"
    try:
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, *, leaving: int) -> Path:
    """Write a file that leaves so many bytes free."""
    import shutil

    path = folder / "filling"
    size = shutil.disk_usage(folder).free - leaving
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(bytes(min(size, 2**20)))
    return path
