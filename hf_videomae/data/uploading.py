"""What every upload to the Hub needs: the client, who may write where, what is there already, and errors in words."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .network import causes, reason_of, status_of
from .samples import DataError

_UNAUTHORIZED, _FORBIDDEN, CHANGED = 401, 403, 412

_METHODS = (
    *("whoami", "model_info", "dataset_info", "create_repo", "create_branch", "preupload_lfs_files", "create_commit"),
)
# Of the client, for answers of another shape.
_NO_HUB = "what answers for the Hub is not the Hub ({})"
_MALFORMED = ("improperly formatted", "Malformed response")

Content = Path | bytes
"""Of a file that is sent."""


class PushError(DataError):
    """Something is not on the Hub; what lies here is as whole as it was."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of the Hub; `digest` is the SHA-256 of a large file and git's name of a small one."""

    size: int
    digest: str
    is_large: bool


class BadAnswer(ConnectionError):
    """An answer with a good status that is none of the Hub's: a page, nothing, or JSON of another shape."""


def hub_client() -> Any:
    """The client with the token of `hf auth login` or HF_TOKEN; it raises `BadAnswer` for what is no answer."""
    from huggingface_hub import HfApi

    from .. import __version__

    api = HfApi(library_name="hf_videomae", library_version=__version__)
    for name in _METHODS:
        setattr(api, name, _checked(getattr(api, name)))
    return api


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    from huggingface_hub.errors import HfUriError

    @functools.wraps(method)
    def ask(*args: Any, **options: Any) -> Any:
        try:
            return method(*args, **options)
        except (LookupError, TypeError, json.JSONDecodeError, HfUriError) as error:
            raise BadAnswer(_NO_HUB.format(f"{type(error).__name__}: {error}")) from None
        except ValueError as error:
            if not any(words in str(error) for words in _MALFORMED):
                raise  # what the client refuses by itself
            raise BadAnswer(_NO_HUB.format(error)) from None

    return ask


def owned_id(id: str, user: dict[str, Any]) -> str:
    """`org/name`, whole, of a user who may write there as far as the Hub tells beforehand.

    Args:
        id: `org/name`, or `name` for one's own.
        user: `whoami` of the client.

    Raises:
        PushError: in one line.
    """
    owner, _, name = id.rpartition("/")
    mine, teams = user["name"], [org["name"] for org in user.get("orgs", [])]
    if (user.get("auth") or {}).get("accessToken", {}).get("role") == "read":
        raise PushError("your token may only read; make one that may write, and log in with it (`hf auth login`)")
    if (owner or mine).lower() not in {known.lower() for known in (mine, *teams)}:
        raise PushError(
            f"{id} is not yours: you are {mine}"
            + (f", of {', '.join(teams)}" if teams else ", and a member of no organization")
            + f"; give {mine}/{name}, or ask {owner} to let you in"
        )
    return f"{owner or mine}/{name}"


def list_files(id: str, *, repo_type: str, revision: str) -> dict[str, RemoteFile]:
    """The files of a repository, by path."""
    from huggingface_hub.hf_api import RepoFile

    tree = hub_client().list_repo_tree(id, repo_type=repo_type, revision=revision, recursive=True)
    return {
        entry.path: RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.lfs is not None)
        for entry in tree
        if isinstance(entry, RepoFile)
    }


def size_of(content: Content) -> int:
    """Bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def is_same(content: Content, there: RemoteFile | None) -> bool:
    """Whether the Hub holds this very content."""
    return there is not None and there.size == size_of(content) and there.digest == _digest(content, there.is_large)


def _digest(content: Content, is_large: bool) -> str:
    if is_large and isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    data = content if isinstance(content, bytes) else content.read_bytes()
    if is_large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def told_of(error: Exception, id: str) -> str | None:
    """An error of the clients in words; None for what is none of theirs."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    for cause in causes(error):
        if isinstance(cause, LocalTokenNotFoundError):
            return "you are not logged in to the Hub; `hf auth login` with a token that may write, or set HF_TOKEN"
        if isinstance(cause, OfflineModeIsEnabled):
            return "the Hub is switched off (HF_HUB_OFFLINE); unset it"
        if isinstance(cause, HfHubHTTPError):
            said = cause.server_message or str(cause).strip().partition("\n")[0]
            return _told_of_status(cause.response.status_code, said, id)
        if isinstance(cause, ConnectionError) and (status := status_of(cause)) is not None:
            return _told_of_status(status, reason_of(cause), id)
    return None


def _told_of_status(status: int, said: str, id: str) -> str:
    said = " ".join(said.split())
    if status == _UNAUTHORIZED:
        where = "HF_TOKEN holds" if os.environ.get("HF_TOKEN") else "you are logged in with"
        return (
            f"the Hub does not know the token that {where} ({said}); `hf auth login` with a valid one that may write"
        )
    if status == _FORBIDDEN:
        return f"you may not write to {id} ({said}); take a token that may, or another id"
    if status == CHANGED:
        return f"somebody else changed {id} meanwhile"
    return f"the Hub refuses it: {said}"


def reason_for(error: Exception, *, id: str) -> str | None:
    """What the client refuses by itself, a card for example, is told in its words, and so is what it gave up."""
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    return told_of(error, id) or (reason_of(error) if isinstance(error, RuntimeError) else None)


@contextmanager
def quiet_client() -> Iterator[None]:
    """Without the client's bars, of which each file has its own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
