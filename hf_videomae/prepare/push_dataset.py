"""Publish a prepared dataset on the Hub: upload new files, then replace the old dataset in a single commit.

An interrupted push leaves the old dataset. The same call continues it and sends only what is missing. The local
dataset is not changed.
"""

import fnmatch
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..hub.client import FileContent, PushError
from ..hub.commit import GITATTRIBUTES_FILE, CommitResult, FileChanges, commit_files, diff_files, wrap_push_errors
from ..hub.repo import HubTarget, RemoteBranch, check_visibility, open_branch, resolve_target
from ..hub.retry import RetryPolicy
from .dataset_card import fill_in_dataset_id
from .layout import (
    CARD,
    METADATA_FILE_NAMES,
    REPORT_FILE,
    is_complete,
    list_shards,
    parse_report,
    read_report,
)

_SHARD_PATTERN = "data/*-of-*"
# The files of a repository that was just created, by the client or on the Hub's web pages.
_INITIAL_FILES = {GITATTRIBUTES_FILE, CARD}


def check_dataset_target(id: str, *, source: str, private: bool = False, overwrite: bool = False) -> HubTarget:
    """Check that a dataset can be published, before hours are spent on making it; change nothing.

    Args:
        id: `org/name`, or `name` in the user's own namespace.
        source: name of the dataset, as in its report.
        private: create it as private, if it does not exist.
        overwrite: replace whatever is there; it stays in the history.

    Raises:
        PushError: when something prevents it.
    """
    target = HubTarget(id=id, repo_type="dataset", private=private, overwrite=overwrite)
    otherwise = "without --push_to_hub the dataset is made locally; the command with it publishes it later"
    return resolve_target(target, lambda remote: _check_may_overwrite(remote, source), otherwise=otherwise)


def _check_may_overwrite(remote: RemoteBranch, source: str) -> bool:
    """Return whether the repository is empty, or an earlier push of this dataset; False if `overwrite` allows others.

    Raises:
        PushError: naming what is there.
    """
    check_visibility(remote)
    report = parse_report(remote.read_text(REPORT_FILE) or "")
    others = sorted(remote.files.keys() - _INITIAL_FILES)
    if report is None and not others or report is not None and report.get("source") == source:
        return True
    if remote.target.overwrite:
        return False
    what = f"other files ({others[0]}, ...)" if report is None else f"a dataset made of {report.get('source')}"
    raise PushError(
        f"{remote.target.id} holds {what}, not one made of {source}; give another id, or --overwrite to replace it "
        f"(it stays in the history)"
    )


def push_dataset(folder: str | Path, target: HubTarget, *, progress: bool = False) -> CommitResult:
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
    contents, source = _collect_contents(folder, report, id=target.id), report["source"]
    retry_policy = RetryPolicy(f"publishing {target.id}")

    def plan() -> FileChanges:
        remote = open_branch(target)
        # When another dataset is replaced, all its files are deleted, not only the shards of an earlier push.
        pattern = _SHARD_PATTERN if _check_may_overwrite(remote, source) else "*"
        return diff_files(contents, remote, is_stale=lambda path: fnmatch.fnmatchcase(path, pattern))

    message = f"{source}, by hf-videomae prepare"
    try:
        with wrap_push_errors(target.id, seconds=retry_policy.seconds):
            return commit_files(target, contents, plan, message=message, retry_policy=retry_policy, progress=progress)
    except PushError as error:
        raise PushError(
            f"{folder} is complete, but {target.id} was not published: {error}; the same command continues from here"
        ) from error


def _collect_contents(folder: Path, report: dict[str, Any], *, id: str) -> dict[str, FileContent]:
    """Return what is published, by path: the dataset, and no other file in its folder."""
    names = [*(shard["file"] for shard in list_shards(report)), *METADATA_FILE_NAMES, REPORT_FILE]
    card = fill_in_dataset_id((folder / CARD).read_text(encoding="utf-8"), id)
    return {**{name: folder / name for name in names}, CARD: card.encode("utf-8")}


__all__ = ["check_dataset_target", "push_dataset"]
