"""Push a run once: its model to `main` in one commit, and its state, if asked for, to a branch of its own."""

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cards import CardError
from ..cards.run_metadata import read_run_json
from ..checkpoint_dir import checkpoint_step, latest_checkpoint
from ..hub.client import PushError, describe_error, without_progress_bars
from ..hub.commit import CommitResult
from ..hub.retry import CLIENT_ERRORS, RetryPolicy, SourceUnavailable, root_cause_message
from ..redaction import redact_secrets
from ..run_files import RUN_FILE, STATE_BRANCH, write_json
from .repo import ModelTarget, push_model, push_state, resolve_model_target
from .snapshot import SNAPSHOT_FOLDER, Snapshot, build_main_contents, build_state_contents, take_snapshot


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


def push_snapshot(
    snapshot: Snapshot, target: ModelTarget, *, run_id: str | None, retry_seconds: float | None = None
) -> PublishResult:
    """Push the model of a snapshot to `main` in one commit, and its state, if it has one, to its branch in another.

    Raises:
        PushError: in one line, without tokens.
        SourceUnavailable: when waiting for the Hub was canceled.
    """
    retry_policy = RetryPolicy(f"publishing {target.id}", seconds=retry_seconds)
    message, state = f"Step {snapshot.step}", None
    try:
        snapshot.truncate_appended_files()
        with without_progress_bars():
            contents, notes = build_main_contents(snapshot, model_id=target.id)
            main, keeps_card = push_model(target, contents, message=message, run_id=run_id, retry_policy=retry_policy)
            if snapshot.state is not None:
                retry_policy.reset()
                state_contents = build_state_contents(snapshot, run_record=contents[RUN_FILE])
                state = push_state(target, state_contents, message=message, retry_policy=retry_policy)
    except SourceUnavailable as error:
        if error.__cause__ is None:
            raise  # canceled
        reason = redact_secrets(root_cause_message(error.__cause__))
        raise PushError(f"the Hub could not be reached for {retry_policy.seconds:g} s ({reason})") from error
    except CLIENT_ERRORS as error:
        if (description := describe_error(error, id=target.id)) is not None:
            raise PushError(redact_secrets(description)) from error
        raise
    if keeps_card:
        notes += (f"the card of {target.id} was edited on the Hub, or is not of this command, and is left as it is",)
    return PublishResult(main=main, state=state, notes=notes)


def push_run(
    folder: str | Path, target: ModelTarget, *, with_state: bool = False, retry_seconds: float | None = None
) -> tuple[ModelTarget, PublishResult]:
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
    run = _read_run_with_id(folder)
    checkpoint, step = _select_checkpoint(folder, run)
    if with_state and checkpoint is None and not (folder / f"checkpoint-{step}").is_dir():
        raise PushError(f"{folder} has no checkpoint-{step} whose state could be published; leave --state out")
    resolved = resolve_model_target(target, run_id=run["run_id"])
    snapshot = take_snapshot(folder, checkpoint=checkpoint, step=step, with_state=with_state)
    try:
        return resolved, push_snapshot(snapshot, resolved, run_id=run["run_id"], retry_seconds=retry_seconds)
    except PushError as error:
        raise PushError(f"{folder} is not published: {error}; the same command continues from here") from error
    finally:
        snapshot.remove()
        with contextlib.suppress(OSError):  # the run may still be training and have snapshots of its own in there
            (folder / SNAPSHOT_FOLDER).rmdir()


def _read_run_with_id(folder: Path) -> dict[str, Any]:
    """Read `run.json`; give a run that was made before there were ids its own, by which its repository knows it."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise CardError(f"{folder} holds no {RUN_FILE}; give the --output_dir of a training run")
    run = read_run_json(path)
    if "run_id" not in run:
        run["run_id"] = uuid.uuid4().hex
        write_json(path, run)
    return {**run, "run_id": str(run["run_id"])}


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
