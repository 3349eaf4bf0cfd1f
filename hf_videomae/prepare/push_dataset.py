"""Publish a prepared dataset on the Hub: upload new files, then replace the old dataset in a single commit.

An interrupted push leaves the old dataset. The same call continues it and sends only what is missing. The local
dataset is not changed.
"""

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..hub.client import FileContent, PushError, describe_error, hub_client, without_progress_bars
from ..hub.commit import FileChanges, HubCommit, diff_files
from ..hub.retry import CLIENT_ERRORS, RetryPolicy, SourceUnavailable, outage_retry_seconds, root_cause_message
from .dataset_card import fill_in_dataset_id
from .hub_target import HubTarget, RemoteDataset, check_remote_dataset, read_remote_dataset
from .layout import (
    CARD,
    METADATA_FILE_NAMES,
    REPORT_FILE,
    is_complete,
    list_shards,
    read_report,
)

_SHARD_PATTERN = "data/*-of-*"


@dataclass(frozen=True, kw_only=True)
class PushedDataset:
    """The outcome of a push.

    Attributes:
        id: `org/name`.
        url: its page.
        commit: the head of `main` now.
        sent: number of new files.
        num_bytes: their size.
        removed: number of deleted files of an earlier push.
    """

    id: str
    url: str
    commit: str
    sent: int = 0
    num_bytes: int = 0
    removed: int = 0


def push_dataset(folder: str | Path, target: HubTarget, *, progress: bool = False) -> PushedDataset:
    """Publish a prepared dataset. Failures are retried for 15 minutes; files that are there already are not sent.

    Args:
        folder: of the dataset.
        target: from `check_dataset_target`.
        progress: show a bar on stderr.

    Raises:
        PushError: when it was not published; the local dataset is unchanged.
    """
    folder = Path(folder)
    report = read_report(folder)
    if report is None or not is_complete(report, folder):
        raise DataError(f"{folder} holds no complete dataset; make it with `hf-videomae prepare`")
    upload = _build_push(_collect_contents(folder, report, id=target.id), target, source=report["source"])
    try:
        with without_progress_bars():
            sent = upload.run(progress=progress)
    except PushError as error:
        raise _push_error(folder, target, str(error)) from error
    except SourceUnavailable as error:
        cause = root_cause_message(error.__cause__ or error)
        raise _push_error(
            folder, target, f"the Hub could not be reached for {outage_retry_seconds():g} s ({cause})"
        ) from error
    except CLIENT_ERRORS as error:
        description = describe_error(error, id=target.id)
        if description is not None:
            raise _push_error(folder, target, description) from error
        raise
    return PushedDataset(
        id=target.id,
        url=f"{hub_client().endpoint}/datasets/{target.id}",
        commit=sent.commit,
        sent=sent.files,
        num_bytes=sent.num_bytes,
        removed=sent.removed,
    )


def _push_error(folder: Path, target: HubTarget, reason: str) -> PushError:
    return PushError(
        f"{folder} is complete, but {target.id} was not published: {reason}; the same command continues from here"
    )


def _build_push(contents: dict[str, FileContent], target: HubTarget, *, source: str) -> HubCommit[RemoteDataset]:
    def open_remote() -> RemoteDataset:
        remote = read_remote_dataset(target.id)
        if remote is None:
            hub_client().create_repo(target.id, repo_type="dataset", private=target.private, exist_ok=True)
            remote = read_remote_dataset(target.id)
        if remote is None:
            raise PushError(f"{target.id} was created, but cannot be read; look at its page")
        check_remote_dataset(target, remote, source=source)
        return remote

    def changes(remote: RemoteDataset) -> FileChanges:
        # When another dataset is replaced, all its files are deleted, not only the shards of an earlier push.
        everything = not remote.is_empty_or_from(source)
        return diff_files(
            contents, remote.files, is_stale=lambda path: everything or fnmatch.fnmatchcase(path, _SHARD_PATTERN)
        )

    return HubCommit(
        id=target.id,
        repo_type="dataset",
        contents=contents,
        message=f"{source}, by hf-videomae prepare",
        retry_policy=RetryPolicy(f"publishing {target.id}"),
        open=open_remote,
        changes=changes,
    )


def _collect_contents(folder: Path, report: dict[str, Any], *, id: str) -> dict[str, FileContent]:
    """Return what is published, by path: the dataset, and no other file in its folder."""
    names = [*(shard["file"] for shard in list_shards(report)), *METADATA_FILE_NAMES, REPORT_FILE]
    card = fill_in_dataset_id((folder / CARD).read_text(encoding="utf-8"), id)
    return {**{name: folder / name for name in names}, CARD: card.encode("utf-8")}


__all__ = ["PushedDataset", "push_dataset"]
