"""Upload files and bring them onto a branch of the Hub in a single commit.

Readers of the branch see either the old files or the new ones, never a mix. A repeated push does not upload again what
already arrived, and it recognizes a commit whose response was lost.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..redaction import redact_secrets
from .client import (
    PRECONDITION_FAILED,
    FileContent,
    PushError,
    RemoteFile,
    content_size,
    describe_client_error,
    has_same_content,
    hub_client,
)
from .retry import (
    CLIENT_ERRORS,
    RetryPolicy,
    SourceUnavailable,
    retry_transient,
    root_cause_message,
    shard_retry_seconds,
)

MAIN_BRANCH = "main"
GITATTRIBUTES_FILE = ".gitattributes"
# The longest wait for an unreachable Hub before hours of work begin.
CHECK_SECONDS = 20.0
# Files uploaded in one step: the progress bar moves, and failures are retried, a step at a time.
_UPLOAD_BATCH_BYTES, _UPLOAD_BATCH_FILES = 64 << 20, 200
_MAX_COMMIT_CONFLICTS = 5  # commits of others while this one is being made
_NUM_UPLOAD_THREADS = 2

_Result = TypeVar("_Result")


class BranchHead(Protocol):
    """The state of a branch."""

    @property
    def commit(self) -> str:
        """Return the branch's newest commit."""


_BranchHead = TypeVar("_BranchHead", bound=BranchHead)


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


@dataclass(frozen=True)
class FileChanges:
    """The changes that turn a branch's files into the new contents."""

    added: list[str]
    deleted: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.deleted)


def diff_files(
    contents: dict[str, FileContent], files: dict[str, RemoteFile], *, is_stale: Callable[[str], bool]
) -> FileChanges:
    """Return which files to upload and which to delete.

    Args:
        contents: the new content by path.
        files: the branch's `RemoteFile`s by path.
        is_stale: whether to delete a remote file that is not in `contents`.
    """
    added = [path for path, content in contents.items() if not has_same_content(content, files.get(path))]
    others = sorted(files.keys() - contents.keys() - {GITATTRIBUTES_FILE})
    return FileChanges(added, [path for path in others if is_stale(path)])


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """What a push did.

    Attributes:
        commit: the branch's head now.
        files: number of new files.
        num_bytes: their size.
        removed: number of deleted files.
    """

    commit: str
    files: int
    num_bytes: int
    removed: int

    @property
    def changed(self) -> bool:
        """Return whether the push changed anything."""
        return bool(self.files or self.removed)


@dataclass(kw_only=True)
class HubCommit(Generic[_BranchHead]):
    """One commit to a branch of the Hub, retried until it is made.

    Attributes:
        id: `org/name`.
        repo_type: `model` or `dataset`.
        contents: the new content by path.
        message: the commit message.
        retry_policy: how long to retry while the Hub fails.
        open: returns the branch's state, creating the branch if needed; raises `PushError` if the push must not
            happen.
        changes: returns the changes from that state to `contents`.
        branch: the branch to commit to.
    """

    id: str
    repo_type: str
    contents: dict[str, FileContent]
    message: str
    retry_policy: RetryPolicy
    open: Callable[[], _BranchHead]
    changes: Callable[[_BranchHead], FileChanges]
    branch: str = MAIN_BRANCH
    _additions: dict[str, Any] = field(default_factory=dict)

    def run(self, *, progress: bool = False) -> CommitResult:
        """Upload the new files, then commit.

        Args:
            progress: show a progress bar on stderr.

        Raises:
            PushError: when the Hub keeps moving under the commit, or `open` refuses.
            SourceUnavailable: when the retries are used up or canceled.
        """
        from tqdm import tqdm

        changes = retry_transient(lambda: self.changes(self.open()), self.retry_policy)
        self.retry_policy.reset()
        sizes = {path: content_size(self.contents[path]) for path in changes.added}
        options: dict[str, Any] = {"unit": "B", "unit_scale": True, "dynamic_ncols": True, "disable": not progress}
        with tqdm(total=sum(sizes.values()), desc=self.id, **options) as bar:
            for group in _split_uploads(sizes):
                retry_transient(lambda group=group: self._send(group), self.retry_policy)  # type: ignore[misc]
                self.retry_policy.reset()
                bar.update(sum(sizes[path] for path in group))
        for _ in range(_MAX_COMMIT_CONFLICTS):
            commit = retry_transient(self._commit, self.retry_policy)
            if commit is not None:
                removed = len(changes.deleted)
                return CommitResult(commit=commit, files=len(sizes), num_bytes=sum(sizes.values()), removed=removed)
        raise PushError(f"somebody else keeps changing {self.id}")

    def _send(self, group: list[str]) -> None:
        hub_client().preupload_lfs_files(
            self.id,
            [self._addition(path) for path in group],
            repo_type=self.repo_type,
            revision=self.branch,
            num_threads=_NUM_UPLOAD_THREADS,
        )

    def _addition(self, path: str) -> Any:
        from huggingface_hub import CommitOperationAdd

        if path not in self._additions:
            self._additions[path] = CommitOperationAdd(path, self.contents[path])
        return self._additions[path]

    def _commit(self) -> str | None:
        """Return the branch's head once it holds the contents; None if another commit came first."""
        from huggingface_hub import CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        head = self.open()
        changes = self.changes(head)
        if not changes:
            return head.commit
        removals = [CommitOperationDelete(path, is_folder=False) for path in changes.deleted]
        try:
            commit_info = hub_client().create_commit(
                self.id,
                [*removals, *(self._addition(path) for path in changes.added)],
                commit_message=self.message,
                repo_type=self.repo_type,
                revision=self.branch,
                parent_commit=head.commit,
                num_threads=_NUM_UPLOAD_THREADS,
            )
        except HfHubHTTPError as error:
            if error.response.status_code != PRECONDITION_FAILED:
                raise
            time.sleep(0.1)
            return None
        return str(commit_info.oid)


def _split_uploads(sizes: dict[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for path, size in sizes.items():
        group.append(path)
        total += size
        if total >= _UPLOAD_BATCH_BYTES or len(group) == _UPLOAD_BATCH_FILES:
            yield group
            group, total = [], 0
    if group:
        yield group
