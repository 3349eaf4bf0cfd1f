"""A data set that is refused or damaged while it is read, in one line: which set, which shard, why, what to do."""

import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from tarfile import TarError
from typing import TypeVar

from ..errors import DataError
from .read_checks import IncompleteReadError
from .retry import (
    CLIENT_ERRORS,
    RetryPolicy,
    cause_chain,
    http_status,
    is_transient,
    retry_transient,
    root_cause_message,
    shard_retry_seconds,
)

_Result = TypeVar("_Result")

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
MAX_REREADS = 2
"""A signed address runs out, a proxy answers once in place of the server: so many further tries, then it is told."""
_REREAD_SECONDS = 20.0


class SourceRefused(DataError):
    """A data set, or a part of it, is refused or damaged: waiting does not help, its user must do something."""


class RereadCounter:
    """Counts how often a shard was read again after an error that time does not mend.

    Args:
        dataset_name: of the data set.
        shard: its file.
        is_local: files here are read once: a second look shows the same bytes.
    """

    def __init__(self, dataset_name: str, shard: str, *, is_local: bool) -> None:
        self.dataset_name, self.shard, self.is_local = dataset_name, shard, is_local
        self._tries, self._retry_policy = 0, RetryPolicy(f"{dataset_name}, {shard}", seconds=_REREAD_SECONDS)

    def progress(self) -> None:
        """Start counting anew."""
        if self._tries:
            self._tries, self._retry_policy = 0, RetryPolicy(self._retry_policy.name, seconds=_REREAD_SECONDS)

    def after(self, error: BaseException) -> None:
        """Wait for the next try.

        Raises:
            SourceRefused: when there were enough, and for files here.
        """
        self._tries += 1
        if self.is_local or self._tries > MAX_REREADS or _is_final_refusal(error):
            raise source_refused_error(error, self.dataset_name, self.shard, is_local=self.is_local) from error
        self._retry_policy.wait(error)


def read_with_retries(
    read: Callable[[], _Result],
    *,
    dataset_name: str,
    file: str,
    is_local: bool | None = None,
    otherwise: str | None = None,
) -> _Result:
    """Return what reading a file gives, which is read again while the network fails, and twice where it is damaged.

    Args:
        read: from the beginning, each time.
        dataset_name: of the data set.
        file: of it, for people.
        is_local: the file is here; by default where the data set is a folder here.
        otherwise: what another error means, for people; None: it is raised.

    Raises:
        SourceRefused: when the file is refused or damaged.
        SourceUnavailable: when the network kept failing.
        DataError: for another error, where `otherwise` is given.
    """
    rereads = RereadCounter(dataset_name, file, is_local=os.path.isdir(dataset_name) if is_local is None else is_local)
    while True:
        try:
            return retry_transient(
                read,
                RetryPolicy(dataset_name, seconds=shard_retry_seconds()),
                find_transient=_find_transient_in_context,
            )
        except DataError:
            raise
        except reader_error_types() as error:
            answer = find_http_error(error) or (error if is_damage_error(error) else None)
            if answer is not None:
                rereads.after(answer)
            elif otherwise is None:
                raise
            else:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise DataError(f"{dataset_name}: {otherwise}: {reason}") from error


def _find_transient_in_context(error: BaseException) -> BaseException | None:
    """`datasets` makes "couldn't find it" of some failures, raised from nothing; the context still tells."""
    chained: BaseException | None = error
    while chained is not None and not is_transient(chained):
        chained = chained.__context__
    return chained


def reader_error_types() -> tuple[type[Exception], ...]:
    """Return what readers of Parquet, tar and video files raise for a file that is refused, cut or damaged."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    damage = (LookupError, TypeError, zlib.error, lzma.LZMAError, ArrowException, DatasetsError)
    return (*CLIENT_ERRORS, *damage)


def source_refused_error(
    error: BaseException, dataset_name: str, shard: str, *, is_local: bool = False
) -> SourceRefused:
    """Return the error of a shard that cannot be read, in one line.

    Args:
        error: of a client or a reader.
        dataset_name: of the data set.
        shard: its file.
        is_local: the file is on this machine.
    """
    from huggingface_hub.errors import GatedRepoError

    status = next((found for cause in cause_chain(error) if (found := http_status(cause)) is not None), None)
    if status is None and not _is_not_found(error):
        return SourceRefused(_describe_damage(error, dataset_name, shard, is_local=is_local))
    message = _response_text(error)
    if any(isinstance(cause, GatedRepoError) for cause in cause_chain(error)):
        return SourceRefused(
            f"{dataset_name} is gated ({message}): accept its terms on its page on the Hub, then log in with `hf auth login`"
        )
    if status == _UNAUTHORIZED and not _is_not_found(error):
        return SourceRefused(
            f"{dataset_name}: the Hub refuses {shard} ({message}): the token has expired or was withdrawn, or it was made "
            f"private; log in with `hf auth login`, or set HF_TOKEN to a valid one"
        )
    if status == _FORBIDDEN:
        return SourceRefused(
            f"{dataset_name}: the Hub refuses {shard} ({message}): ask for access on its page, or take a token "
            f"that may read it"
        )
    if status == _NOT_FOUND or _is_not_found(error):
        return SourceRefused(
            f"{dataset_name}: the Hub does not have {shard} ({message}): it was deleted, renamed or made private; look at "
            f"its page, and for a private one log in with `hf auth login`"
        )
    return SourceRefused(
        f"{dataset_name}: the Hub refuses {shard} ({message}); look at its page, or take it from elsewhere"
    )


def not_the_hub_error(error: BaseException, name: str) -> DataError:
    """Return the error of an answer that is none of the Hub's, such as the page of a proxy."""
    if isinstance(error, DataError):
        return error
    return SourceRefused(
        f"{name}: what answers for the Hub is not the Hub ({' '.join(root_cause_message(error).split())[:200]}); check the "
        f"network (a proxy or a login page) and HF_ENDPOINT, or give a local folder"
    )


def is_access_denied(error: BaseException) -> bool:
    """Return whether the Hub refuses the whole repository of a file: no right to read it, or it is gone."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    not_found_errors = (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(
        isinstance(cause, not_found_errors) or http_status(cause) in (_UNAUTHORIZED, _FORBIDDEN)
        for cause in cause_chain(error)
    )


def find_http_error(error: BaseException) -> BaseException | None:
    """Return the refusal that an error was raised from or beside: `datasets` names no cause for some."""
    chained: BaseException | None = error
    while chained is not None and not any(http_status(cause) is not None for cause in cause_chain(chained)):
        chained = chained.__context__
    return chained


def _is_final_refusal(error: BaseException) -> bool:
    """Whether the Hub itself refuses; a signed address of another host may have run out, and the next one is valid."""
    refused = [cause for cause in cause_chain(error) if http_status(cause) is not None]
    return bool(refused) and not any(getattr(getattr(cause, "response", None), "history", None) for cause in refused)


def is_damage_error(error: BaseException) -> bool:
    """Return whether an error says that a file is not what it should be, or not whole."""
    from pyarrow import ArrowException

    corruption_errors = (
        IncompleteReadError,
        ArrowException,
        TarError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        json.JSONDecodeError,
    )
    return any(isinstance(cause, corruption_errors) for cause in cause_chain(error))


def _is_not_found(error: BaseException) -> bool:
    """Whether the Hub does not know the repository, the commit or the file; it tells strangers so with a 401, too."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    not_found_errors = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(isinstance(cause, not_found_errors) for cause in cause_chain(error))


def _describe_damage(error: BaseException, dataset_name: str, shard: str, *, is_local: bool) -> str:
    reason = " ".join(root_cause_message(error).split())[:200]
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{dataset_name}: {shard} cannot be read ({error.strerror}); check the file and its rights"
    if is_local:
        return f"{dataset_name}: {shard} is damaged ({reason}); get the file again, or take it out of the folder"
    what = (
        "did not come whole"
        if isinstance(error, IncompleteReadError)
        else "is damaged, or another answer came in its place"
    )
    return (
        f"{dataset_name}: {shard} {what} ({reason}), {MAX_REREADS + 1} times; check the network (a proxy or a login page may "
        f"answer for the Hub), then the file on the page of the set"
    )


def _response_text(error: BaseException) -> str:
    """The status and the server's words, without the address, which may be signed."""
    for cause in _server_message_first(error):
        response = getattr(cause, "response", None)
        if response is not None:
            message = str(getattr(cause, "server_message", None) or "").strip()
            status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
            return f"{status}: {' '.join(message.split())[:200]}" if message else status
        if http_status(cause) is not None:
            return f"HTTP {http_status(cause)}"
    return " ".join(root_cause_message(error).split())[:200]


def _server_message_first(error: BaseException) -> Iterator[BaseException]:
    chain = list(cause_chain(error))
    # The Hub's own error has the server's words; what it was raised from repeats the address.
    return iter(sorted(chain, key=lambda cause: not hasattr(cause, "server_message")))
