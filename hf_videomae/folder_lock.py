"""Lock a folder so that one process at a time writes into it. The system frees the lock when its process ends.

`flock` on a file in the folder works on Linux and macOS, on local disks and on NFS 3 and 4 (Linux turns it into a
byte-range lock there). A file system without locks only gets a warning; on Windows nothing is locked.
"""

import atexit
import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"
# A process that only checks holds the lock for a moment.
_WAIT_SECONDS, _POLL_SECONDS = 1.0, 0.1
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EROFS}
_held_locks: dict[str, "FolderLock"] = {}


class FolderLockedError(ValueError):
    """Another process is writing into the folder."""


class FolderLock:
    """A lock on a folder, held from `lock_folder` until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor
        self._process = os.getpid()

    def release(self) -> None:
        """Release the folder for other processes."""
        _held_locks.pop(_key(self._path), None)
        if self._descriptor is None:
            return
        if self._process == os.getpid():
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        self.detach()

    def detach(self) -> None:
        """Close the file; in a forked process this leaves the lock to the process that took it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_folder(
    folder: str | Path,
    *,
    flag: str = "--output_dir",
    kind: type[ValueError] = FolderLockedError,
    name: str = LOCK_FILE,
    wait_seconds: float = _WAIT_SECONDS,
) -> FolderLock:
    """Lock an existing folder for this process. Locking it twice in one process keeps one lock.

    Args:
        folder: folder to write into.
        flag: the flag that named it.
        kind: type of the error.
        name: name of the lock file; processes with different names may write into one folder together.
        wait_seconds: seconds to wait for another process.

    Raises:
        ValueError: of the `kind`, naming the process that holds the lock.
    """
    path = Path(folder) / name
    if _key(path) in _held_locks:
        return _held_locks[_key(path)]
    descriptor = _open_locked(path, flag=flag, kind=kind, wait_seconds=wait_seconds)
    if descriptor is not None:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "program": Path(sys.argv[0] or "python").name}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
    lock = _held_locks[_key(path)] = FolderLock(path, descriptor)
    return lock


def check_folder_unlocked(
    folder: str | Path, *, flag: str = "--output_dir", kind: type[ValueError] = FolderLockedError
) -> None:
    """Check that no other process has locked a folder. Writes nothing.

    Raises:
        ValueError: of the `kind`, naming that process.
    """
    path = Path(folder) / LOCK_FILE
    if fcntl is None or _key(path) in _held_locks or not path.is_file():
        return
    with contextlib.suppress(FileNotFoundError, PermissionError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise kind(_in_use_message(path, flag=flag)) from None


def _open_locked(path: Path, *, flag: str, kind: type[ValueError], wait_seconds: float) -> int | None:
    """Return the open, locked lock file; None if the file system has no locks."""
    if fcntl is None:
        return None
    deadline = time.monotonic() + wait_seconds
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                logger.warning("%s cannot be locked (%s): a second run would not be noticed", path.parent, error)
                return None
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        else:
            if _is_same_file(path, descriptor):
                return descriptor
            os.close(descriptor)  # the other process removed it while it was opened here
        if time.monotonic() > deadline:
            raise kind(_in_use_message(path, flag=flag))
        time.sleep(_POLL_SECONDS)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        on_disk, opened = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (on_disk.st_dev, on_disk.st_ino) == (opened.st_dev, opened.st_ino)


def _in_use_message(path: Path, *, flag: str) -> str:
    owner: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        owner = json.loads(path.read_text(encoding="utf-8"))
    who = f" ({owner['program']}, process {owner['pid']} on {owner['host']})" if owner.keys() >= _OWNER_KEYS else ""
    return f"{flag} {path.parent} is in use by another run{who}; wait for it, stop it, or give another folder"


_OWNER_KEYS = {"program", "pid", "host"}


def _key(path: Path) -> str:
    return str(path.resolve())


@atexit.register
def _release_all() -> None:
    for lock in list(_held_locks.values()):
        lock.release()


def _detach_all() -> None:
    for lock in list(_held_locks.values()):
        lock.detach()
    _held_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_all)
