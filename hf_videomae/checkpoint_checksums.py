"""Write and verify checksums of a checkpoint, to find files that were damaged later at their full size."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .filesystem import sha256_of

CHECKSUMS_KEY, _STATE_CHECKSUM_KEY = "sha256", "state_sha256"
_NUM_THREADS = 4


def compute_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files by their path in a folder."""
    paths = list(names)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return dict(zip(paths, pool.map(_sha256, (folder / path for path in paths)), strict=True))


def dump_checksummed_state(state: Mapping[str, Any]) -> str:
    """Return the text of a state file, with a checksum of its other content."""
    plain = json.loads(json.dumps({name: value for name, value in state.items() if name != _STATE_CHECKSUM_KEY}))
    return json.dumps({**plain, _STATE_CHECKSUM_KEY: _state_digest(plain)}, indent=1)


def is_state_intact(state: Mapping[str, Any]) -> bool:
    """Return whether a state is as it was written; True for older ones, which have no checksum."""
    if _STATE_CHECKSUM_KEY not in state:
        return CHECKSUMS_KEY not in state
    return bool(
        state[_STATE_CHECKSUM_KEY]
        == _state_digest({name: value for name, value in state.items() if name != _STATE_CHECKSUM_KEY})
    )


def find_corruption(checkpoint: Path, state: Mapping[str, Any]) -> str | None:
    """Return which file has changed since the checkpoint was written, or None."""
    checksums = state.get(CHECKSUMS_KEY)
    if checksums is None:
        return next(filter(None, (_unreadable_reason(checkpoint, name) for name in state["files"])), None)
    current = compute_checksums(checkpoint, checksums)
    damaged = next((name for name, checksum in checksums.items() if current[name] != checksum), None)
    return None if damaged is None else f"{damaged} is damaged: it is not what was written"


def _state_digest(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _unreadable_reason(checkpoint: Path, name: str) -> str | None:
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
    return _sha256_cached(path, status.st_ino, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4096)
def _sha256_cached(path: Path, inode: int, changed: int, size: int) -> str:
    """Return the SHA-256 of a file; cached, because a checkpoint is verified several times before a resume."""
    return sha256_of(path)
