"""Push a run once: its model to `main` in one commit, and its state, if asked for, to a branch of its own."""

import contextlib
import fnmatch
import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cards import is_unedited
from ..cards.markdown import CARD_FILE
from ..cards.run_metadata import read_run
from ..cards.snippets import HANDLER_FILE, HANDLER_MARK, REQUIREMENTS_FILE
from ..checkpoint_dir import checkpoint_step, latest_checkpoint
from ..hub.client import FileContent, PushError
from ..hub.commit import CommitResult, FileChanges, commit_files, diff_files, wrap_push_errors
from ..hub.repo import HubTarget, RemoteBranch, check_visibility, open_branch, query_repo, resolve_target
from ..hub.retry import RetryPolicy
from ..run_files import RUN_FILE, STATE_BRANCH, write_json
from .snapshot import (
    SNAPSHOT_FOLDER,
    Snapshot,
    build_main_contents,
    build_state_contents,
    is_managed_path,
    take_snapshot,
)

_WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")
# A file of exactly the one line that `hf-videomae endpoint` writes.
_OUR_REQUIREMENT = re.compile(r"[^\n]*hf[-_]videomae[^\n]*\n?\Z")


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What a push did.

    Attributes:
        main: the commit on the model's branch.
        state: the commit on the branch of the run's state, if that was asked for.
        notes: what was left out and why, for the user.
    """

    main: CommitResult
    state: CommitResult | None = None
    notes: tuple[str, ...] = ()

    @property
    def commits(self) -> int:
        """Return how many commits were made."""
        return sum(result is not None and result.changed for result in (self.main, self.state))


# Before the training.


def resolve_model_target(target: HubTarget, *, run_id: str | None) -> HubTarget:
    """Check that a run can be published, before hours are spent on it. This changes nothing on the Hub.

    Args:
        target: `id` may be `name`, for a repository of your own.
        run_id: the run's id: a run may replace its own model; None: a new run.

    Returns:
        The target with its complete id.

    Raises:
        PushError: in one line, for whatever prevents it.
    """
    return resolve_target(target, lambda remote: check_may_overwrite(remote, run_id), otherwise=_otherwise(target))


def claim_repo(target: HubTarget, *, run_id: str) -> None:
    """Create the repository if it is missing, and check that this run may write to it.

    Raises:
        PushError: in one line.
    """
    query_repo(lambda: check_may_overwrite(open_branch(target), run_id), target.id, otherwise=_otherwise(target))


def _otherwise(target: HubTarget) -> str:
    return (
        f"try again, or leave --push_to_hub out and publish the run afterwards: hf-videomae push OUTPUT_DIR "
        f"--hub_model_id {target.id}"
    )


def check_may_overwrite(remote: RemoteBranch, run_id: str | None) -> None:
    """Refuse to replace the model of another run, and to publish a private run in a public repository.

    Raises:
        PushError: naming what is there.
    """
    check_visibility(remote)
    weights = [path for path in remote.files if any(fnmatch.fnmatch(path, pattern) for pattern in _WEIGHT_PATTERNS)]
    if remote.target.overwrite or not weights or (run_id is not None and _read_run_id(remote) == run_id):
        return
    raise PushError(
        f"{remote.target.id} holds a model that is not of this run ({min(weights)}); give another --hub_model_id, "
        f"--resume to continue that run, or --overwrite to replace it (it stays in the history)"
    )


def _read_run_id(remote: RemoteBranch) -> Any:
    with contextlib.suppress(ValueError):
        record = json.loads(remote.read_text(RUN_FILE) or "")
        return record.get("run_id") if isinstance(record, dict) else None
    return None


# A push.


def push_snapshot(
    snapshot: Snapshot, target: HubTarget, *, run_id: str | None, retry_seconds: float | None = None
) -> PublishResult:
    """Push the model of a snapshot to `main` in one commit, and its state, if it has one, to its branch in another.

    Raises:
        PushError: in one line, without tokens.
        SourceUnavailable: when waiting for the Hub was canceled.
    """
    retry_policy = RetryPolicy(f"publishing {target.id}", seconds=retry_seconds)
    options: dict[str, Any] = {"message": f"Step {snapshot.step}", "retry_policy": retry_policy}
    state = None
    with wrap_push_errors(target.id, seconds=retry_policy.seconds):
        snapshot.truncate_appended_files()
        contents, notes = build_main_contents(snapshot, model_id=target.id)
        main = commit_files(target, contents, lambda: plan_model(target, contents, run_id=run_id), **options)
        if snapshot.state is not None:
            retry_policy.reset()
            state_contents = build_state_contents(snapshot, run_record=contents[RUN_FILE])
            state = commit_files(
                target, state_contents, lambda: _plan_state(target, state_contents), branch=STATE_BRANCH, **options
            )
    if main.kept:
        notes += (f"the card of {target.id} was edited on the Hub, or is not of this command, and is left as it is",)
    return PublishResult(main=main, state=state, notes=notes)


def plan_model(target: HubTarget, contents: dict[str, FileContent], *, run_id: str | None) -> FileChanges:
    """Return the changes that replace the model on `main`; keep files of others, and a card that was edited there.

    Raises:
        PushError: when the repository holds the model of another run.
    """
    remote = open_branch(target)
    check_may_overwrite(remote, run_id)
    stale_handler = () if HANDLER_FILE in contents else _our_handler_files(remote)
    return diff_files(
        contents,
        remote,
        is_stale=lambda path: is_managed_path(path) or path in stale_handler,
        is_kept=lambda path: path == CARD_FILE and _has_edited_card(remote),
    )


def _plan_state(target: HubTarget, contents: dict[str, FileContent]) -> FileChanges:
    return diff_files(contents, open_branch(target, STATE_BRANCH), is_stale=lambda path: True)


def _has_edited_card(remote: RemoteBranch) -> bool:
    """Return whether the card on the Hub was edited there, or written by someone else, and is to be kept."""
    card = None if remote.target.overwrite_card else remote.read_text(CARD_FILE)
    return card is not None and not is_unedited(card)


def _our_handler_files(remote: RemoteBranch) -> tuple[str, ...]:
    """Return the endpoint's files that an earlier push left on the Hub; never those of someone else."""
    if HANDLER_MARK not in (remote.read_text(HANDLER_FILE) or ""):
        return ()
    requirements = remote.read_text(REQUIREMENTS_FILE)
    is_ours = requirements is not None and _OUR_REQUIREMENT.match(requirements)
    return (HANDLER_FILE, REQUIREMENTS_FILE) if is_ours else (HANDLER_FILE,)


# A push by command.


def push_run(
    folder: str | Path, target: HubTarget, *, with_state: bool = False, retry_seconds: float | None = None
) -> tuple[HubTarget, PublishResult]:
    """Publish a run from its folder: its finished model, or that of its newest complete checkpoint.

    Args:
        folder: the run's `--output_dir`.
        target: `id` may be `name`, for a repository of your own.
        with_state: also push the newest checkpoint, to the branch that `--resume org/name` continues from.
        retry_seconds: how long to wait for a Hub that fails.

    Returns:
        The target with its complete id, and what was done.

    Raises:
        CardError: when the folder holds no run.
        PushError: in one line; the next call does not send again what was sent.
    """
    folder = Path(folder)
    run = read_run(folder)
    if "run_id" not in run:  # made before there were ids
        run["run_id"] = uuid.uuid4().hex
        write_json(folder / RUN_FILE, run)
    run_id = str(run["run_id"])
    checkpoint, step = _select_checkpoint(folder, run)
    if with_state and checkpoint is None and not (folder / f"checkpoint-{step}").is_dir():
        raise PushError(f"{folder} has no checkpoint-{step} whose state could be published; leave --state out")
    resolved = resolve_model_target(target, run_id=run_id)
    snapshot = take_snapshot(folder, run, checkpoint=checkpoint, step=step, with_state=with_state)
    try:
        return resolved, push_snapshot(snapshot, resolved, run_id=run_id, retry_seconds=retry_seconds)
    except PushError as error:
        raise PushError(f"{folder} is not published: {error}; the same command continues from here") from error
    finally:
        snapshot.remove()
        with contextlib.suppress(OSError):  # the run may still be training and have snapshots of its own in there
            (folder / SNAPSHOT_FOLDER).rmdir()


def _select_checkpoint(folder: Path, run: dict[str, Any]) -> tuple[Path | None, int]:
    """Return the checkpoint to publish, None for the finished model at the top of the folder, and its step."""
    if run.get("status") == "finished":
        return None, int(run["steps"])
    checkpoint = latest_checkpoint(folder)
    step = None if checkpoint is None else checkpoint_step(checkpoint)
    if checkpoint is None or step is None:
        raise PushError(f"{folder} holds no model yet: the run is not finished and has no complete checkpoint")
    return checkpoint, step


def format_publish_result(result: PublishResult) -> str:
    """Return in words what a push did."""
    if not result.commits:
        return "the Hub has all of it already, nothing was sent"
    text = f"{result.main.files} files, {result.main.num_bytes / 1e6:.1f} MB"
    if result.state is not None:
        text += f", and {result.state.num_bytes / 1e6:.1f} MB of run state on the branch {STATE_BRANCH}"
    return text
