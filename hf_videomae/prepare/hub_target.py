"""Where on the Hub a set is to go: whether its owner may write there, and what lies there already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cards import is_hub_id
from ..hub.client import PushError, RemoteFile, hub_client, list_files, resolve_owned_repo_id
from ..hub.commit import GITATTRIBUTES_FILE, query_repo
from .layout import CARD, REPORT_FILE, parse_report

# What the Hub, or whoever made an empty repository on its pages, put there.
_INITIAL_FILES = {GITATTRIBUTES_FILE, CARD}


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """A data set of the Hub that may be written.

    Attributes:
        id: `org/name`.
        private: make it private, where it has to be made.
        overwrite: replace what lies there, if it is something else than an earlier push of this set.
    """

    id: str
    private: bool = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class RemoteDataset:
    """What lies on the Hub.

    Attributes:
        commit: the head of `main`.
        private: as it is there.
        files: by path.
        report: of a prepared set, or None.
    """

    commit: str
    private: bool
    files: dict[str, RemoteFile]
    report: dict[str, Any] | None

    def is_empty_or_from(self, source: str) -> bool:
        """Whether it is empty, or an earlier push of the set of this name."""
        if self.report is not None:
            return bool(self.report.get("source") == source)
        return self.files.keys() <= _INITIAL_FILES


def check_dataset_target(id: str, *, source: str, private: bool = False, overwrite: bool = False) -> HubTarget:
    """See whether a set can be published, before hours are spent on making it. Nothing is changed.

    Args:
        id: `org/name`, or `name` for one's own.
        source: name of the set, as in its report.
        private: make it private, where it has to be made.
        overwrite: replace what lies there, whatever it is; it stays in the history.

    Raises:
        PushError: in one line, for whatever is in the way.
    """
    if not is_hub_id(id if "/" in id else f"me/{id}"):
        raise PushError(f"{id!r} is no id of the Hub; give org/name, or name for one of your own")
    target = HubTarget(id=id, private=private, overwrite=overwrite)

    def find() -> HubTarget:
        named = _with_owner(target, hub_client().whoami())
        check_remote_dataset(named, read_remote_dataset(named.id), source=source)
        return named

    otherwise = "without --push_to_hub the set is made here, and the command with it publishes it later"
    return query_repo(find, id, otherwise=otherwise)


def _with_owner(target: HubTarget, user: dict[str, Any]) -> HubTarget:
    return HubTarget(id=resolve_owned_repo_id(target.id, user), private=target.private, overwrite=target.overwrite)


def check_remote_dataset(target: HubTarget, remote: RemoteDataset | None, *, source: str) -> None:
    """Refuse to publish over something else, or to all what was meant for few.

    Raises:
        PushError: naming what is there.
    """
    if remote is None:
        return
    if target.private and not remote.private:
        raise PushError(
            f"{target.id} is there already, and public; make it private in its settings on the Hub, or leave "
            f"--private out"
        )
    if remote.is_empty_or_from(source) or target.overwrite:
        return
    existing = sorted(remote.files.keys() - _INITIAL_FILES)
    what = (
        f"a set made of {remote.report.get('source')}"
        if remote.report is not None
        else f"other files ({existing[0]}, ...)"
    )
    raise PushError(
        f"{target.id} holds {what}, not one made of {source}; give another id, or --overwrite to replace it (it stays "
        f"in the history)"
    )


def read_remote_dataset(id: str) -> RemoteDataset | None:
    """What lies on the Hub; None where nothing is there under this id."""
    from huggingface_hub.errors import RepositoryNotFoundError

    api = hub_client()
    try:
        info = api.dataset_info(id)
    except RepositoryNotFoundError:
        return None
    files = list_files(id, repo_type="dataset", revision=info.sha)
    report = None
    if REPORT_FILE in files:
        path = api.hf_hub_download(id, REPORT_FILE, repo_type="dataset", revision=info.sha)
        report = parse_report(Path(path).read_text(encoding="utf-8"))
    return RemoteDataset(commit=info.sha, private=bool(info.private), files=files, report=report)
