"""Check that files of the Hub come whole, and that tar files are read to their end.

huggingface_hub 1.31 hands on whatever an answer holds: a proxy's page in place of a part of a Parquet file is read as
that file. And `tarfile` takes a damaged header, or an answer that was cut short between two members, for the end of
the archive: the other videos would be lost silently.
"""

import functools
import logging
import os
import tarfile
from collections.abc import Iterator
from typing import Any

from ..video.errors import ShortRead

__all__ = ["ShortRead", "check_reads"]

logger = logging.getLogger(__name__)

# The stubs of typeshed name neither these errors nor `members`.
_tar: Any = tarfile
_NO_HEADER = (_tar.InvalidHeaderError, _tar.TruncatedHeaderError)


def check_reads() -> None:
    """Make `datasets` raise `ShortRead` and `tarfile.ReadError` for such files, in this process."""
    from datasets.utils.file_utils import ArchiveIterable
    from huggingface_hub.hf_file_system import HfFileSystemFile, HfFileSystemStreamFile

    for kind, name, wrap in (
        (HfFileSystemFile, "_fetch_range", _checked_range),
        (HfFileSystemStreamFile, "read", _checked_stream),
    ):
        method = getattr(kind, name)
        if not hasattr(method, "__wrapped__"):
            setattr(kind, name, wrap(method))
    ArchiveIterable._iter_tar = staticmethod(_tar_members)


def _checked_range(fetch: Any) -> Any:
    @functools.wraps(fetch)
    def checked(file: Any, start: int, end: int) -> bytes:
        content: bytes = fetch(file, start, end)
        wanted = min(end, file.size) - start
        if len(content) != wanted:
            raise ShortRead(f"{len(content)} bytes came instead of {wanted}")
        return content

    return checked


def _checked_stream(read: Any) -> Any:
    @functools.wraps(read)
    def checked(file: Any, length: int = -1) -> bytes:
        content: bytes = read(file, length)
        at_end = length is None or length < 0 or len(content) < length
        if at_end and file.loc != (size := file.fs.info(file.path)["size"]):
            raise ShortRead(f"{file.loc} bytes came instead of {size}")
        return content

    return checked


class _Member(tarfile.TarInfo):
    """A member whose header must be sound, wherever in the archive it is."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Any:
        """Read the next header."""
        place = tar.offset
        try:
            return super().fromtarfile(tar)
        except _NO_HEADER as error:
            raise tarfile.ReadError(f"{error}, at byte {place}") from error
        except _tar.EmptyHeaderError:
            if place:
                _warn_of_missing_end(str(getattr(tar.fileobj, "name", None) or "a tar file"))
            raise


@functools.cache
def _warn_of_missing_end(name: str) -> None:
    logger.warning("%s has no end mark: it may have been cut off, its last videos would be missing", name)


def _tar_members(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, file) of the visible members, as `ArchiveIterable._iter_tar` of `datasets` does."""
    name = str(getattr(file, "name", ""))
    with _tar.open(name=name or None, fileobj=file, mode="r|*", tarinfo=_Member) as archive:
        for member in archive:
            if member.isreg() and not os.path.basename(member.name).startswith((".", "__")):
                yield member.name, archive.extractfile(member)
            archive.members = []
