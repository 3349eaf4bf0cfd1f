"""A model's repository on the Hub: whose model lies there, and one commit that puts another in its place.

Whoever loads from it sees the old files or the new ones, never some of each. What was sent is not sent again when a
push is repeated, and a commit whose answer was lost is found to be there.
"""

import fnmatch
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cards import is_hub_id
from ..cards.document import CARD_FILE, is_untouched
from ..cards.scrubbing import safe
from ..data.network import CLIENT_ERRORS, Patience, SourceUnavailable, reason_of, until_it_passes
from ..data.uploading import (
    CHANGED,
    Content,
    PushError,
    RemoteFile,
    hub_client,
    is_same,
    list_files,
    owned_id,
    size_of,
    told_of,
)
from ..training.report import RUN_FILE

MAIN, STATE_BRANCH = "main", "training-state"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")
_ATTRIBUTES = ".gitattributes"
# Nobody waits longer than this to hear that the Hub cannot be reached, before hours of work.
_CHECK_SECONDS = 20.0
_MOST_CHANGES = 5  # of other people, while one commit is made
_UPLOADS_AT_A_TIME = 2


@dataclass(frozen=True, kw_only=True)
class ModelTarget:
    """A model of the Hub that may be written.

    Attributes:
        id: `org/name`.
        private: make it private, where it has to be made.
        overwrite: replace the model of another run, if there is one.
        overwrite_card: also a card that somebody edited on the Hub.
    """

    id: str
    private: bool = False
    overwrite: bool = False
    overwrite_card: bool = False

    @property
    def url(self) -> str:
        """Of its page."""
        return f"{hub_client().endpoint}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What lies on a branch: its head, whether all may read it, its files, and the run that it is of."""

    commit: str
    private: bool
    files: dict[str, RemoteFile]
    run_id: str | None = None

    @property
    def weights(self) -> list[str]:
        """Files of whatever model is there."""
        return sorted(path for path in self.files if any(fnmatch.fnmatch(path, pattern) for pattern in _WEIGHTS))


def read_remote(id: str, *, revision: str = MAIN) -> Remote | None:
    """What lies on a branch of a model's repository; None where either is not there."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = hub_client()
    try:
        info = api.model_info(id, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None
    files = list_files(id, repo_type="model", revision=info.sha)
    run_id = None
    if revision == MAIN and RUN_FILE in files:
        run_id = _run_id_in(api.hf_hub_download(id, RUN_FILE, revision=info.sha))
    return Remote(commit=info.sha, private=bool(info.private), files=files, run_id=run_id)


def _run_id_in(path: str) -> str | None:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return None
    found = found.get("run_id") if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


# Before the work.


def check_target(target: ModelTarget, *, run_id: str | None) -> ModelTarget:
    """See whether a run can be published, before hours are spent on it. Nothing is changed.

    Args:
        target: `id` may be `name`, for one's own.
        run_id: of the run, which may go on in its own repository; None: a new one.

    Returns:
        The target with its whole id.

    Raises:
        PushError: in one line, for whatever is in the way.
    """
    if not is_hub_id(target.id if "/" in target.id else f"me/{target.id}"):
        raise PushError(f"{target.id!r} is no id of the Hub; give org/name, or name for one of your own")

    def look() -> ModelTarget:
        named = replace(target, id=owned_id(target.id, hub_client().whoami()))
        check_remote(named, read_remote(named.id), run_id=run_id)
        return named

    return _soon(look, target)


def take(target: ModelTarget, *, run_id: str) -> None:
    """Make the repository, where it is not there, and see that it is free for this run.

    Raises:
        PushError: in one line.
    """

    def make() -> None:
        hub_client().create_repo(target.id, private=target.private, exist_ok=True)
        check_remote(target, read_remote(target.id), run_id=run_id)

    _soon(make, target)


def _soon(attempt: Callable[[], Any], target: ModelTarget) -> Any:
    try:
        return until_it_passes(attempt, Patience(f"looking at {target.id}", seconds=_CHECK_SECONDS))
    except SourceUnavailable as error:
        raise PushError(
            f"the Hub cannot be reached ({safe(reason_of(error.__cause__ or error))}); try again, or leave "
            f"--push_to_hub out and publish the run afterwards: hf-videomae push OUTPUT_DIR --hub_model_id {target.id}"
        ) from error
    except CLIENT_ERRORS as error:
        if (told := told_of(error, target.id)) is not None:
            raise PushError(safe(told)) from error
        raise


def check_remote(target: ModelTarget, remote: Remote | None, *, run_id: str | None) -> None:
    """Refuse to publish over the model of another run, or to all what was meant for few.

    Raises:
        PushError: naming what is there.
    """
    if remote is None:
        return
    if target.private and not remote.private:
        raise PushError(
            f"{target.id} is there already, and public; make it private in its settings on the Hub, or leave the wish "
            f"for privacy (--hub_private, --private) out"
        )
    if target.overwrite or not remote.weights or (run_id is not None and remote.run_id == run_id):
        return
    raise PushError(
        f"{target.id} holds a model that is not of this run ({remote.weights[0]}); give another --hub_model_id, "
        f"--resume to go on with that run, or --overwrite to replace it (it stays in the history)"
    )


# One commit.


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a push did: the head of the branch now, what it changed, and whether somebody's card was left alone."""

    commit: str
    changed: bool = False
    files: int = 0
    num_bytes: int = 0
    kept_card: bool = False


@dataclass(kw_only=True)
class Push:
    """The files of a branch, to be brought there by one commit; what was sent stays sent when it is tried again.

    Attributes:
        target: where to.
        contents: by path.
        message: of the commit.
        patience: how long a Hub that fails is waited for.
        run_id: whose model may be replaced.
        branch: `main`, or the branch of the state, which is made where it is missing.
        stale: paths on the branch that go when they are not among the contents.
    """

    target: ModelTarget
    contents: dict[str, Content]
    message: str
    patience: Patience
    run_id: str | None = None
    branch: str = MAIN
    stale: Callable[[str], bool] = lambda path: False
    _additions: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Sent:
        """Send what is new, then commit it.

        Raises:
            PushError: in one line.
            SourceUnavailable: when the patience is over, or was called off.
        """
        new, _, _ = until_it_passes(lambda: self._changes(self._open()), self.patience)
        self.patience.progress()
        for path in new:
            until_it_passes(lambda path=path: self._send(path), self.patience)  # type: ignore[misc]
            self.patience.progress()
        for _ in range(_MOST_CHANGES):
            sent = until_it_passes(self._commit, self.patience)
            if sent is not None:
                return sent
        raise PushError(f"somebody else keeps changing {self.target.id}")

    def _open(self) -> Remote:
        api = hub_client()
        remote = read_remote(self.target.id, revision=self.branch)
        if remote is None:
            api.create_repo(self.target.id, private=self.target.private, exist_ok=True)
            if self.branch != MAIN:
                api.create_branch(self.target.id, branch=self.branch, exist_ok=True)
            remote = read_remote(self.target.id, revision=self.branch)
        if remote is None:
            raise PushError(f"{self.target.id} was made, but cannot be read; look at its page")
        if self.branch == MAIN:
            check_remote(self.target, remote, run_id=self.run_id)
        return remote

    def _changes(self, remote: Remote) -> tuple[list[str], list[str], bool]:
        """What is to be sent, what is to go, and whether the card there is somebody's."""
        new = [path for path, content in self.contents.items() if not is_same(content, remote.files.get(path))]
        kept = CARD_FILE in new and CARD_FILE in remote.files and not self._may_replace_card(remote)
        if kept:
            new.remove(CARD_FILE)
        others = sorted(remote.files.keys() - self.contents.keys() - {_ATTRIBUTES})
        return new, [path for path in others if self.stale(path)], kept

    def _may_replace_card(self, remote: Remote) -> bool:
        if self.branch != MAIN or self.target.overwrite_card:
            return True
        path = hub_client().hf_hub_download(self.target.id, CARD_FILE, revision=remote.commit)
        return is_untouched(Path(path).read_text(encoding="utf-8", errors="replace"))

    def _send(self, path: str) -> None:
        hub_client().preupload_lfs_files(
            self.target.id, [self._addition(path)], revision=self.branch, num_threads=_UPLOADS_AT_A_TIME
        )

    def _addition(self, path: str) -> Any:
        from huggingface_hub import CommitOperationAdd

        if path not in self._additions:
            self._additions[path] = CommitOperationAdd(path, self.contents[path])
        return self._additions[path]

    def _commit(self) -> Sent | None:
        """None where somebody else came first. The answer to a commit may be lost: then it is there already."""
        from huggingface_hub import CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        remote = self._open()
        new, gone, kept = self._changes(remote)
        if not new and not gone:
            return Sent(commit=remote.commit, kept_card=kept)
        removals = [CommitOperationDelete(path, is_folder=False) for path in gone]
        try:
            made = hub_client().create_commit(
                self.target.id,
                [*removals, *(self._addition(path) for path in new)],
                commit_message=self.message,
                revision=self.branch,
                parent_commit=remote.commit,
                num_threads=_UPLOADS_AT_A_TIME,
            )
        except HfHubHTTPError as error:
            if error.response.status_code != CHANGED:
                raise
            time.sleep(0.1)
            return None
        num_bytes = sum(size_of(self.contents[path]) for path in new)
        return Sent(commit=str(made.oid), changed=True, files=len(new), num_bytes=num_bytes, kept_card=kept)
