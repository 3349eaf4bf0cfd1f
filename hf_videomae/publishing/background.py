"""Publish a run while it trains: in the background, one checkpoint at a time.

Training hands over a snapshot of hard links, which takes milliseconds, and continues. A thread pushes it and retries
failures. A newer checkpoint replaces one that is still waiting. The run waits only for its last push.
"""

import logging
import shlex
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..cards import CardError
from ..cards.run_metadata import read_run
from ..checkpoint_dir import checkpoint_step, latest_checkpoint
from ..console import log_error, log_main
from ..hub.client import is_hub_reachable
from ..hub.repo import HubTarget
from ..hub.retry import (
    OUTAGE_SECONDS,
    SourceUnavailable,
    cancel_waits_on,
    outage_retry_seconds,
    read_env_seconds,
    root_cause_message,
)
from ..redaction import redact_secrets
from ..run_files import PUBLISHED_FILE, JsonlWriter
from ..stop_signals import StopSignal, signal_name
from .push import PublishResult, claim_repo, format_publish_result, push_snapshot
from .snapshot import Snapshot, remove_stale_snapshots, take_snapshot

logger = logging.getLogger(__name__)

HubStrategy = Literal["end", "every_save", "checkpoint"]

SPACING_VARIABLE = "HF_VIDEOMAE_HUB_SPACING"

_INTERRUPTED_GRACE_SECONDS = 2.0
"""How long a stopped run waits for its last push before it checks whether the Hub answers at all."""
_DEFAULT_COMMIT_SPACING = 45.0
"""Seconds between commits, except before the last: 80 an hour; the Hub allows 128 for all runs of a user."""


@dataclass(frozen=True, kw_only=True)
class PushTiming:
    """The timing of pushes, in seconds.

    Attributes:
        retry_seconds: how long to wait for a Hub that fails.
        spacing: minimum time between two commits; the last push does not wait for it.
    """

    retry_seconds: float = OUTAGE_SECONDS
    spacing: float = _DEFAULT_COMMIT_SPACING

    @classmethod
    def from_environment(cls) -> "PushTiming":
        """Read HF_VIDEOMAE_HUB_PATIENCE and HF_VIDEOMAE_HUB_SPACING, or use the defaults."""
        spacing = read_env_seconds(SPACING_VARIABLE, _DEFAULT_COMMIT_SPACING)
        return cls(retry_seconds=outage_retry_seconds(), spacing=spacing)


class _RetryLogWatcher(logging.Handler):
    """Notice, inside a `with` block, that the Hub's client retries a request, which it reports only in its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = False

    def __enter__(self) -> "_RetryLogWatcher":
        logging.getLogger("huggingface_hub").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("huggingface_hub").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = self.seen or "Retrying in" in record.getMessage()


@dataclass
class _PublishJob:
    snapshot: Snapshot
    is_last: bool
    done: threading.Event = field(default_factory=threading.Event)
    result: PublishResult | None = None
    failure: str | None = None


class BackgroundPublisher:
    """Publish the checkpoints of one run. All processes build one; only the first process calls it.

    Args:
        target: a result of `resolve_model_target`.
        output_dir: the run's output folder.
        strategy: `end`, `every_save`, or `checkpoint` (every checkpoint with its state).
        timing: how long to retry, and how often to commit.
    """

    def __init__(
        self,
        target: HubTarget,
        *,
        output_dir: str | Path,
        strategy: HubStrategy = "end",
        timing: PushTiming | None = None,
    ) -> None:
        self.target, self.output_dir, self.strategy = target, Path(output_dir), strategy
        self.timing = timing or PushTiming()
        self.run_id: str | None = None
        self.last_published_step: int | None = None
        self._lock = threading.Condition()
        self._pending: _PublishJob | None = None
        self._superseded: list[Snapshot] = []
        self._wake, self._closed = threading.Event(), threading.Event()
        self._next_push_time = 0.0
        self._thread: threading.Thread | None = None
        self._logged_notes: set[str] = set()
        self._record_file: JsonlWriter | None = None

    # Called by the trainer.

    def start(self, run_id: str) -> None:
        """Create the repository, or check that it is this run's.

        Raises:
            PushError: in one line.
        """
        self.run_id = run_id
        claim_repo(self.target, run_id=run_id)
        remove_stale_snapshots(self.output_dir)
        schedule = {
            "end": "when the run ends",
            "every_save": "after every save",
            "checkpoint": "after every save, with the run state",
        }
        log_main(f"publishing to {self.target.url} {schedule[self.strategy]}")

    def publish_checkpoint(self, checkpoint: Path) -> None:
        """Hand over a checkpoint in the middle of the run; failures are logged and do not end the run."""
        if self.strategy == "end":
            return
        step = checkpoint_step(checkpoint)
        assert step is not None
        start_time = time.perf_counter()
        try:
            self._enqueue(step, checkpoint, is_last=False)
        except (CardError, OSError) as error:
            logger.warning("step %d is not published: %s", step, redact_secrets(root_cause_message(error)))
            return
        self._write_record(step, blocked_seconds=round(time.perf_counter() - start_time, 5))

    def publish_final(self, step: int, checkpoint: Path | None, *, is_interrupted: bool = False) -> int:
        """Publish the end of the run and wait for the push.

        Args:
            step: the last step done.
            checkpoint: the checkpoint with the model; None: the finished model at the top of the output folder.
            is_interrupted: a signal asked the run to stop: wait for a push that makes progress, but not for a Hub
                that does not answer.

        Returns:
            0; 1 if it is not published; 128 + the signal that ended the wait.
        """
        try:
            job = self._enqueue(step, checkpoint, is_last=True)
        except (CardError, OSError) as error:
            self._log_final_failure(redact_secrets(root_cause_message(error)))
            return 1
        next_check = time.monotonic() + _INTERRUPTED_GRACE_SECONDS
        with StopSignal() as stop, _RetryLogWatcher() as retries:
            while not job.done.wait(0.1):
                if is_interrupted and time.monotonic() > next_check:
                    self._wake.set()  # ends the wait between two attempts
                    if retries.seen or not is_hub_reachable(self.target.id):
                        self._close()
                        self._log_final_failure("the Hub does not answer, and the run was asked to stop")
                        return 1
                    next_check = time.monotonic() + _INTERRUPTED_GRACE_SECONDS
                self._ensure_thread()  # an unexpected error in an earlier push ends the thread
                if number := stop.requested_signal():
                    self._close()
                    self._log_final_failure(f"interrupted by {signal_name(number)}")
                    return 128 + number
        self._close()
        if job.failure is not None or job.result is None:
            self._log_final_failure(job.failure or "the Hub failed, and the run was asked to stop")
            return 1
        log_main(f"published {self.target.url}: {format_publish_result(job.result)}")
        return 0

    def report_unpublished(self) -> None:
        """Stop publishing a run that failed, and log whether its newest checkpoint is not on the Hub."""
        self._close()
        newest = latest_checkpoint(self.output_dir, contents=False)
        if newest is not None and checkpoint_step(newest) != self.last_published_step:
            log_main(f"{newest.name} is not published; to publish it: {self.push_command}")

    @property
    def push_command(self) -> str:
        """Return the command that publishes the run from its folder."""
        words = ["hf-videomae", "push", str(self.output_dir), "--hub_model_id", self.target.id]
        flags = {
            "--state": self.strategy == "checkpoint",
            "--private": self.target.private,
            "--overwrite": self.target.overwrite,
        }
        return shlex.join([*words, *(flag for flag, is_set in flags.items() if is_set)])

    # The thread. At most one job is pending: if step 4 waits while step 2 is pushed, step 6 replaces it, and step 4 is
    # never pushed. Enqueuing sets `_wake`, which ends two waits of the job in the thread: that for a Hub that fails
    # (by `cancel_waits_on`) and that for the spacing of commits. Either way, that job gives way to the newer one.

    def _enqueue(self, step: int, checkpoint: Path | None, *, is_last: bool) -> _PublishJob:
        with_state = self.strategy == "checkpoint"
        run = read_run(self.output_dir)
        snapshot = take_snapshot(self.output_dir, run, checkpoint=checkpoint, step=step, with_state=with_state)
        job = _PublishJob(snapshot, is_last)
        with self._lock:
            superseded, self._pending = self._pending, job
            self._wake.set()
            self._lock.notify()
            if superseded is not None:
                self._superseded.append(superseded.snapshot)
        self._ensure_thread()
        return job

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run_worker, name="publisher", daemon=True)
            self._thread.start()

    def _run_worker(self) -> None:
        cancel_waits_on(self._wake)
        while not self._closed.is_set():
            with self._lock:
                while self._pending is None:
                    if self._closed.is_set():
                        return
                    self._lock.wait()
                job, self._pending = self._pending, None
                self._wake.clear()
                superseded, self._superseded = self._superseded, []
            for snapshot in superseded:
                snapshot.remove()  # in this thread, because deleting large files takes time
            try:
                if job.is_last or not self._wake.wait(max(0.0, self._next_push_time - time.monotonic())):
                    self._push_job(job)
            finally:
                job.snapshot.remove()
                job.done.set()

    def _push_job(self, job: _PublishJob) -> None:
        start_time = time.monotonic()
        try:
            job.result = push_snapshot(
                job.snapshot, self.target, run_id=self.run_id, retry_seconds=self.timing.retry_seconds
            )
        except SourceUnavailable:
            return  # a newer checkpoint replaces this one
        except (ValueError, OSError) as error:
            job.failure = redact_secrets(" ".join(str(error).split()))
            if not self._closed.is_set():
                self._write_record(job.snapshot.step, failure=job.failure)
                if not job.is_last:
                    logger.warning("step %d is not published: %s", job.snapshot.step, job.failure)
            return
        finally:
            # An unexpected error ends this thread with its traceback; the next checkpoint starts another thread.
            unexpected = sys.exception()
            if unexpected is not None:
                job.failure = redact_secrets(repr(unexpected))
        # From now on the repository holds this run's model, so nothing of another run can be overwritten.
        self.target = replace(self.target, overwrite=False)
        self.last_published_step = job.snapshot.step
        self._next_push_time = time.monotonic() + self.timing.spacing * job.result.commits
        self._record_success(job.snapshot.step, job.result, seconds=time.monotonic() - start_time)

    def _record_success(self, step: int, result: PublishResult, *, seconds: float) -> None:
        facts: dict[str, Any] = {"commit": result.main.commit, "seconds": round(seconds, 3)}
        facts |= {"files": result.main.files, "bytes": result.main.num_bytes}
        if result.state is not None:
            facts["state"] = {"commit": result.state.commit, "bytes": result.state.num_bytes}
        self._write_record(step, **facts)
        for note in result.notes:
            if note not in self._logged_notes:
                self._logged_notes.add(note)
                logger.warning("%s", note)

    def _write_record(self, step: int, **values: Any) -> None:
        """Append a line to `published.jsonl`, from either thread; a failure is only logged."""
        try:
            with self._lock:
                self._record_file = self._record_file or JsonlWriter(
                    self.output_dir / PUBLISHED_FILE, truncate_after=sys.maxsize
                )
                self._record_file.write({"step": step, **values})
        except OSError as error:
            logger.warning("%s is not written: %s", PUBLISHED_FILE, root_cause_message(error))

    def _close(self) -> None:
        with self._lock:
            self._closed.set()
            self._wake.set()
            self._lock.notify()
        remove_stale_snapshots(self.output_dir)

    def _log_final_failure(self, reason: str) -> None:
        log_error(
            f"the run is saved in {self.output_dir}, but its end is not published on {self.target.id}: {reason}; to "
            f"publish it: {self.push_command}"
        )
