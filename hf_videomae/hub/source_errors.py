"""Read shards of a dataset with retries, and say in one line which is refused or damaged, why, and what to do."""

import json
import lzma
import os
import zlib
from collections.abc import Callable
from tarfile import TarError
from typing import TypeVar

from ..errors import DataError, first_line
from .read_checks import IncompleteReadError
from .retry import (
    CLIENT_ERRORS,
    NOT_THE_HUB,
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
"""Further reads after an error that may not come again, such as an expired signed URL or a proxy's page."""
_REREAD_SECONDS = 20.0


class SourceRefused(DataError):
    """Raised when a dataset, or a part of it, is refused or damaged: retrying does not help, the user must act."""


class RereadCounter:
    """Limit how often a shard is read again after an error that is not transient.

    Args:
        dataset_name: the dataset.
        shard: its file.
        is_local: the file is on this machine: it is read once, because a second read gives the same bytes.
    """

    def __init__(self, dataset_name: str, shard: str, *, is_local: bool) -> None:
        self.dataset_name, self.shard, self.is_local = dataset_name, shard, is_local
        self._tries, self._retry_policy = 0, RetryPolicy(f"{dataset_name}, {shard}", seconds=_REREAD_SECONDS)

    def reset(self) -> None:
        """Reset the count, after something arrived."""
        if self._tries:
            self._tries, self._retry_policy = 0, RetryPolicy(self._retry_policy.name, seconds=_REREAD_SECONDS)

    def wait_before_reread(self, error: BaseException) -> None:
        """Count a failed read, and wait before the next one.

        Raises:
            SourceRefused: when the reads are used up, or the file is local.
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
    """Return the result of reading a file; retry while the network fails, and twice if the file is damaged.

    Args:
        read: reads from the beginning each time.
        dataset_name: the dataset.
        file: its file, for messages.
        is_local: the file is on this machine; by default, whether the dataset is a local folder.
        otherwise: what to say about any other error; None: it is raised unchanged.

    Raises:
        SourceRefused: when the file is refused or damaged.
        SourceUnavailable: when the network kept failing.
        DataError: for another error, if `otherwise` is given.
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
            rereadable = find_http_error(error) or (error if is_damage_error(error) else None)
            if rereadable is not None:
                rereads.wait_before_reread(rereadable)
            elif otherwise is None:
                raise
            else:
                raise DataError(f"{dataset_name}: {otherwise}: {first_line(error)}") from error


def _find_transient_in_context(error: BaseException) -> BaseException | None:
    """Return the transient error behind another: `datasets` raises some "couldn't find it" without a cause."""
    chained: BaseException | None = error
    while chained is not None and not is_transient(chained):
        chained = chained.__context__
    return chained


def reader_error_types() -> tuple[type[Exception], ...]:
    """Return what readers of Parquet, tar and video files raise for a file that is refused, cut off or damaged."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    damage = (LookupError, TypeError, zlib.error, lzma.LZMAError, ArrowException, DatasetsError)
    return (*CLIENT_ERRORS, *damage)


def source_refused_error(
    error: BaseException, dataset_name: str, shard: str, *, is_local: bool = False
) -> SourceRefused:
    """Return the error for a shard that cannot be read.

    Args:
        error: raised by a client or a reader.
        dataset_name: the dataset.
        shard: its file.
        is_local: the file is on this machine.
    """
    from huggingface_hub.errors import GatedRepoError

    status = next((code for cause in cause_chain(error) if (code := http_status(cause)) is not None), None)
    if status is None and not _is_not_found(error):
        return SourceRefused(_describe_damage(error, dataset_name, shard, is_local=is_local))
    message = _response_text(error)
    if any(isinstance(cause, GatedRepoError) for cause in cause_chain(error)):
        return SourceRefused(
            f"{dataset_name} is gated ({message}): accept its terms on its page on the Hub, then log in with "
            f"`hf auth login`"
        )
    verb = "refuses"
    if status == _FORBIDDEN:
        advice = ": ask for access on its page, or take a token that may read it"
    elif status == _NOT_FOUND or _is_not_found(error):
        verb = "does not have"
        advice = (
            ": it was deleted, renamed or made private; look at its page, and for a private one log in with "
            "`hf auth login`"
        )
    elif status == _UNAUTHORIZED:
        advice = (
            ": the token has expired or was revoked, or the repository was made private; log in with `hf auth login`, "
            "or set HF_TOKEN to a valid one"
        )
    else:
        advice = "; look at its page, or get it from elsewhere"
    return SourceRefused(f"{dataset_name}: the Hub {verb} {shard} ({message}){advice}")


def not_the_hub_error(error: BaseException, name: str) -> DataError:
    """Return the error for a response that is not the Hub's, such as a proxy's page."""
    if isinstance(error, DataError):
        return error
    return SourceRefused(
        f"{name}: {NOT_THE_HUB} ({_short_message(error)}); check the network (a proxy or a login page) and "
        f"HF_ENDPOINT, or give a local folder"
    )


def is_access_denied(error: BaseException) -> bool:
    """Return whether the Hub refuses the whole repository: no permission to read it, or it does not exist."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    not_found_errors = (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(
        isinstance(cause, not_found_errors) or http_status(cause) in (_UNAUTHORIZED, _FORBIDDEN)
        for cause in cause_chain(error)
    )


def find_http_error(error: BaseException) -> BaseException | None:
    """Return the HTTP error that an error was raised from or while handling; `datasets` sets no cause for some."""
    chained: BaseException | None = error
    while chained is not None and not any(http_status(cause) is not None for cause in cause_chain(chained)):
        chained = chained.__context__
    return chained


def _is_final_refusal(error: BaseException) -> bool:
    """Return whether the Hub itself refuses. A signed URL on another host may have expired; the next one is valid."""
    refused = [cause for cause in cause_chain(error) if http_status(cause) is not None]
    return bool(refused) and not any(getattr(getattr(cause, "response", None), "history", None) for cause in refused)


def is_damage_error(error: BaseException) -> bool:
    """Return whether an error means that a file is damaged or incomplete."""
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
    """Return whether the Hub does not know the repository, commit or file; anonymous users get a 401 for that too."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    not_found_errors = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
    return any(isinstance(cause, not_found_errors) for cause in cause_chain(error))


def _describe_damage(error: BaseException, dataset_name: str, shard: str, *, is_local: bool) -> str:
    reason = _short_message(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{dataset_name}: {shard} cannot be read ({error.strerror}); check the file and its permissions"
    if is_local:
        return f"{dataset_name}: {shard} is damaged ({reason}); get the file again, or take it out of the folder"
    is_incomplete = isinstance(error, IncompleteReadError)
    what = "did not come whole" if is_incomplete else "is damaged, or another answer came in its place"
    return (
        f"{dataset_name}: {shard} {what} ({reason}), {MAX_REREADS + 1} times; check the network (a proxy or a login "
        f"page may answer for the Hub), then the file on the repository's page"
    )


def _response_text(error: BaseException) -> str:
    """Return the status and the server's message, without the URL, which may be signed."""
    # The Hub's own error has the server's message; what it was raised from repeats the URL.
    for cause in sorted(cause_chain(error), key=lambda cause: not hasattr(cause, "server_message")):
        response = getattr(cause, "response", None)
        if response is not None:
            message = str(getattr(cause, "server_message", None) or "").strip()
            status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
            return f"{status}: {' '.join(message.split())[:200]}" if message else status
        if http_status(cause) is not None:
            return f"HTTP {http_status(cause)}"
    return _short_message(error)


def _short_message(error: BaseException) -> str:
    return " ".join(root_cause_message(error).split())[:200]
