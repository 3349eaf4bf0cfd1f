"""A prepared set -> the Hub: what is new is sent, then one commit puts it in place and takes away what is stale.

A push that broke off leaves the old set; called again, it sends only what is not there yet. Nothing is written to the
set that lies here.
"""

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..commits import Changes, Push, changes_of
from ..network import CLIENT_ERRORS, Patience, SourceUnavailable, outage_seconds, reason_of
from ..samples import DataError
from ..uploading import Content, PushError, hub_client, quiet_client, reason_for
from .card import with_id
from .layout import CARD, LISTS, REPORT, is_whole, read_report, shards_of
from .target import HubTarget, Remote, check_remote, read_remote

_SHARDS = "data/*-of-*"


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


def push_set(folder: str | Path, target: HubTarget, *, progress: bool = False) -> Pushed:
    """Publish a prepared set. What fails is tried again for 15 minutes; what is there already is not sent.

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
    upload = _push_of(_contents(folder, report, id=target.id), target, source=report["source"])
    try:
        with quiet_client():
            sent = upload.run(progress=progress)
    except PushError as error:
        raise _as_told(folder, target, str(error)) from error
    except SourceUnavailable as error:
        cause = reason_of(error.__cause__ or error)
        raise _as_told(folder, target, f"the Hub could not be reached for {outage_seconds():g} s ({cause})") from error
    except CLIENT_ERRORS as error:
        told = reason_for(error, id=target.id)
        if told is not None:
            raise _as_told(folder, target, told) from error
        raise
    return Pushed(
        id=target.id,
        url=f"{hub_client().endpoint}/datasets/{target.id}",
        commit=sent.commit,
        sent=sent.files,
        num_bytes=sent.num_bytes,
        removed=sent.removed,
    )


def _as_told(folder: Path, target: HubTarget, reason: str) -> PushError:
    return PushError(
        f"{folder} is whole, but {target.id} was not published: {reason}; the same command goes on from here"
    )


def _push_of(contents: dict[str, Content], target: HubTarget, *, source: str) -> Push[Remote]:
    def open_remote() -> Remote:
        remote = read_remote(target.id)
        if remote is None:
            hub_client().create_repo(target.id, repo_type="dataset", private=target.private, exist_ok=True)
            remote = read_remote(target.id)
        if remote is None:
            raise PushError(f"{target.id} was made, but cannot be read; look at its page")
        check_remote(target, remote, source=source)
        return remote

    def changes(remote: Remote) -> Changes:
        # In place of another set everything else goes, not only the shards of an earlier push.
        everything = not remote.is_of(source)
        return changes_of(contents, remote.files, stale=lambda path: everything or fnmatch.fnmatchcase(path, _SHARDS))

    return Push(
        id=target.id,
        repo_type="dataset",
        contents=contents,
        message=f"{source}, by hf-videomae prepare",
        patience=Patience(f"publishing {target.id}"),
        open=open_remote,
        changes=changes,
    )


def _contents(folder: Path, report: dict[str, Any], *, id: str) -> dict[str, Content]:
    """What is published, by its path: the set, and nothing else that may lie in its folder."""
    names = [*(shard["file"] for shard in shards_of(report)), *LISTS, REPORT]
    card = with_id((folder / CARD).read_text(encoding="utf-8"), id)
    return {**{name: folder / name for name in names}, CARD: card.encode("utf-8")}


__all__ = ["Pushed", "push_set"]
