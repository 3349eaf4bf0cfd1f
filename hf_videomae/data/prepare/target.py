"""Where on the Hub a set is to go: whether its owner may write there, and what lies there already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cards import is_hub_id
from ..commits import ATTRIBUTES, look
from ..uploading import PushError, RemoteFile, hub_client, list_files, owned_id
from .layout import CARD, REPORT, parse_report

# What the Hub, or whoever made an empty repository on its pages, put there.
_EMPTY = {ATTRIBUTES, CARD}


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
class Remote:
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

    def is_of(self, source: str) -> bool:
        """Whether it is empty, or an earlier push of the set of this name."""
        if self.report is not None:
            return bool(self.report.get("source") == source)
        return self.files.keys() <= _EMPTY


def check_target(id: str, *, source: str, private: bool = False, overwrite: bool = False) -> HubTarget:
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
        named = _named(target, hub_client().whoami())
        check_remote(named, read_remote(named.id), source=source)
        return named

    otherwise = "without --push_to_hub the set is made here, and the command with it publishes it later"
    return look(find, id, otherwise=otherwise)


def _named(target: HubTarget, user: dict[str, Any]) -> HubTarget:
    return HubTarget(id=owned_id(target.id, user), private=target.private, overwrite=target.overwrite)


def check_remote(target: HubTarget, remote: Remote | None, *, source: str) -> None:
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
    if remote.is_of(source) or target.overwrite:
        return
    held = sorted(remote.files.keys() - _EMPTY)
    what = (
        f"a set made of {remote.report.get('source')}"
        if remote.report is not None
        else f"other files ({held[0]}, ...)"
    )
    raise PushError(
        f"{target.id} holds {what}, not one made of {source}; give another id, or --overwrite to replace it (it stays "
        f"in the history)"
    )


def read_remote(id: str) -> Remote | None:
    """What lies on the Hub; None where nothing is there under this id."""
    from huggingface_hub.errors import RepositoryNotFoundError

    api = hub_client()
    try:
        info = api.dataset_info(id)
    except RepositoryNotFoundError:
        return None
    files = list_files(id, repo_type="dataset", revision=info.sha)
    report = None
    if REPORT in files:
        path = api.hf_hub_download(id, REPORT, repo_type="dataset", revision=info.sha)
        report = parse_report(Path(path).read_text(encoding="utf-8"))
    return Remote(commit=info.sha, private=bool(info.private), files=files, report=report)
