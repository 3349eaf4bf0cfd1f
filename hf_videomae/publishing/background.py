"""A run is published while it trains: in the background, one save at a time, the newest first.

Training hands a save over (hard links, milliseconds) and goes on. A thread sends it; what fails is tried again, and a
newer save takes the place of one that still waits. Only the last push is waited for.
"""

import logging
import shlex
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..checkpoint_dir import checkpoint_step, latest_checkpoint
from ..console import log_error, log_main
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
from .push import PublishResult, format_publish_result, push_snapshot
from .repo import ModelTarget, claim_repo, is_hub_reachable
from .snapshot import Snapshot, clear, take_snapshot

logger = logging.getLogger(__name__)

HubStrategy = Literal["end", "every_save", "checkpoint"]

SPACING_VARIABLE = "HF_VIDEOMAE_HUB_SPACING"

_INTERRUPTED_GRACE_SECONDS = 2.0
"""How long a stopped run waits for its last push before it looks whether the Hub answers at all."""
_DEFAULT_COMMIT_SPACING = 45.0
"""Seconds from one commit to the next, but the last: 80 an hour, where the Hub takes 128 from all runs of a user."""


@dataclass(frozen=True, kw_only=True)
class PushTiming:
    """Of pushes, in seconds.

    Attributes:
        patience: how long a Hub that fails is waited for.
        spacing: from one commit to the next; the last push waits for nothing.
    """

    patience: float = OUTAGE_SECONDS
    spacing: float = _DEFAULT_COMMIT_SPACING

    @classmethod
    def from_environment(cls) -> "PushTiming":
        """HF_VIDEOMAE_HUB_PATIENCE and HF_VIDEOMAE_HUB_SPACING, where they are set."""
        return cls(
            patience=outage_retry_seconds(), spacing=read_env_seconds(SPACING_VARIABLE, _DEFAULT_COMMIT_SPACING)
        )


class _RetryLogWatcher(logging.Handler):
    """Notice, inside a `with` block, that the client tries a request again: it tells it in its log alone."""

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


# In the background.


@dataclass
class _PublishJob:
    snapshot: Snapshot
    is_last: bool
    done: threading.Event = field(default_factory=threading.Event)
    published: PublishResult | None = None
    failure: str | None = None


class BackgroundPublisher:
    """Publishes the saves of one run; made in all processes, used in the first.

    Args:
        target: by `resolve_model_target`.
        output_dir: of the run.
        strategy: `end`, `every_save`, or `checkpoint` (every save with its state).
        timing: patience and spacing.
    """

    def __init__(
        self,
        target: ModelTarget,
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

    # What a run calls.

    def open(self, run_id: str) -> None:
        """Make the repository, or see that it is this run's.

        Raises:
            PushError: in one line.
        """
        self.run_id = run_id
        claim_repo(self.target, run_id=run_id)
        clear(self.output_dir)
        schedule = {"end": "when the run ends", "every_save": "after every save"}
        log_main(
            f"publishing to {self.target.url} {schedule.get(self.strategy, 'after every save, with the run state')}"
        )

    def saved(self, checkpoint: Path) -> None:
        """Hand over a save in the middle of the run; what goes wrong is told, and the run goes on."""
        if self.strategy == "end":
            return
        step = checkpoint_step(checkpoint)
        assert step is not None
        start_time = time.perf_counter()
        try:
            self._enqueue(step, checkpoint, is_last=False)
        except OSError as error:
            logger.warning("step %d is not published: %s", step, redact_secrets(root_cause_message(error)))
            return
        self._write_record(step, blocked_seconds=round(time.perf_counter() - start_time, 5))

    def publish_final(self, step: int, checkpoint: Path | None, *, is_interrupted: bool = False) -> int:
        """Publish how the run ended and wait for it; returns 0, 1 (not published), or 128 + the signal that came.

        Args:
            step: the last one done.
            checkpoint: whose model it is; None: the finished one.
            is_interrupted: a signal asked to stop: a push that gets on is waited for, a Hub that does not answer is not.
        """
        try:
            job = self._enqueue(step, checkpoint, is_last=True)
        except OSError as error:
            self._log_final_failure(redact_secrets(root_cause_message(error)))
            return 1
        next_check = time.monotonic() + _INTERRUPTED_GRACE_SECONDS
        with StopSignal() as stop, _RetryLogWatcher() as retries:
            while not job.done.wait(0.1):
                if is_interrupted and time.monotonic() > next_check:
                    self._wake.set()  # ends the wait between two tries
                    if retries.seen or not is_hub_reachable(self.target.id):
                        self._close()
                        self._log_final_failure("the Hub does not answer, and the run was asked to stop")
                        return 1
                    next_check = time.monotonic() + _INTERRUPTED_GRACE_SECONDS
                self._ensure_thread()  # an earlier push may have ended it
                if number := stop.requested_signal():
                    self._close()
                    self._log_final_failure(f"interrupted by {signal_name(number)}")
                    return 128 + number
        self._close()
        if job.failure is not None or job.published is None:
            self._log_final_failure(job.failure or "the Hub failed, and the run was asked to stop")
            return 1
        log_main(f"published {self.target.url}: {format_publish_result(job.published)}")
        return 0

    def report_unpublished(self) -> None:
        """The run failed: what of its saves is not on the Hub stays here."""
        self._close()
        newest = latest_checkpoint(self.output_dir, contents=False)
        if newest is not None and checkpoint_step(newest) != self.last_published_step:
            log_main(f"{newest.name} is not published; to publish it: {self.command}")

    @property
    def command(self) -> str:
        """What publishes the run from its folder."""
        command = ["hf-videomae", "push", str(self.output_dir), "--hub_model_id", self.target.id]
        flags = {"--state": self.strategy == "checkpoint", "--private": self.target.private}
        flags["--overwrite"] = self.target.overwrite
        return shlex.join([*command, *(flag for flag, wanted in flags.items() if wanted)])

    # The thread.

    def _enqueue(self, step: int, checkpoint: Path | None, *, is_last: bool) -> _PublishJob:
        with_state = self.strategy == "checkpoint"
        job = _PublishJob(
            take_snapshot(self.output_dir, checkpoint=checkpoint, step=step, with_state=with_state), is_last
        )
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
                snapshot.remove()  # here: letting go of large files takes its time
            try:
                if job.is_last or not self._wake.wait(max(0.0, self._next_push_time - time.monotonic())):
                    self._push_job(job)
            finally:
                job.snapshot.remove()
                job.done.set()

    def _push_job(self, job: _PublishJob) -> None:
        start_time = time.monotonic()
        try:
            job.published = push_snapshot(job.snapshot, self.target, run_id=self.run_id, patience=self.timing.patience)
        except SourceUnavailable:
            return  # a newer save takes its place
        except (ValueError, OSError) as error:
            job.failure = redact_secrets(" ".join(str(error).split()))
            self._log_failure(job)
            return
        finally:
            # What nobody expected ends this thread, with its traceback; the next save gets another.
            unexpected = sys.exception()
            if unexpected is not None:
                job.failure = redact_secrets(repr(unexpected))
        # From now on it is this run's own.
        self.target = replace(self.target, overwrite=False)
        self.last_published_step = job.snapshot.step
        self._next_push_time = time.monotonic() + self.timing.spacing * job.published.commits
        self._record_success(job, seconds=time.monotonic() - start_time)

    def _log_failure(self, job: _PublishJob) -> None:
        if self._closed.is_set():
            return
        self._write_record(job.snapshot.step, failure=job.failure)
        if not job.is_last:
            logger.warning("step %d is not published: %s", job.snapshot.step, job.failure)

    def _record_success(self, job: _PublishJob, *, seconds: float) -> None:
        published = job.published
        assert published is not None
        facts: dict[str, Any] = {"commit": published.main.commit, "seconds": round(seconds, 3)}
        facts |= {"files": published.main.files, "bytes": published.main.num_bytes}
        if published.state is not None:
            facts["state"] = {"commit": published.state.commit, "bytes": published.state.num_bytes}
        self._write_record(job.snapshot.step, **facts)
        for note in published.notes:
            if note not in self._logged_notes:
                self._logged_notes.add(note)
                logger.warning("%s", note)

    def _write_record(self, step: int, **values: Any) -> None:
        """Of both threads, and no reason to end either."""
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
        clear(self.output_dir)

    def _log_final_failure(self, reason: str) -> None:
        log_error(
            f"the run is saved in {self.output_dir}, but its end is not published on {self.target.id}: {reason}; to "
            f"publish it: {self.command}"
        )
