"""Contents brought to a branch of the Hub by one commit.

Whoever reads the branch sees the old files or the new ones, never some of each. What was sent is not sent again when
a push is repeated, and a commit whose answer was lost is found to be there.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..cards.scrubbing import safe
from .network import CLIENT_ERRORS, Patience, SourceUnavailable, reason_of, shard_seconds, until_it_passes
from .uploading import CHANGED, Content, PushError, hub_client, is_same, size_of, told_of

MAIN = "main"
ATTRIBUTES = ".gitattributes"
# Nobody waits longer than this to hear that the Hub cannot be reached, before hours of work.
CHECK_SECONDS = 20.0
# What is sent before the bar moves, and before what failed is sent again.
_GROUP_BYTES, _GROUP_FILES = 64 << 20, 200
_MOST_CHANGES = 5  # of other people, while one commit is made
_UPLOADS_AT_A_TIME = 2

_Result = TypeVar("_Result")


class Head(Protocol):
    """What lies on a branch."""

    @property
    def commit(self) -> str:
        """Its head."""


_Head = TypeVar("_Head", bound=Head)


def look(attempt: Callable[[], _Result], id: str, *, otherwise: str) -> _Result:
    """What a first look at a repository finds; a Hub that does not answer is not waited for long.

    Args:
        attempt: made again while what stops it passes.
        id: of the repository.
        otherwise: what to do without the Hub.

    Raises:
        PushError: in one line.
    """
    try:
        return until_it_passes(attempt, Patience(f"looking at {id}", seconds=shard_seconds(CHECK_SECONDS)))
    except SourceUnavailable as error:
        reason = safe(reason_of(error.__cause__ or error))
        raise PushError(f"the Hub cannot be reached ({reason}); {otherwise}") from error
    except CLIENT_ERRORS as error:
        if (told := told_of(error, id)) is not None:
            raise PushError(safe(told)) from error
        raise


@dataclass(frozen=True)
class Changes:
    """What makes a branch hold the contents: the paths that are new, or other than there, and those that go."""

    new: list[str]
    gone: list[str]

    def __bool__(self) -> bool:
        return bool(self.new or self.gone)


def changes_of(contents: dict[str, Content], files: dict[str, Any], *, stale: Callable[[str], bool]) -> Changes:
    """What is to be sent and what is to go.

    Args:
        contents: by path.
        files: `RemoteFile`s by path, as they lie on the branch.
        stale: whether a file that is not among the contents goes.
    """
    new = [path for path, content in contents.items() if not is_same(content, files.get(path))]
    others = sorted(files.keys() - contents.keys() - {ATTRIBUTES})
    return Changes(new, [path for path in others if stale(path)])


@dataclass(frozen=True, kw_only=True)
class Sent:
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
class Push(Generic[_Head]):
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
    contents: dict[str, Content]
    message: str
    patience: Patience
    open: Callable[[], _Head]
    changes: Callable[[_Head], Changes]
    branch: str = MAIN
    _additions: dict[str, Any] = field(default_factory=dict)

    def run(self, *, progress: bool = False) -> Sent:
        """Send what is new, then commit it.

        Args:
            progress: show a bar on stderr.

        Raises:
            PushError: in one line.
            SourceUnavailable: when the patience is over, or was called off.
        """
        changes = until_it_passes(lambda: self.changes(self.open()), self.patience)
        self.patience.progress()
        sizes = {path: size_of(self.contents[path]) for path in changes.new}
        with _bar(sum(sizes.values()), name=self.id, shown=progress) as bar:
            for group in _groups(sizes):
                until_it_passes(lambda group=group: self._send(group), self.patience)  # type: ignore[misc]
                self.patience.progress()
                bar.update(sum(sizes[path] for path in group))
        for _ in range(_MOST_CHANGES):
            commit = until_it_passes(self._commit, self.patience)
            if commit is not None:
                removed = len(changes.gone)
                return Sent(commit=commit, files=len(sizes), num_bytes=sum(sizes.values()), removed=removed)
        raise PushError(f"somebody else keeps changing {self.id}")

    def _send(self, group: list[str]) -> None:
        hub_client().preupload_lfs_files(
            self.id,
            [self._addition(path) for path in group],
            repo_type=self.repo_type,
            revision=self.branch,
            num_threads=_UPLOADS_AT_A_TIME,
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
        removals = [CommitOperationDelete(path, is_folder=False) for path in changes.gone]
        try:
            made = hub_client().create_commit(
                self.id,
                [*removals, *(self._addition(path) for path in changes.new)],
                commit_message=self.message,
                repo_type=self.repo_type,
                revision=self.branch,
                parent_commit=head.commit,
                num_threads=_UPLOADS_AT_A_TIME,
            )
        except HfHubHTTPError as error:
            if error.response.status_code != CHANGED:
                raise
            time.sleep(0.1)
            return None
        return str(made.oid)


def _groups(sizes: dict[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for path, size in sizes.items():
        group.append(path)
        total += size
        if total >= _GROUP_BYTES or len(group) == _GROUP_FILES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _bar(num_bytes: int, *, name: str, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=num_bytes, unit="B", unit_scale=True, dynamic_ncols=True, desc=name, disable=not shown)
