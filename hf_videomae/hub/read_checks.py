"""Patch `datasets` and huggingface_hub so that files cut short and damaged tar headers raise errors.

huggingface_hub 1.31 returns whatever a response holds: a proxy's page in place of a part of a Parquet file is read as
that file. And `tarfile` takes a damaged header, or a response that was cut off between two members, for the end of the
archive: the remaining videos would be lost silently.
"""

import functools
import logging
import os
import tarfile
from collections.abc import Iterator
from typing import Any

from ..video.decode_errors import IncompleteReadError

__all__ = ["IncompleteReadError", "install_read_checks"]

logger = logging.getLogger(__name__)

# The stubs of typeshed name neither these errors nor `members`.
_tar: Any = tarfile
_HEADER_ERRORS = (_tar.InvalidHeaderError, _tar.TruncatedHeaderError)


def install_read_checks() -> None:
    """Patch `datasets` and huggingface_hub to raise an error for cut-off downloads and damaged tar headers."""
    from datasets.utils.file_utils import ArchiveIterable
    from huggingface_hub.hf_file_system import HfFileSystemFile, HfFileSystemStreamFile

    for cls, name, wrap in (
        (HfFileSystemFile, "_fetch_range", _check_range_size),
        (HfFileSystemStreamFile, "read", _check_stream_size),
    ):
        method = getattr(cls, name)
        if not hasattr(method, "__wrapped__"):
            setattr(cls, name, wrap(method))
    ArchiveIterable._iter_tar = staticmethod(_iter_tar_members)


def _check_range_size(fetch: Any) -> Any:
    @functools.wraps(fetch)
    def checked(file: Any, start: int, end: int) -> bytes:
        content: bytes = fetch(file, start, end)
        expected = min(end, file.size) - start
        if len(content) != expected:
            raise IncompleteReadError(f"{len(content)} bytes came instead of {expected}")
        return content

    return checked


def _check_stream_size(read: Any) -> Any:
    @functools.wraps(read)
    def checked(file: Any, length: int = -1) -> bytes:
        content: bytes = read(file, length)
        at_end = length is None or length < 0 or len(content) < length
        if at_end and file.loc != (size := file.fs.info(file.path)["size"]):
            raise IncompleteReadError(f"{file.loc} bytes came instead of {size}")
        return content

    return checked


class _CheckedTarInfo(tarfile.TarInfo):
    """A tar member whose header must be valid, anywhere in the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Any:
        """Read the next header."""
        byte_offset = tar.offset
        try:
            return super().fromtarfile(tar)
        except _HEADER_ERRORS as error:
            raise tarfile.ReadError(f"{error}, at byte {byte_offset}") from error
        except _tar.EmptyHeaderError:
            if byte_offset:
                _warn_missing_end_marker(str(getattr(tar.fileobj, "name", None) or "a tar file"))
            raise


@functools.cache
def _warn_missing_end_marker(name: str) -> None:
    logger.warning("%s has no end marker: it may be cut off, with its last videos missing", name)


def _iter_tar_members(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, file) of the visible members, as `ArchiveIterable._iter_tar` of `datasets` does."""
    name = str(getattr(file, "name", ""))
    with _tar.open(name=name or None, fileobj=file, mode="r|*", tarinfo=_CheckedTarInfo) as archive:
        for member in archive:
            if member.isreg() and not os.path.basename(member.name).startswith((".", "__")):
                yield member.name, archive.extractfile(member)
            archive.members = []
