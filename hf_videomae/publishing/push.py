"""One push of a run: the model to `main`, by one commit; its state, where it is asked for, to a branch of its own."""

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path

from ..cards.markdown import CardError
from ..cards.run_metadata import read_json
from ..checkpoint_dir import checkpoint_step, latest_checkpoint
from ..hub.client import PushError, describe_error, without_progress_bars
from ..hub.commit import CommitResult
from ..hub.retry import CLIENT_ERRORS, RetryPolicy, SourceUnavailable, root_cause_message
from ..redaction import redact_secrets
from ..run_files import RUN_FILE, STATE_BRANCH, read_run_status, write_json
from .repo import BranchPush, ModelTarget, resolve_model_target
from .snapshot import (
    SNAPSHOT_FOLDER,
    Snapshot,
    build_main_contents,
    build_state_contents,
    is_managed_path,
    take_snapshot,
)


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What a push did.

    Attributes:
        main: the branch of the model.
        state: the branch of the run's state, where that was asked for.
        notes: what was left out, for people.
    """

    main: CommitResult
    state: CommitResult | None = None
    notes: tuple[str, ...] = ()

    @property
    def commits(self) -> int:
        """How many were made."""
        return sum(sent is not None and sent.changed for sent in (self.main, self.state))


def push_snapshot(
    snapshot: Snapshot, target: ModelTarget, *, run_id: str | None, patience: float | None = None
) -> PublishResult:
    """Bring the model of a snapshot to `main` by one commit, and its state, if it has any, to its branch by another.

    Raises:
        PushError: in one line, without tokens.
        SourceUnavailable: when waiting for the Hub was called off.
    """
    waiting = RetryPolicy(f"publishing {target.id}", seconds=patience)
    message = f"Step {snapshot.step}"
    try:
        with without_progress_bars():
            contents, notes = build_main_contents(snapshot, model_id=target.id)
            main_push = BranchPush(
                target=target,
                contents=contents,
                message=message,
                patience=waiting,
                run_id=run_id,
                stale=is_managed_path,
            )
            main = main_push.run()
            state = None
            if snapshot.state is not None:
                waiting.reset()
                state = BranchPush(
                    target=target,
                    contents=build_state_contents(snapshot),
                    message=message,
                    patience=waiting,
                    branch=STATE_BRANCH,
                    stale=lambda path: True,
                ).run()
    except SourceUnavailable as error:
        if error.__cause__ is None:
            raise  # called off
        raise PushError(
            f"the Hub could not be reached for {waiting.seconds:g} s ({redact_secrets(root_cause_message(error.__cause__))})"
        ) from error
    except CLIENT_ERRORS as error:
        if (told := describe_error(error, id=target.id)) is not None:
            raise PushError(redact_secrets(told)) from error
        raise
    if main_push.skipped_card:
        notes = (
            *notes,
            f"the card of {target.id} was edited on the Hub, or is not of this command, and is left as it is",
        )
    return PublishResult(main=main, state=state, notes=notes)


def push_run(
    folder: str | Path, target: ModelTarget, *, with_state: bool = False, patience: float | None = None
) -> tuple[ModelTarget, PublishResult]:
    """Publish a run from its folder: its finished model, or that of its newest whole checkpoint.

    Args:
        folder: the run's `--output_dir`.
        target: `id` may be `name`, for one's own.
        with_state: the newest checkpoint as well, to the branch that `--resume org/name` goes on from.
        patience: seconds that a Hub which fails is waited for.

    Returns:
        The target with its whole id, and what was done.

    Raises:
        CardError: when the folder holds no run.
        PushError: in one line; what was sent is not sent again by the next call.
    """
    folder = Path(folder)
    run_id = _read_or_create_run_id(folder)
    checkpoint, step = _select_checkpoint(folder)
    if with_state and checkpoint is None and not (folder / f"checkpoint-{step}").is_dir():
        raise PushError(f"{folder} has no checkpoint-{step} whose state could be published; leave --state out")
    resolved = resolve_model_target(target, run_id=run_id)
    snapshot = take_snapshot(folder, checkpoint=checkpoint, step=step, with_state=with_state)
    try:
        return resolved, push_snapshot(snapshot, resolved, run_id=run_id, patience=patience)
    except PushError as error:
        raise PushError(f"{folder} is not published: {error}; the same command goes on from here") from error
    finally:
        snapshot.remove()
        with contextlib.suppress(OSError):  # a run that goes on has others in there
            (folder / SNAPSHOT_FOLDER).rmdir()


def _read_or_create_run_id(folder: Path) -> str:
    """By which a repository knows its run; one of before there were ids gets its own."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise CardError(f"{folder} holds no {RUN_FILE}; give the --output_dir of a training run")
    run = read_json(path)
    if "run_id" not in run:
        run["run_id"] = uuid.uuid4().hex
        write_json(path, run)
    return str(run["run_id"])


def _select_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The checkpoint whose model it is, None where the finished one is at the top; and its step."""
    if read_run_status(folder) == "finished":
        return None, int(read_json(folder / RUN_FILE)["steps"])
    checkpoint = latest_checkpoint(folder)
    step = None if checkpoint is None else checkpoint_step(checkpoint)
    if checkpoint is None or step is None:
        raise PushError(f"{folder} holds no model yet: the run is not finished and has no whole checkpoint")
    return checkpoint, step


def format_publish_result(published: PublishResult) -> str:
    """What a push did, for people."""
    if not published.commits:
        return "it holds all of it already, nothing was sent"
    sent = f"{published.main.files} files, {published.main.num_bytes / 1e6:.1f} MB"
    if published.state is not None:
        sent += f", and {published.state.num_bytes / 1e6:.1f} MB of run state on the branch {STATE_BRANCH}"
    return sent
