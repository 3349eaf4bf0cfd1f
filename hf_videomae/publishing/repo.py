"""Guard and write a model's repository on the Hub: check whose model is there, then replace it in one commit."""

import fnmatch
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..cards import is_hub_id, is_unedited
from ..cards.markdown import CARD_FILE
from ..cards.snippets import HANDLER_FILE, HANDLER_MARK, REQUIREMENTS_FILE
from ..hub.client import FileContent, PushError, RemoteFile, hub_client, list_files, resolve_owned_repo_id
from ..hub.commit import MAIN_BRANCH, CommitResult, FileChanges, HubCommit, diff_files, query_repo
from ..hub.download import download
from ..hub.retry import RetryPolicy
from ..run_files import RUN_FILE, STATE_BRANCH
from .snapshot import is_managed_path

_WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")

_FIRST_SERVER_ERROR = 500
# A file of exactly the one line that `hf-videomae endpoint` writes.
_OUR_REQUIREMENT = re.compile(r"[^\n]*hf[-_]videomae[^\n]*\n?\Z")

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class ModelTarget:
    """A model repository on the Hub to publish to.

    Attributes:
        id: `org/name`.
        private: create the repository as private, if it is new.
        overwrite: replace the model of another run, if there is one.
        overwrite_card: also replace a card that was edited on the Hub.
    """

    id: str
    private: bool = False
    overwrite: bool = False
    overwrite_card: bool = False

    @property
    def url(self) -> str:
        """Return the address of its page."""
        return f"{hub_client().endpoint}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class RemoteBranch:
    """The state of a branch: its head, whether the repository is private, its files, and the run it belongs to."""

    commit: str
    private: bool
    files: dict[str, RemoteFile]
    run_id: str | None = None

    @property
    def weights(self) -> list[str]:
        """Return the weight files of any kind of model, sorted."""
        return sorted(
            path for path in self.files if any(fnmatch.fnmatch(path, pattern) for pattern in _WEIGHT_PATTERNS)
        )


def is_hub_reachable(id: str, *, seconds: float = 3.0) -> bool:
    """Return whether the Hub answers one request within some seconds; a refusal is an answer."""
    request = urllib.request.Request(f"{hub_client().endpoint}/api/models/{id}", headers={"User-Agent": "hf-videomae"})
    try:
        with urllib.request.urlopen(request, timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        return error.code < _FIRST_SERVER_ERROR
    except OSError:
        return False


def read_branch(id: str, *, revision: str = MAIN_BRANCH) -> RemoteBranch | None:
    """Return the state of a branch; None if the repository or the branch does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = hub_client().model_info(id, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None
    files = list_files(id, repo_type="model", revision=info.sha)
    run_id = None
    if revision == MAIN_BRANCH and RUN_FILE in files:
        run_id = _parse_run_id(download(id, RUN_FILE, revision=info.sha))
    return RemoteBranch(commit=info.sha, private=bool(info.private), files=files, run_id=run_id)


def _parse_run_id(path: Path) -> str | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    run_id = record.get("run_id") if isinstance(record, dict) else None
    return run_id if isinstance(run_id, str) else None


# Before the training.


def resolve_model_target(target: ModelTarget, *, run_id: str | None) -> ModelTarget:
    """Check that a run can be published, before hours are spent on it. This changes nothing on the Hub.

    Args:
        target: `id` may be `name`, for a repository of your own.
        run_id: the run's id: a run may replace its own model; None: a new run.

    Returns:
        The target with its complete id.

    Raises:
        PushError: in one line, for whatever prevents it.
    """
    if not is_hub_id(target.id if "/" in target.id else f"me/{target.id}"):
        raise PushError(f"{target.id!r} is not a Hub id; give org/name, or name for one of your own")

    def resolve() -> ModelTarget:
        resolved = replace(target, id=resolve_owned_repo_id(target.id, hub_client().whoami()))
        check_may_overwrite(resolved, read_branch(resolved.id), run_id=run_id)
        return resolved

    return _with_short_retry(resolve, target)


def claim_repo(target: ModelTarget, *, run_id: str) -> None:
    """Create the repository if it is missing, and check that this run may write to it.

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
    """Refuse to replace the model of another run, and to publish a private run in a public repository.

    Raises:
        PushError: naming what is there.
    """
    if remote is None:
        return
    if target.private and not remote.private:
        raise PushError(
            f"{target.id} exists already and is public; make it private in its settings on the Hub, or leave out "
            f"--hub_private or --private"
        )
    if target.overwrite or not remote.weights or (run_id is not None and remote.run_id == run_id):
        return
    raise PushError(
        f"{target.id} holds a model that is not of this run ({remote.weights[0]}); give another --hub_model_id, "
        f"--resume to continue that run, or --overwrite to replace it (it stays in the history)"
    )


# The two pushes.


def push_model(
    target: ModelTarget,
    contents: dict[str, FileContent],
    *,
    message: str,
    retry_policy: RetryPolicy,
    run_id: str | None = None,
) -> tuple[CommitResult, bool]:
    """Replace the model on `main` by one commit.

    Args:
        target: the repository, created if it is missing.
        contents: the files of the model by path.
        message: of the commit.
        retry_policy: how long to wait for a Hub that fails.
        run_id: the run whose model may be replaced.

    Returns:
        What the commit did, and whether a card that was edited on the Hub was left as it is.

    Raises:
        PushError: in one line.
        SourceUnavailable: when the retry policy gives up or is canceled.
    """
    keeps_card = False

    def open_main() -> RemoteBranch:
        remote = _open_branch(target, MAIN_BRANCH)
        check_may_overwrite(target, remote, run_id=run_id)
        return remote

    def compute_changes(remote: RemoteBranch) -> FileChanges:
        nonlocal keeps_card
        changes = diff_files(contents, remote.files, is_stale=is_managed_path)
        keeps_card = CARD_FILE in changes.added and _has_edited_card(target, remote)
        added = [path for path in changes.added if not (keeps_card and path == CARD_FILE)]
        stale_handler = [] if HANDLER_FILE in contents else _our_handler_files(target, remote)
        return FileChanges(added, [*changes.deleted, *stale_handler])

    result = HubCommit(
        id=target.id,
        repo_type="model",
        contents=contents,
        message=message,
        retry_policy=retry_policy,
        open=open_main,
        changes=compute_changes,
    ).run()
    return result, keeps_card


def push_state(
    target: ModelTarget, contents: dict[str, FileContent], *, message: str, retry_policy: RetryPolicy
) -> CommitResult:
    """Replace everything on the branch of the run's state by one commit.

    Raises:
        PushError: in one line.
        SourceUnavailable: when the retry policy gives up or is canceled.
    """
    return HubCommit(
        id=target.id,
        repo_type="model",
        contents=contents,
        message=message,
        retry_policy=retry_policy,
        open=lambda: _open_branch(target, STATE_BRANCH),
        changes=lambda remote: diff_files(contents, remote.files, is_stale=lambda path: True),
        branch=STATE_BRANCH,
    ).run()


def _open_branch(target: ModelTarget, branch: str) -> RemoteBranch:
    """Read a branch; create it, and its repository, if it is missing."""
    remote = read_branch(target.id, revision=branch)
    if remote is None:
        hub_client().create_repo(target.id, private=target.private, exist_ok=True)
        if branch != MAIN_BRANCH:
            hub_client().create_branch(target.id, branch=branch, exist_ok=True)
        remote = read_branch(target.id, revision=branch)
    if remote is None:
        raise PushError(f"{target.id} was created but cannot be read; look at its page")
    return remote


def _has_edited_card(target: ModelTarget, remote: RemoteBranch) -> bool:
    """Return whether the card on the Hub was edited there, or written by someone else, and is to be kept."""
    if target.overwrite_card or CARD_FILE not in remote.files:
        return False
    return not is_unedited(_read_remote_text(CARD_FILE, target, remote))


def _our_handler_files(target: ModelTarget, remote: RemoteBranch) -> list[str]:
    """Return the endpoint's files that an earlier push left on the Hub; never those of someone else."""
    if HANDLER_FILE not in remote.files or HANDLER_MARK not in _read_remote_text(HANDLER_FILE, target, remote):
        return []
    if REQUIREMENTS_FILE not in remote.files:
        return [HANDLER_FILE]
    is_ours = _OUR_REQUIREMENT.match(_read_remote_text(REQUIREMENTS_FILE, target, remote))
    return [HANDLER_FILE, REQUIREMENTS_FILE] if is_ours else [HANDLER_FILE]


def _read_remote_text(path: str, target: ModelTarget, remote: RemoteBranch) -> str:
    return download(target.id, path, revision=remote.commit).read_text(encoding="utf-8", errors="replace")
