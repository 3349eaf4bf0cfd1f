"""A model's repository on the Hub: whose model lies there, and one commit that puts another in its place."""

import fnmatch
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..cards import is_hub_id
from ..cards.markdown import CARD_FILE, is_unedited
from ..cards.snippets import HANDLER_FILE, HANDLER_MARK, REQUIREMENTS_FILE
from ..hub.client import (
    FileContent,
    PushError,
    RemoteFile,
    hub_client,
    list_files,
    resolve_owned_repo_id,
)
from ..hub.commit import (
    MAIN_BRANCH,
    CommitResult,
    FileChanges,
    HubCommit,
    diff_files,
    query_repo,
)
from ..hub.download import download
from ..hub.retry import RetryPolicy
from ..run_files import RUN_FILE

_WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")

_FIRST_SERVER_ERROR = 500
# The one line that `hf-videomae endpoint` writes, and nothing beside it.
_OUR_REQUIREMENT = re.compile(r"[^\n]*hf[-_]videomae[^\n]*\n?\Z")

_Result = TypeVar("_Result")


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
class RemoteBranch:
    """What lies on a branch: its head, whether all may read it, its files, and the run that it is of."""

    commit: str
    private: bool
    files: dict[str, RemoteFile]
    run_id: str | None = None

    @property
    def weights(self) -> list[str]:
        """Files of whatever model is there."""
        return sorted(
            path for path in self.files if any(fnmatch.fnmatch(path, pattern) for pattern in _WEIGHT_PATTERNS)
        )


def is_hub_reachable(id: str, *, seconds: float = 3.0) -> bool:
    """Return whether the Hub answers a single question within some seconds; a refusal is an answer."""
    request = urllib.request.Request(f"{hub_client().endpoint}/api/models/{id}", headers={"User-Agent": "hf-videomae"})
    try:
        with urllib.request.urlopen(request, timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        return error.code < _FIRST_SERVER_ERROR
    except OSError:
        return False


def read_branch(id: str, *, revision: str = MAIN_BRANCH) -> RemoteBranch | None:
    """What lies on a branch of a model's repository; None where either is not there."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = hub_client()
    try:
        info = api.model_info(id, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None
    files = list_files(id, repo_type="model", revision=info.sha)
    run_id = None
    if revision == MAIN_BRANCH and RUN_FILE in files:
        run_id = _parse_run_id(download(id, RUN_FILE, revision=info.sha))
    return RemoteBranch(commit=info.sha, private=bool(info.private), files=files, run_id=run_id)


def _parse_run_id(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    found = found.get("run_id") if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


# Before the work.


def resolve_model_target(target: ModelTarget, *, run_id: str | None) -> ModelTarget:
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

    def resolve() -> ModelTarget:
        resolved = replace(target, id=resolve_owned_repo_id(target.id, hub_client().whoami()))
        check_may_overwrite(resolved, read_branch(resolved.id), run_id=run_id)
        return resolved

    return _with_short_retry(resolve, target)


def claim_repo(target: ModelTarget, *, run_id: str) -> None:
    """Make the repository, where it is not there, and see that it is free for this run.

    Raises:
        PushError: in one line.
    """

    def create() -> None:
        hub_client().create_repo(target.id, private=target.private, exist_ok=True)
        check_may_overwrite(target, read_branch(target.id), run_id=run_id)

    _with_short_retry(create, target)


def _with_short_retry(attempt: Callable[[], _Result], target: ModelTarget) -> _Result:
    otherwise = (
        f"try again, or leave --push_to_hub out and publish the run afterwards: hf-videomae push OUTPUT_DIR "
        f"--hub_model_id {target.id}"
    )
    return query_repo(attempt, target.id, otherwise=otherwise)


def check_may_overwrite(target: ModelTarget, remote: RemoteBranch | None, *, run_id: str | None) -> None:
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


@dataclass(kw_only=True)
class BranchPush:
    """The files of a branch, to be brought there by one commit.

    Attributes:
        target: where to.
        contents: by path.
        message: of the commit.
        patience: how long a Hub that fails is waited for.
        run_id: whose model may be replaced.
        branch: `main`, or the branch of the state, which is made where it is missing.
        stale: paths on the branch that go when they are not among the contents.
        skipped_card: set by `run`: somebody's card was left alone.
    """

    target: ModelTarget
    contents: dict[str, FileContent]
    message: str
    patience: RetryPolicy
    run_id: str | None = None
    branch: str = MAIN_BRANCH
    stale: Callable[[str], bool] = lambda path: False
    skipped_card: bool = False

    def run(self) -> CommitResult:
        """Send what is new, then commit it.

        Raises:
            PushError: in one line.
            SourceUnavailable: when the patience is over, or was called off.
        """
        return HubCommit(
            id=self.target.id,
            repo_type="model",
            contents=self.contents,
            message=self.message,
            retry_policy=self.patience,
            open=self._open_branch,
            changes=self._compute_changes,
            branch=self.branch,
        ).run()

    def _open_branch(self) -> RemoteBranch:
        api = hub_client()
        remote = read_branch(self.target.id, revision=self.branch)
        if remote is None:
            api.create_repo(self.target.id, private=self.target.private, exist_ok=True)
            if self.branch != MAIN_BRANCH:
                api.create_branch(self.target.id, branch=self.branch, exist_ok=True)
            remote = read_branch(self.target.id, revision=self.branch)
        if remote is None:
            raise PushError(f"{self.target.id} was made, but cannot be read; look at its page")
        if self.branch == MAIN_BRANCH:
            check_may_overwrite(self.target, remote, run_id=self.run_id)
        return remote

    def _compute_changes(self, remote: RemoteBranch) -> FileChanges:
        found = diff_files(self.contents, remote.files, is_stale=self.stale)
        found = replace(found, deleted=[*found.deleted, *self._stale_handler_files(remote)])
        self.skipped_card = (
            CARD_FILE in found.added and CARD_FILE in remote.files and not self._is_card_replaceable(remote)
        )
        return replace(found, added=[path for path in found.added if not (self.skipped_card and path == CARD_FILE)])

    def _stale_handler_files(self, remote: RemoteBranch) -> list[str]:
        """The files of an endpoint that an earlier push put there, where this model has none; never others."""
        remote_handler_files = [path for path in (HANDLER_FILE, REQUIREMENTS_FILE) if path in remote.files]
        if self.branch != MAIN_BRANCH or HANDLER_FILE in self.contents or HANDLER_FILE not in remote_handler_files:
            return []
        texts = {path: self._read_remote_text(path, remote) for path in remote_handler_files}
        if HANDLER_MARK not in texts[HANDLER_FILE]:
            return []
        return [path for path in remote_handler_files if path == HANDLER_FILE or _OUR_REQUIREMENT.match(texts[path])]

    def _read_remote_text(self, path: str, remote: RemoteBranch) -> str:
        found = download(self.target.id, path, revision=remote.commit)
        return found.read_text(encoding="utf-8", errors="replace")

    def _is_card_replaceable(self, remote: RemoteBranch) -> bool:
        if self.branch != MAIN_BRANCH or self.target.overwrite_card:
            return True
        return is_unedited(self._read_remote_text(CARD_FILE, remote))
