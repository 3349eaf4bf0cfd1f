"""Check where on the Hub a dataset can be published: write access, and what is there already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cards import is_hub_id
from ..hub.client import PushError, RemoteFile, hub_client, list_files, resolve_owned_repo_id
from ..hub.commit import GITATTRIBUTES_FILE, query_repo
from .layout import CARD, REPORT_FILE, parse_report

# The files of a repository that was just created, by the client or on the Hub's web pages.
_INITIAL_FILES = {GITATTRIBUTES_FILE, CARD}


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """A dataset repository on the Hub that the user may write to.

    Attributes:
        id: `org/name`.
        private: create it as private, if it does not exist.
        overwrite: replace its content, if that is something other than an earlier push of this dataset.
    """

    id: str
    private: bool = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class RemoteDataset:
    """The state of a dataset repository on the Hub.

    Attributes:
        commit: the head of `main`.
        private: whether it is private.
        files: by path.
        report: the content of its `report.json`; None if it is not a prepared dataset.
    """

    commit: str
    private: bool
    files: dict[str, RemoteFile]
    report: dict[str, Any] | None

    def is_empty_or_from(self, source: str) -> bool:
        """Return whether the repository is empty, or an earlier push of the dataset with this name."""
        if self.report is not None:
            return bool(self.report.get("source") == source)
        return self.files.keys() <= _INITIAL_FILES


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
    if not is_hub_id(id if "/" in id else f"me/{id}"):
        raise PushError(f"{id!r} is not a Hub id; give org/name, or name for one of your own")

    def check() -> HubTarget:
        full_id = resolve_owned_repo_id(id, hub_client().whoami())
        target = HubTarget(id=full_id, private=private, overwrite=overwrite)
        check_remote_dataset(target, read_remote_dataset(full_id), source=source)
        return target

    otherwise = "without --push_to_hub the dataset is made locally; the command with it publishes it later"
    return query_repo(check, id, otherwise=otherwise)


def check_remote_dataset(target: HubTarget, remote: RemoteDataset | None, *, source: str) -> None:
    """Refuse to publish over another dataset, or to publish a private dataset in a public repository.

    Raises:
        PushError: naming what is there.
    """
    if remote is None:
        return
    if target.private and not remote.private:
        raise PushError(
            f"{target.id} exists already and is public; make it private in its settings on the Hub, or leave out "
            f"--private"
        )
    if remote.is_empty_or_from(source) or target.overwrite:
        return
    existing = sorted(remote.files.keys() - _INITIAL_FILES)
    what = (
        f"other files ({existing[0]}, ...)"
        if remote.report is None
        else f"a dataset made of {remote.report.get('source')}"
    )
    raise PushError(
        f"{target.id} holds {what}, not one made of {source}; give another id, or --overwrite to replace it (it stays "
        f"in the history)"
    )


def read_remote_dataset(id: str) -> RemoteDataset | None:
    """Return the state of a dataset repository on the Hub; None if it does not exist."""
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
