"""Checksums of a checkpoint: a file that was damaged later, at its full size, is found before it is read."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..data.downloads import sha256_of

CHECKSUMS, _OWN = "sha256", "state_sha256"
_AT_A_TIME = 4


def checksums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files by their path in a folder."""
    named = list(names)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return dict(zip(named, pool.map(_sha256, (folder / name for name in named)), strict=True))


def sealed(state: Mapping[str, Any]) -> str:
    """Return the text of a state file, which holds the checksum of itself."""
    plain = json.loads(json.dumps({name: value for name, value in state.items() if name != _OWN}))
    return json.dumps({**plain, _OWN: _checksum(plain)}, indent=1)


def is_sealed(state: Mapping[str, Any]) -> bool:
    """Return whether a state is as it was sealed; True for one of before, which has no checksum."""
    if _OWN not in state:
        return CHECKSUMS not in state
    return bool(state[_OWN] == _checksum({name: value for name, value in state.items() if name != _OWN}))


def damage_in(checkpoint: Path, state: Mapping[str, Any]) -> str | None:
    """Return which file is not what it was when the checkpoint was written, or None."""
    checksums = state.get(CHECKSUMS)
    if checksums is None:
        return next(filter(None, (_unreadable(checkpoint, name) for name in state["files"])), None)
    found = checksums_of(checkpoint, checksums)
    damaged = [name for name, wanted in checksums.items() if found[name] != wanted]
    return f"{damaged[0]} is damaged: it is not what was written" if damaged else None


def _checksum(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _unreadable(checkpoint: Path, name: str) -> str | None:
    path = checkpoint / name
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass
    except (ValueError, SafetensorError) as error:
        return f"{name} is damaged ({' '.join(str(error).split())[:200]})"
    return None


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_once(path, status.st_ino, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4096)
def _sha256_once(path: Path, inode: int, changed: int, size: int) -> str:
    """A checkpoint is looked at several times before a run goes on from it."""
    return sha256_of(path)
