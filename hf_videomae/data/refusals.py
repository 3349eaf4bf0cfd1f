"""A data set that is refused or damaged while it is read, in one line: which set, which shard, why, what to do."""

import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from tarfile import TarError
from typing import TypeVar

from .network import (
    CLIENT_ERRORS,
    Patience,
    causes,
    is_passing,
    reason_of,
    shard_seconds,
    status_of,
    until_it_passes,
)
from .samples import DataError
from .whole_reads import ShortRead

_Result = TypeVar("_Result")

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
REREADS = 2
"""A signed address runs out, a proxy answers once in place of the server: so many further tries, then it is told."""
_REREAD_SECONDS = 20.0


class SourceRefused(DataError):
    """A data set, or a part of it, is refused or damaged: waiting does not help, its user must do something."""


class Rereads:
    """Counts how often a shard was read again after an error that time does not mend.

    Args:
        set_name: of the data set.
        shard: its file.
        is_local: files here are read once: a second look shows the same bytes.
    """

    def __init__(self, set_name: str, shard: str, *, is_local: bool) -> None:
        self.set_name, self.shard, self.is_local = set_name, shard, is_local
        self._tries, self._waiting = 0, Patience(f"{set_name}, {shard}", seconds=_REREAD_SECONDS)

    def progress(self) -> None:
        """Start counting anew."""
        if self._tries:
            self._tries, self._waiting = 0, Patience(self._waiting.name, seconds=_REREAD_SECONDS)

    def after(self, error: BaseException) -> None:
        """Wait for the next try.

        Raises:
            SourceRefused: when there were enough, and for files here.
        """
        self._tries += 1
        if self.is_local or self._tries > REREADS or _is_final(error):
            raise refusal(error, self.set_name, self.shard, is_local=self.is_local) from error
        self._waiting.wait(error)


def read_patiently(
    read: Callable[[], _Result],
    *,
    set_name: str,
    file: str,
    is_local: bool | None = None,
    otherwise: str | None = None,
) -> _Result:
    """Return what reading a file gives, which is read again while the network fails, and twice where it is damaged.

    Args:
        read: from the beginning, each time.
        set_name: of the data set.
        file: of it, for people.
        is_local: the file is here; by default where the data set is a folder here.
        otherwise: what another error means, for people; None: it is raised.

    Raises:
        SourceRefused: when the file is refused or damaged.
        SourceUnavailable: when the network kept failing.
        DataError: for another error, where `otherwise` is given.
    """
    rereads = Rereads(set_name, file, is_local=os.path.isdir(set_name) if is_local is None else is_local)
    while True:
        try:
            return until_it_passes(read, Patience(set_name, seconds=shard_seconds()), passing=_passing_within)
        except DataError:
            raise
        except read_errors() as error:
            answer = refused_in(error) or (error if is_damage(error) else None)
            if answer is not None:
                rereads.after(answer)
            elif otherwise is None:
                raise
            else:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise DataError(f"{set_name}: {otherwise}: {reason}") from error


def _passing_within(error: BaseException) -> BaseException | None:
    """`datasets` makes "couldn't find it" of some failures, raised from nothing; the context still tells."""
    seen: BaseException | None = error
    while seen is not None and not is_passing(seen):
        seen = seen.__context__
    return seen


def read_errors() -> tuple[type[Exception], ...]:
    """Return what readers of Parquet, tar and video files raise for a file that is refused, cut or damaged."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    damage = (LookupError, TypeError, zlib.error, lzma.LZMAError, ArrowException, DatasetsError)
    return (*CLIENT_ERRORS, *damage)


def refusal(error: BaseException, set_name: str, shard: str, *, is_local: bool = False) -> SourceRefused:
    """Return the error of a shard that cannot be read, in one line.

    Args:
        error: of a client or a reader.
        set_name: of the data set.
        shard: its file.
        is_local: the file is on this machine.
    """
    from huggingface_hub.errors import GatedRepoError

    status = next((found for cause in causes(error) if (found := status_of(cause)) is not None), None)
    if status is None and not _is_gone(error):
        return SourceRefused(_damaged(error, set_name, shard, is_local=is_local))
    said = _answer_of(error)
    if any(isinstance(cause, GatedRepoError) for cause in causes(error)):
        return SourceRefused(
            f"{set_name} is gated ({said}): accept its terms on its page on the Hub, then log in with `hf auth login`"
        )
    if status == _UNAUTHORIZED and not _is_gone(error):
        return SourceRefused(
            f"{set_name}: the Hub refuses {shard} ({said}): the token has expired or was withdrawn, or it was made "
            f"private; log in with `hf auth login`, or set HF_TOKEN to a valid one"
        )
    if status == _FORBIDDEN:
        return SourceRefused(
            f"{set_name}: the Hub refuses {shard} ({said}): ask for access on its page, or take a token "
            f"that may read it"
        )
    if status == _NOT_FOUND or _is_gone(error):
        return SourceRefused(
            f"{set_name}: the Hub does not have {shard} ({said}): it was deleted, renamed or made private; look at "
            f"its page, and for a private one log in with `hf auth login`"
        )
    return SourceRefused(f"{set_name}: the Hub refuses {shard} ({said}); look at its page, or take it from elsewhere")


def no_hub(error: BaseException, name: str) -> DataError:
    """Return the error of an answer that is none of the Hub's, such as the page of a proxy."""
    if isinstance(error, DataError):
        return error
    return SourceRefused(
        f"{name}: what answers for the Hub is not the Hub ({' '.join(reason_of(error).split())[:200]}); check the "
        f"network (a proxy or a login page) and HF_ENDPOINT, or give a local folder"
    )


def is_refused(error: BaseException) -> bool:
    """Return whether the Hub refuses the whole repository of a file: no right to read it, or it is gone."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    gone = (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(isinstance(cause, gone) or status_of(cause) in (_UNAUTHORIZED, _FORBIDDEN) for cause in causes(error))


def refused_in(error: BaseException) -> BaseException | None:
    """Return the refusal that an error was raised from or beside: `datasets` names no cause for some."""
    seen: BaseException | None = error
    while seen is not None and not any(status_of(cause) is not None for cause in causes(seen)):
        seen = seen.__context__
    return seen


def _is_final(error: BaseException) -> bool:
    """Whether the Hub itself refuses; a signed address of another host may have run out, and the next one is valid."""
    refused = [cause for cause in causes(error) if status_of(cause) is not None]
    return bool(refused) and not any(getattr(getattr(cause, "response", None), "history", None) for cause in refused)


def is_damage(error: BaseException) -> bool:
    """Return whether an error says that a file is not what it should be, or not whole."""
    from pyarrow import ArrowException

    kinds = (ShortRead, ArrowException, TarError, EOFError, zlib.error, lzma.LZMAError, json.JSONDecodeError)
    return any(isinstance(cause, kinds) for cause in causes(error))


def _is_gone(error: BaseException) -> bool:
    """Whether the Hub does not know the repository, the commit or the file; it tells strangers so with a 401, too."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    gone = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(isinstance(cause, gone) for cause in causes(error))


def _damaged(error: BaseException, set_name: str, shard: str, *, is_local: bool) -> str:
    reason = " ".join(reason_of(error).split())[:200]
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{set_name}: {shard} cannot be read ({error.strerror}); check the file and its rights"
    if is_local:
        return f"{set_name}: {shard} is damaged ({reason}); get the file again, or take it out of the folder"
    what = "did not come whole" if isinstance(error, ShortRead) else "is damaged, or another answer came in its place"
    return (
        f"{set_name}: {shard} {what} ({reason}), {REREADS + 1} times; check the network (a proxy or a login page may "
        f"answer for the Hub), then the file on the page of the set"
    )


def _answer_of(error: BaseException) -> str:
    """The status and the server's words, without the address, which may be signed."""
    for cause in _innermost_first(error):
        response = getattr(cause, "response", None)
        if response is not None:
            said = str(getattr(cause, "server_message", None) or "").strip()
            status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
            return f"{status}: {' '.join(said.split())[:200]}" if said else status
        if status_of(cause) is not None:
            return f"HTTP {status_of(cause)}"
    return " ".join(reason_of(error).split())[:200]


def _innermost_first(error: BaseException) -> Iterator[BaseException]:
    chain = list(causes(error))
    # The Hub's own error has the server's words; what it was raised from repeats the address.
    return iter(sorted(chain, key=lambda cause: not hasattr(cause, "server_message")))
