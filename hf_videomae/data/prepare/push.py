"""A prepared set -> the Hub: what is new is sent, then one commit puts it in place and takes away what is stale.

A reader of the Hub sees the old set or the new one, never some shards of each. A push that broke off leaves the old
one; called again, it sends only what is not there yet. Nothing is written to the set that lies here.
"""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..network import OUTAGE_SECONDS, Patience, SourceUnavailable, reason_of, until_it_passes
from ..samples import DataError
from ..uploading import Content, PushError, hub_client, is_same, quiet_client, reason_for, size_of
from .card import with_id
from .layout import CARD, LISTS, REPORT, is_whole, read_report, shards_of
from .shards import MEGABYTE
from .target import HubTarget, Remote, check_remote, read_remote

_SHARDS = "data/*-of-*"
# What is sent before the bar moves, and before what failed is sent again.
_GROUP_BYTES, _GROUP_FILES = 64 * MEGABYTE, 200


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did.

    Attributes:
        id: `org/name`.
        url: of its page.
        commit: the head of `main` now.
        sent: files that were new.
        num_bytes: of these.
        removed: files of an earlier push that are gone.
    """

    id: str
    url: str
    commit: str
    sent: int = 0
    num_bytes: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Changes:
    """What makes the Hub's files those of the set."""

    new: list[str]
    stale: list[str]


def push_set(folder: str | Path, target: HubTarget, *, progress: bool = False) -> Pushed:
    """Publish a prepared set. What failed is tried again for 15 minutes; what is there already is not sent.

    Args:
        folder: of the set.
        target: by `check_target`.
        progress: show a bar on stderr.

    Raises:
        PushError: in one line; the set that lies here is as whole as before.
    """
    folder = Path(folder)
    report = read_report(folder)
    if report is None or not is_whole(report, folder):
        raise DataError(f"{folder} holds no whole set; make it with `hf-videomae prepare`")
    upload = _Upload(_contents(folder, report, id=target.id), target, source=report["source"])
    try:
        with quiet_client():
            return upload.run(progress=progress)
    except PushError as error:
        raise _as_told(folder, target, str(error)) from error
    except SourceUnavailable as error:
        cause = reason_of(error.__cause__ or error)
        raise _as_told(
            folder, target, f"the Hub could not be reached for {OUTAGE_SECONDS / 60:.0f} minutes ({cause})"
        ) from error
    except Exception as error:
        told = reason_for(error, id=target.id)
        if told is not None:
            raise _as_told(folder, target, told) from error
        raise


def _as_told(folder: Path, target: HubTarget, reason: str) -> PushError:
    return PushError(
        f"{folder} is whole, but {target.id} was not published: {reason}; the same command goes on from here"
    )


class _Upload:
    """One push; what was sent stays sent when it is tried again."""

    def __init__(self, contents: dict[str, Content], target: HubTarget, *, source: str) -> None:
        self.contents, self.target, self.source = contents, target, source
        self.api = hub_client()
        self.waiting = Patience(f"publishing {target.id}")
        self._additions: dict[str, Any] = {}

    def run(self, *, progress: bool) -> Pushed:
        remote = until_it_passes(self._open, self.waiting)
        self.waiting.progress()
        changes = changes_of(self.contents, remote, replace=not remote.is_of(self.source))
        sizes = {path: size_of(self.contents[path]) for path in changes.new}
        with _bar(sum(sizes.values()), name=self.target.id, shown=progress) as bar:
            for group in _groups(sizes):
                until_it_passes(lambda group=group: self._send(group), self.waiting)  # type: ignore[misc]
                self.waiting.progress()
                bar.update(sum(sizes[path] for path in group))
        commit = until_it_passes(self._commit, self.waiting)
        return Pushed(
            id=self.target.id,
            url=f"{self.api.endpoint}/datasets/{self.target.id}",
            commit=commit,
            sent=len(changes.new),
            num_bytes=sum(sizes.values()),
            removed=len(changes.stale),
        )

    def _open(self) -> Remote:
        remote = read_remote(self.target.id)
        if remote is None:
            self.api.create_repo(self.target.id, repo_type="dataset", private=self.target.private, exist_ok=True)
            remote = read_remote(self.target.id)
            if remote is None:
                raise PushError(f"{self.target.id} was made, but cannot be read; look at its page")
        check_remote(self.target, remote, source=self.source)
        return remote

    def _send(self, group: list[str]) -> None:
        self.api.preupload_lfs_files(
            self.target.id,
            [self._addition(path) for path in group],
            repo_type="dataset",
        )

    def _addition(self, path: str) -> Any:
        from huggingface_hub import CommitOperationAdd

        if path not in self._additions:
            self._additions[path] = CommitOperationAdd(path, self.contents[path])
        return self._additions[path]

    def _commit(self) -> str:
        """The head of `main` when it holds the set. The answer to a commit may be lost: then it is there already."""
        from huggingface_hub import CommitOperationDelete

        remote = self._open()
        changes = changes_of(self.contents, remote, replace=not remote.is_of(self.source))
        if not changes.new and not changes.stale:
            return remote.commit
        removals = [CommitOperationDelete(path, is_folder=False) for path in changes.stale]
        made = self.api.create_commit(
            self.target.id,
            [*removals, *(self._addition(path) for path in changes.new)],
            commit_message=f"{self.source}, by hf-videomae prepare",
            repo_type="dataset",
            parent_commit=remote.commit,
        )
        return str(made.oid)


# What is there, and what is not.


def _contents(folder: Path, report: dict[str, Any], *, id: str) -> dict[str, Content]:
    """What is published, by its path: the set, and nothing else that may lie in its folder."""
    names = [*(shard["file"] for shard in shards_of(report)), *LISTS, REPORT]
    card = with_id((folder / CARD).read_text(encoding="utf-8"), id)
    return {**{name: folder / name for name in names}, CARD: card.encode("utf-8")}


def changes_of(contents: dict[str, Content], remote: Remote, *, replace: bool = False) -> Changes:
    """What is to be sent and what is to go.

    Args:
        contents: of the set, by path.
        remote: what lies on the Hub.
        replace: everything else goes, not only the shards of an earlier push.
    """
    new = [path for path, content in contents.items() if not is_same(content, remote.files.get(path))]
    others = sorted(remote.files.keys() - contents.keys() - {".gitattributes"})
    return Changes(new, [path for path in others if replace or fnmatch.fnmatchcase(path, _SHARDS)])


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


# What is shown.


def _bar(num_bytes: int, *, name: str, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=num_bytes, unit="B", unit_scale=True, dynamic_ncols=True, desc=name, disable=not shown)


__all__ = ["Changes", "Pushed", "changes_of", "push_set"]
