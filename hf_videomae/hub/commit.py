"""Contents brought to a branch of the Hub by one commit.

Whoever reads the branch sees the old files or the new ones, never some of each. What was sent is not sent again when
a push is repeated, and a commit whose answer was lost is found to be there.
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
# Nobody waits longer than this to hear that the Hub cannot be reached, before hours of work.
CHECK_SECONDS = 20.0
# What is sent before the bar moves, and before what failed is sent again.
_UPLOAD_BATCH_BYTES, _UPLOAD_BATCH_FILES = 64 << 20, 200
_MAX_COMMIT_CONFLICTS = 5  # of other people, while one commit is made
_NUM_UPLOAD_THREADS = 2

_Result = TypeVar("_Result")


class BranchHead(Protocol):
    """What lies on a branch."""

    @property
    def commit(self) -> str:
        """Its head."""


_BranchHead = TypeVar("_BranchHead", bound=BranchHead)


def query_repo(attempt: Callable[[], _Result], id: str, *, otherwise: str) -> _Result:
    """What a first look at a repository finds; a Hub that does not answer is not waited for long.

    Args:
        attempt: made again while what stops it passes.
        id: of the repository.
        otherwise: what to do without the Hub.

    Raises:
        PushError: in one line.
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
    """What makes a branch hold the contents: the paths that are new, or other than there, and those that go."""

    added: list[str]
    deleted: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.deleted)


def diff_files(
    contents: dict[str, FileContent], files: dict[str, Any], *, stale: Callable[[str], bool]
) -> FileChanges:
    """What is to be sent and what is to go.

    Args:
        contents: by path.
        files: `RemoteFile`s by path, as they lie on the branch.
        stale: whether a file that is not among the contents goes.
    """
    added = [path for path, content in contents.items() if not has_same_content(content, files.get(path))]
    others = sorted(files.keys() - contents.keys() - {GITATTRIBUTES_FILE})
    return FileChanges(added, [path for path in others if stale(path)])


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """What a push did: the head of the branch now, the files that were new, their bytes, and the files that went."""

    commit: str
    files: int
    num_bytes: int
    removed: int

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.files or self.removed)


@dataclass(kw_only=True)
class HubCommit(Generic[_BranchHead]):
    """One commit in the making.

    Attributes:
        id: `org/name`.
        repo_type: `model` or `dataset`.
        contents: by path.
        message: of the commit.
        patience: how long a Hub that fails is waited for.
        open: what lies on the branch, which is made where it is missing; raises what is in the way.
        changes: between the contents and that.
        branch: to commit to.
    """

    id: str
    repo_type: str
    contents: dict[str, FileContent]
    message: str
    patience: RetryPolicy
    open: Callable[[], _BranchHead]
    changes: Callable[[_BranchHead], FileChanges]
    branch: str = MAIN_BRANCH
    _additions: dict[str, Any] = field(default_factory=dict)

    def run(self, *, progress: bool = False) -> CommitResult:
        """Send what is new, then commit it.

        Args:
            progress: show a bar on stderr.

        Raises:
            PushError: in one line.
            SourceUnavailable: when the patience is over, or was called off.
        """
        changes = retry_transient(lambda: self.changes(self.open()), self.patience)
        self.patience.progress()
        sizes = {path: content_size(self.contents[path]) for path in changes.added}
        with _progress_bar(sum(sizes.values()), name=self.id, shown=progress) as bar:
            for group in _split_uploads(sizes):
                retry_transient(lambda group=group: self._send(group), self.patience)  # type: ignore[misc]
                self.patience.progress()
                bar.update(sum(sizes[path] for path in group))
        for _ in range(_MAX_COMMIT_CONFLICTS):
            commit = retry_transient(self._commit, self.patience)
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
        """The head of the branch once it holds the contents, by this commit or by one whose answer was lost; None
        where somebody else came first."""
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


def _progress_bar(num_bytes: int, *, name: str, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=num_bytes, unit="B", unit_scale=True, dynamic_ncols=True, desc=name, disable=not shown)
