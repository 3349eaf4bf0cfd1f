"""Write files safely: explain a full or read-only disk in one line, and rename so that a power cut undoes nothing."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_ERRNOS = _DISK_FULL_ERRNOS | {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOENT),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENODEV, errno.ENXIO),
}
# safetensors reports errors of the system as text alone: "I/O error: No space left on device (os error 28)".
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


class StorageError(ValueError):
    """A file or folder cannot be written; the message says what, where, why and what to do."""


def find_errno(error: BaseException) -> int | None:
    """Return the system's error number of an error in writing a file, or None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        match = _OS_ERROR.search(str(cause))
        if match:
            return int(match[1])
        cause = cause.__cause__
    return None


def describe_write_error(
    error: BaseException, *, what: str, folder: str | Path, needed_bytes: int | None = None
) -> str | None:
    """Return one line about an error in writing, or None for other errors.

    Args:
        error: an `OSError`, or the error that a library made of one.
        what: name of what was to be written, for the message.
        folder: its folder.
        needed_bytes: bytes that it takes, if known.
    """
    number = find_errno(error)
    if number not in _DISK_ERRNOS or _is_elsewhere(error, Path(folder)):
        return None
    free_space, remedy = "", "make it writable, or give another folder"
    if number in _DISK_FULL_ERRNOS:
        wanted = f"it needs about {_format_bytes(needed_bytes)}, " if needed_bytes else ""
        free_space, remedy = (
            f" ({wanted}{_format_bytes(count_free_bytes(folder))} are free)",
            "free space there, or give another folder",
        )
    return f"{what} cannot be written to {folder}: {os.strerror(number)}{free_space}; {remedy}"


def _is_elsewhere(error: BaseException, folder: Path) -> bool:
    """Return whether an error names a file outside the folder, for example one that is read."""
    name = getattr(error, "filename", None)
    return isinstance(name, str) and not Path(name).absolute().is_relative_to(folder.absolute())


@contextlib.contextmanager
def wrap_write_errors(
    what: str,
    folder: str | Path,
    *,
    needed_bytes: int | None = None,
    kind: type[ValueError] = StorageError,
    also: str = "",
) -> Iterator[None]:
    """Turn an error in writing into an error of one line.

    Args:
        what: name of what is written, for the message.
        folder: its folder.
        needed_bytes: bytes that it takes, if known.
        kind: type of the error that is raised.
        also: added to the message.

    Raises:
        ValueError: of the `kind`.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        line = describe_write_error(error, what=what, folder=folder, needed_bytes=needed_bytes)
        if line is None:
            raise
        raise kind(line + also) from error


def create_folder(folder: str | Path, *, flag: str = "--output_dir", kind: type[ValueError] = StorageError) -> Path:
    """Create a folder and its parents.

    Raises:
        ValueError: of the `kind`, in one line, if that fails.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise kind(f"{flag} {folder} {_creation_error(folder, error)}") from error
    return folder


def check_folder_writable(
    folder: str | Path, *, flag: str = "--output_dir", kind: type[ValueError] = StorageError
) -> None:
    """Check that files can be written in a folder, which need not exist yet. Writes nothing.

    Raises:
        ValueError: of the `kind`, in one line, if they cannot.
    """
    folder = Path(folder)
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if _exists(path, folder, flag, kind)
    )
    if not existing.is_dir():
        raise kind(f"{flag} {folder} cannot be created: {existing} is a file; give another folder")
    most = os.pathconf(existing, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    if any(len(os.fsencode(part)) > most for part in folder.parts):
        raise kind(f"{flag} {folder} cannot be created: {os.strerror(errno.ENAMETOOLONG)}; give another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        reason = os.strerror(errno.EROFS if _is_read_only(existing) else errno.EACCES)
        raise kind(
            f"{flag} {folder} cannot be written: {existing}: {reason}; make it writable, or give another folder"
        )


def _exists(path: Path, folder: Path, flag: str, kind: type[ValueError]) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError as error:  # a name that is too long, or a folder without permission
        raise kind(f"{flag} {folder} {_creation_error(folder, error)}") from error


def _creation_error(folder: Path, error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return f"cannot be created: {error.filename or folder} is a file; give another folder"
    place = f"{error.filename}: " if error.filename and str(error.filename) != str(folder) else ""
    return f"cannot be created: {place}{os.strerror(error.errno or 0)}; give another folder"


def _is_read_only(folder: Path) -> bool:
    flags = os.statvfs(folder).f_flag if hasattr(os, "statvfs") else 0
    return bool(flags & getattr(os, "ST_RDONLY", 0))


def count_free_bytes(folder: str | Path) -> int:
    """Return the bytes that can still be written in a folder, which need not exist yet."""
    folder = Path(folder).absolute()
    existing = next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
    return shutil.disk_usage(existing).free


def sync_folder(folder: str | Path) -> None:
    """Sync the names in a folder to disk: without it, a power cut may undo a rename."""
    if os.name != "posix":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse it; they keep renames in order by themselves.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(source: Path, target: Path) -> None:
    """Rename a file over another on the same disk, and sync the rename to disk."""
    os.replace(source, target)
    sync_folder(target.parent)


def _format_bytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
