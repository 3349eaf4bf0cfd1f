"""Check, create and read a repository of the Hub that a run or a dataset is published to."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ..redaction import redact_secrets
from .client import PushError, RemoteFile, describe_client_error, hub_client, list_files, resolve_owned_repo_id
from .download import download
from .retry import (
    CLIENT_ERRORS,
    RetryPolicy,
    SourceUnavailable,
    retry_transient,
    root_cause_message,
    shard_retry_seconds,
)

MAIN_BRANCH = "main"
# The longest wait for an unreachable Hub before hours of work begin.
CHECK_SECONDS = 20.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

_Result = TypeVar("_Result")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a repository, `org/name`, and is not the path of a video."""
    return _HUB_ID.fullmatch(name) is not None and not name.endswith((".git", ".mp4"))


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """A repository on the Hub to publish to.

    Attributes:
        id: `org/name`, or `name` in the user's own namespace until `resolve_target` has completed it.
        repo_type: `model` or `dataset`.
        private: create it as private, if it does not exist.
        overwrite: replace its content, also that of another run or dataset.
        overwrite_card: also replace the card of a model that was edited on the Hub.
    """

    id: str
    repo_type: str = "model"
    private: bool = False
    overwrite: bool = False
    overwrite_card: bool = False

    @property
    def url(self) -> str:
        """Return the address of its page."""
        return f"{hub_client().endpoint}/{'datasets/' if self.repo_type == 'dataset' else ''}{self.id}"


@dataclass(frozen=True, kw_only=True)
class RemoteBranch:
    """The state of a branch: its repository, its newest commit, and its files by path."""

    target: HubTarget
    commit: str
    private: bool
    files: dict[str, RemoteFile]

    def read_text(self, path: str) -> str | None:
        """Return the text of a file; None if there is no such file."""
        if path not in self.files:
            return None
        file = download(self.target.id, path, repo_type=self.target.repo_type, revision=self.commit)
        return file.read_text(encoding="utf-8", errors="replace")


def read_branch(target: HubTarget, branch: str = MAIN_BRANCH) -> RemoteBranch | None:
    """Return the state of a branch; None if the repository or the branch does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = hub_client().repo_info(target.id, repo_type=target.repo_type, revision=branch)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None
    files = list_files(target.id, repo_type=target.repo_type, revision=info.sha)
    return RemoteBranch(target=target, commit=info.sha, private=bool(info.private), files=files)


def open_branch(target: HubTarget, branch: str = MAIN_BRANCH) -> RemoteBranch:
    """Return the state of a branch; create it, and its repository, if it is missing."""
    remote = read_branch(target, branch)
    if remote is None:
        hub_client().create_repo(target.id, repo_type=target.repo_type, private=target.private, exist_ok=True)
        if branch != MAIN_BRANCH:
            hub_client().create_branch(target.id, repo_type=target.repo_type, branch=branch, exist_ok=True)
        remote = read_branch(target, branch)
    if remote is None:
        raise PushError(f"{target.id} was created but cannot be read; look at its page")
    return remote


def resolve_target(target: HubTarget, check: Callable[[RemoteBranch], object], *, otherwise: str) -> HubTarget:
    """Check that the user can publish, before hours are spent on it; change nothing on the Hub.

    Args:
        target: its `id` may be `name`, for a repository of the user's own.
        check: raises `PushError` if what the repository holds must not be replaced.
        otherwise: what the user can do without the Hub; part of the message.

    Returns:
        The target with its complete id.

    Raises:
        PushError: in one line, for whatever prevents it.
    """
    if not is_hub_id(target.id if "/" in target.id else f"me/{target.id}"):
        raise PushError(f"{target.id!r} is not a Hub id; give org/name, or name for one of your own")

    def resolve() -> HubTarget:
        resolved = replace(target, id=resolve_owned_repo_id(target.id, hub_client().whoami()))
        remote = read_branch(resolved)
        if remote is not None:
            check(remote)
        return resolved

    return query_repo(resolve, target.id, otherwise=otherwise)


def query_repo(attempt: Callable[[], _Result], id: str, *, otherwise: str) -> _Result:
    """Return the result of a first look at a repository; give up early if the Hub does not respond.

    Args:
        attempt: called again after each transient error.
        id: the repository.
        otherwise: what the user can do without the Hub; part of the message.

    Raises:
        PushError: when the Hub cannot be reached or refuses.
    """
    try:
        return retry_transient(attempt, RetryPolicy(f"looking at {id}", seconds=shard_retry_seconds(CHECK_SECONDS)))
    except SourceUnavailable as error:
        reason = redact_secrets(root_cause_message(error.__cause__ or error))
        raise PushError(f"the Hub cannot be reached ({reason}); {otherwise}") from error
    except CLIENT_ERRORS as error:
        if (error_message := describe_client_error(error, id)) is not None:
            raise PushError(redact_secrets(error_message)) from error
        raise


def check_visibility(remote: RemoteBranch) -> None:
    """Refuse to publish privately in a public repository.

    Raises:
        PushError: naming the repository.
    """
    target = remote.target
    if target.private and not remote.private:
        flags = "--hub_private or --private" if target.repo_type == "model" else "--private"
        raise PushError(
            f"{target.id} exists already and is public; make it private in its settings on the Hub, or leave out "
            f"{flags}"
        )
