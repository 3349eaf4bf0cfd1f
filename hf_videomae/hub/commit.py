"""Upload files and bring them onto a branch of the Hub in a single commit.

Readers of the branch see either the old files or the new ones, never a mix. A repeated push does not upload again what
already arrived, and it recognizes a commit whose response was lost.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..redaction import redact_secrets
from .client import (
    PRECONDITION_FAILED,
    FileContent,
    PushError,
    content_size,
    describe_error,
    has_same_content,
    hub_client,
    without_progress_bars,
)
from .repo import MAIN_BRANCH, HubTarget, RemoteBranch
from .retry import CLIENT_ERRORS, RetryPolicy, SourceUnavailable, retry_transient, root_cause_message

GITATTRIBUTES_FILE = ".gitattributes"
# Files uploaded in one step: the progress bar moves, and failures are retried, a step at a time.
_UPLOAD_BATCH_BYTES, _UPLOAD_BATCH_FILES = 64 << 20, 200
_MAX_COMMIT_CONFLICTS = 5  # commits of others while this one is being made
_NUM_UPLOAD_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class FileChanges:
    """The changes that turn a branch's files into the new contents.

    Attributes:
        head: the newest commit of the branch.
        added: paths to upload.
        deleted: paths to delete.
        kept: paths that stay as they are, although the new contents differ.
    """

    head: str
    added: list[str]
    deleted: list[str]
    kept: tuple[str, ...] = ()


def diff_files(
    contents: dict[str, FileContent],
    remote: RemoteBranch,
    *,
    is_stale: Callable[[str], bool],
    is_kept: Callable[[str], bool] = lambda path: False,
) -> FileChanges:
    """Return which files to upload and which to delete.

    Args:
        contents: the new content by path.
        remote: the branch.
        is_stale: whether to delete a remote file that is not in `contents`.
        is_kept: whether to leave a remote file as it is, although its new content differs.
    """
    differing = [path for path, content in contents.items() if not has_same_content(content, remote.files.get(path))]
    kept = tuple(filter(is_kept, differing))
    others = sorted(remote.files.keys() - contents.keys() - {GITATTRIBUTES_FILE})
    return FileChanges(
        head=remote.commit,
        added=[path for path in differing if path not in kept],
        deleted=[path for path in others if is_stale(path)],
        kept=kept,
    )


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """What a push did.

    Attributes:
        commit: the branch's head now.
        files: number of new files.
        num_bytes: their size.
        removed: number of deleted files.
        kept: paths that were left as they are, although the new contents differ.
    """

    commit: str
    files: int
    num_bytes: int
    removed: int
    kept: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether the push changed anything."""
        return bool(self.files or self.removed)


def commit_files(
    target: HubTarget,
    contents: dict[str, FileContent],
    plan_changes: Callable[[], FileChanges],
    *,
    message: str,
    retry_policy: RetryPolicy,
    branch: str = MAIN_BRANCH,
    progress: bool = False,
) -> CommitResult:
    """Upload new files, then commit them; retry until the branch holds them.

    Args:
        target: the repository.
        contents: the new content by path.
        plan_changes: reads the branch and returns the changes; called again after a failure. It raises `PushError`
            if the push must not happen.
        message: the commit message.
        retry_policy: how long to retry while the Hub fails.
        branch: the branch to commit to.
        progress: show a progress bar on stderr.

    Raises:
        PushError: when the Hub keeps moving under the commit, or `plan_changes` refuses.
        SourceUnavailable: when the retries are used up or canceled.
    """
    changes, is_current = retry_transient(plan_changes, retry_policy), True
    retry_policy.reset()
    sizes = {path: content_size(contents[path]) for path in changes.added}
    removed = len(changes.deleted)
    additions = _upload(target, contents, sizes, branch=branch, retry_policy=retry_policy, progress=progress)

    def attempt() -> str | None:
        nonlocal changes, is_current
        if not is_current:  # the branch may hold the commit already, or one of somebody else
            changes = plan_changes()
        is_current = False
        new = [path for path in changes.added if path not in additions]
        additions.update({path: _addition(path, contents) for path in new})
        return _create_commit(target, changes, additions, message=message, branch=branch)

    for _ in range(_MAX_COMMIT_CONFLICTS):
        commit = retry_transient(attempt, retry_policy)
        if commit is not None:
            num_bytes = sum(sizes.values())
            return CommitResult(
                commit=commit, files=len(sizes), num_bytes=num_bytes, removed=removed, kept=changes.kept
            )
    raise PushError(f"somebody else keeps changing {target.id}")


def _upload(
    target: HubTarget,
    contents: dict[str, FileContent],
    sizes: dict[str, int],
    *,
    branch: str,
    retry_policy: RetryPolicy,
    progress: bool,
) -> dict[str, Any]:
    """Upload the files of `sizes` a group at a time; return the operations that add them."""
    from tqdm import tqdm

    additions: dict[str, Any] = {}
    options = _commit_options(target, branch)

    def send(group: list[str]) -> None:
        additions.update({path: _addition(path, contents) for path in group if path not in additions})
        hub_client().preupload_lfs_files(target.id, [additions[path] for path in group], **options)

    with tqdm(
        total=sum(sizes.values()), desc=target.id, unit="B", unit_scale=True, dynamic_ncols=True, disable=not progress
    ) as bar:
        for group in _split_uploads(sizes):
            retry_transient(lambda group=group: send(group), retry_policy)  # type: ignore[misc]
            retry_policy.reset()
            bar.update(sum(sizes[path] for path in group))
    return additions


def _addition(path: str, contents: dict[str, FileContent]) -> Any:
    from huggingface_hub import CommitOperationAdd

    return CommitOperationAdd(path, contents[path])


def _commit_options(target: HubTarget, branch: str) -> dict[str, Any]:
    return {"repo_type": target.repo_type, "revision": branch, "num_threads": _NUM_UPLOAD_THREADS}


def _create_commit(
    target: HubTarget, changes: FileChanges, additions: dict[str, Any], *, message: str, branch: str
) -> str | None:
    """Return the branch's head once it holds the changes; None if another commit came first."""
    from huggingface_hub import CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    if not changes.added and not changes.deleted:
        return changes.head
    removals = [CommitOperationDelete(path, is_folder=False) for path in changes.deleted]
    try:
        info = hub_client().create_commit(
            target.id,
            [*removals, *(additions[path] for path in changes.added)],
            commit_message=message,
            parent_commit=changes.head,
            **_commit_options(target, branch),
        )
    except HfHubHTTPError as error:
        if error.response.status_code != PRECONDITION_FAILED:
            raise
        time.sleep(0.1)
        return None
    return str(info.oid)


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


@contextmanager
def wrap_push_errors(id: str, *, seconds: float) -> Iterator[None]:
    """Turn an error of a push to a repository into a `PushError` of one line, without tokens.

    Args:
        id: the repository.
        seconds: how long the push waited for the Hub, for the message.

    Raises:
        PushError: instead of the client's errors.
        SourceUnavailable: when waiting for the Hub was canceled.
    """
    try:
        with without_progress_bars():
            yield
    except SourceUnavailable as error:
        if error.__cause__ is None:
            raise  # canceled
        reason = redact_secrets(root_cause_message(error.__cause__))
        raise PushError(f"the Hub could not be reached for {seconds:g} s ({reason})") from error
    except CLIENT_ERRORS as error:
        if (description := describe_error(error, id=id)) is not None:
            raise PushError(redact_secrets(description)) from error
        raise
