"""Build the Hub client: write access, remote files and their checksums, reachability, and the Hub's errors."""

import functools
import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line
from ..filesystem import sha256_of
from .retry import NOT_THE_HUB, cause_chain, http_status, root_cause_message

_UNAUTHORIZED, _FORBIDDEN, PRECONDITION_FAILED, _FIRST_SERVER_ERROR = 401, 403, 412, 500

_CHECKED_METHODS = "whoami model_info dataset_info create_repo create_branch preupload_lfs_files create_commit".split()
# How the client words an answer of another shape.
_MALFORMED_MESSAGES = ("improperly formatted", "Malformed response")

FileContent = Path | bytes
"""What is uploaded: a file on disk, or the bytes themselves."""


class PushError(DataError):
    """Raised when an upload was refused or given up; the local files are unchanged."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub.

    Attributes:
        size: in bytes.
        digest: SHA-256 of a large (LFS) file, git's SHA-1 of a small one.
        is_large: stored outside of git.
    """

    size: int
    digest: str
    is_large: bool


class InvalidHubResponse(ConnectionError):
    """Raised for a response with a success status that did not come from the Hub: a web page, no body, other JSON."""


def hub_client() -> Any:
    """Return the Hub client, which uses the token of `hf auth login` or HF_TOKEN.

    Its methods raise `InvalidHubResponse` if the response is not one of the Hub's.
    """
    from huggingface_hub import HfApi

    from .. import __version__

    api = HfApi(library_name="hf_videomae", library_version=__version__)
    for name in _CHECKED_METHODS:
        setattr(api, name, _raise_invalid_response(getattr(api, name)))
    return api


def _raise_invalid_response(method: Callable[..., Any]) -> Callable[..., Any]:
    from huggingface_hub.errors import HfUriError

    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return method(*args, **options)
        except (LookupError, TypeError, json.JSONDecodeError, HfUriError) as error:
            raise InvalidHubResponse(f"{NOT_THE_HUB} ({type(error).__name__}: {error})") from None
        except ValueError as error:
            if not any(words in str(error) for words in _MALFORMED_MESSAGES):
                raise  # the client's own validation
            raise InvalidHubResponse(f"{NOT_THE_HUB} ({error})") from None

    return call


def resolve_owned_repo_id(id: str, user: dict[str, Any]) -> str:
    """Return the full repository id, after checking that the user may write to its namespace.

    Args:
        id: `org/name`, or `name` in the user's own namespace.
        user: the result of the client's `whoami`.

    Raises:
        PushError: when the token is read-only, or the namespace belongs to somebody else.
    """
    owner, _, name = id.rpartition("/")
    username, organizations = user["name"], [org["name"] for org in user.get("orgs", [])]
    if (user.get("auth") or {}).get("accessToken", {}).get("role") == "read":
        raise PushError("your token may only read; make one that may write, and log in with it (`hf auth login`)")
    if (owner or username).lower() not in {known.lower() for known in (username, *organizations)}:
        raise PushError(
            f"{id} is not yours: you are {username}"
            + (f", of {', '.join(organizations)}" if organizations else ", and a member of no organization")
            + f"; give {username}/{name}, or ask {owner} to let you in"
        )
    return f"{owner or username}/{name}"


def is_hub_reachable(id: str, *, seconds: float = 3.0) -> bool:
    """Return whether the Hub answers one request within some seconds; a refusal is an answer."""
    request = urllib.request.Request(f"{hub_client().endpoint}/api/models/{id}", headers={"User-Agent": "hf-videomae"})
    try:
        with urllib.request.urlopen(request, timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        return error.code < _FIRST_SERVER_ERROR
    except OSError:
        return False


def list_files(id: str, *, repo_type: str, revision: str) -> dict[str, RemoteFile]:
    """Return the files of a repository by path."""
    from huggingface_hub.hf_api import RepoFile

    tree = hub_client().list_repo_tree(id, repo_type=repo_type, revision=revision, recursive=True)
    return {
        entry.path: RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.lfs is not None)
        for entry in tree
        if isinstance(entry, RepoFile)
    }


def content_size(content: FileContent) -> int:
    """Return the size in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def has_same_content(content: FileContent, remote_file: RemoteFile | None) -> bool:
    """Return whether the Hub already holds this content."""
    return (
        remote_file is not None
        and remote_file.size == content_size(content)
        and remote_file.digest == _digest(content, remote_file.is_large)
    )


def _digest(content: FileContent, is_large: bool) -> str:
    if is_large and isinstance(content, Path):
        return sha256_of(content)
    data = content if isinstance(content, bytes) else content.read_bytes()
    if is_large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def describe_client_error(error: Exception, id: str) -> str | None:
    """Return a Hub client error as one line; None for an error of another kind."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    for cause in cause_chain(error):
        if isinstance(cause, LocalTokenNotFoundError):
            return "you are not logged in to the Hub; `hf auth login` with a token that may write, or set HF_TOKEN"
        if isinstance(cause, OfflineModeIsEnabled):
            return "the Hub is switched off (HF_HUB_OFFLINE); unset it"
        if isinstance(cause, HfHubHTTPError):
            message = cause.server_message or first_line(cause)
            return _describe_status(cause.response.status_code, message, id)
        if isinstance(cause, ConnectionError) and (status := http_status(cause)) is not None:
            return _describe_status(status, root_cause_message(cause), id)
    return None


def _describe_status(status: int, message: str, id: str) -> str:
    message = " ".join(message.split())
    if status == _UNAUTHORIZED:
        where = "HF_TOKEN holds" if os.environ.get("HF_TOKEN") else "you are logged in with"
        return f"the Hub does not know the token that {where} ({message}); `hf auth login` with one that may write"
    if status == _FORBIDDEN:
        return f"you may not write to {id} ({message}); take a token that may, or another id"
    if status == PRECONDITION_FAILED:
        return f"somebody else changed {id} meanwhile"
    return f"the Hub refuses it: {message}"


def describe_error(error: Exception, *, id: str) -> str | None:
    """Return an error of an upload as one line; None for an unexpected error."""
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    return describe_client_error(error, id) or (root_cause_message(error) if isinstance(error, RuntimeError) else None)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hide the client's own progress bars, one per file."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
