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
from typing import Any

from ..cards.scrubbing import safe
from ..data.network import (
    OUTAGE_SECONDS,
    SourceUnavailable,
    outage_seconds,
    reason_of,
    seconds_from,
    stop_waiting_on,
)
from ..stopping import StopSignal, name_of
from ..training import RunRecipe, newest_checkpoint, say
from ..training.checkpoints import step_of
from ..training.errors import is_main_process, say_error
from ..training.preparation import run_id_for, together
from ..training.recipes import HubStrategy
from ..training.report import PUBLISHED_FILE, JsonLines
from .pushing import Published, describe, publish_snapshot
from .repository import ModelTarget, answers, check_target, take
from .snapshot import Snapshot, clear, take_snapshot

logger = logging.getLogger(__name__)

SPACING_VARIABLE = "HF_VIDEOMAE_HUB_SPACING"

_HURRY_SECONDS = 2.0
"""How long a stopped run waits for its last push before it looks whether the Hub answers at all."""
_SPACING = 45.0
"""Seconds from one commit to the next, but the last: 80 an hour, where the Hub takes 128 from all runs of a user."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Of pushes, in seconds.

    Attributes:
        patience: how long a Hub that fails is waited for.
        spacing: from one commit to the next; the last push waits for nothing.
    """

    patience: float = OUTAGE_SECONDS
    spacing: float = _SPACING

    @classmethod
    def from_environment(cls) -> "Timing":
        """HF_VIDEOMAE_HUB_PATIENCE and HF_VIDEOMAE_HUB_SPACING, where they are set."""
        return cls(patience=outage_seconds(), spacing=seconds_from(SPACING_VARIABLE, _SPACING))


class _Retries(logging.Handler):
    """Notice, inside a `with` block, that the client tries a request again: it tells it in its log alone."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = False

    def __enter__(self) -> "_Retries":
        logging.getLogger("huggingface_hub").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("huggingface_hub").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = self.seen or "Retrying in" in record.getMessage()


# In the background.


@dataclass
class _Job:
    snapshot: Snapshot
    last: bool
    done: threading.Event = field(default_factory=threading.Event)
    published: Published | None = None
    failure: str | None = None


class Publisher:
    """Publishes the saves of one run; made in all processes, used in the first.

    Args:
        target: by `check_target`.
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
        timing: Timing | None = None,
    ) -> None:
        self.target, self.output_dir, self.strategy = target, Path(output_dir), strategy
        self.timing = timing or Timing()
        self.run_id: str | None = None
        self.published_step: int | None = None
        self._lock = threading.Condition()
        self._next: _Job | None = None
        self._replaced: list[Snapshot] = []
        self._newer, self._left = threading.Event(), threading.Event()
        self._not_before = 0.0
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()
        self._notes: JsonLines | None = None

    # What a run calls.

    def open(self, run_id: str) -> None:
        """Make the repository, or see that it is this run's.

        Raises:
            PushError: in one line.
        """
        self.run_id = run_id
        take(self.target, run_id=run_id)
        clear(self.output_dir)
        when = {"end": "when the run ends", "every_save": "after every save"}
        say(f"publishing to {self.target.url} {when.get(self.strategy, 'after every save, with the run state')}")

    def saved(self, checkpoint: Path) -> None:
        """Hand over a save in the middle of the run; what goes wrong is told, and the run goes on."""
        if self.strategy == "end":
            return
        step = step_of(checkpoint)
        assert step is not None
        begun = time.perf_counter()
        try:
            self._hand_over(step, checkpoint, last=False)
        except OSError as error:
            logger.warning("step %d is not published: %s", step, safe(reason_of(error)))
            return
        self._note(step, blocked_seconds=round(time.perf_counter() - begun, 5))

    def ended(self, step: int, checkpoint: Path | None, *, hurry: bool = False) -> int:
        """Publish how the run ended and wait for it; returns 0, 1 (not published), or 128 + the signal that came.

        Args:
            step: the last one done.
            checkpoint: whose model it is; None: the finished one.
            hurry: a signal asked to stop: a push that gets on is waited for, a Hub that does not answer is not.
        """
        try:
            job = self._hand_over(step, checkpoint, last=True)
        except OSError as error:
            self._tell_failure(safe(reason_of(error)))
            return 1
        look = time.monotonic() + _HURRY_SECONDS
        with StopSignal() as stop, _Retries() as retries:
            while not job.done.wait(0.1):
                if hurry and time.monotonic() > look:
                    self._newer.set()  # ends the wait between two tries
                    if retries.seen or not answers(self.target.id):
                        self._leave()
                        self._tell_failure("the Hub does not answer, and the run was asked to stop")
                        return 1
                    look = time.monotonic() + _HURRY_SECONDS
                self._start()  # an earlier push may have ended it
                if number := stop.asked():
                    self._leave()
                    self._tell_failure(f"interrupted by {name_of(number)}")
                    return 128 + number
        self._leave()
        if job.failure is not None or job.published is None:
            self._tell_failure(job.failure or "the Hub failed, and the run was asked to stop")
            return 1
        say(f"published {self.target.url}: {describe(job.published)}")
        return 0

    def abandon(self) -> None:
        """The run failed: what of its saves is not on the Hub stays here."""
        self._leave()
        newest = newest_checkpoint(self.output_dir, contents=False)
        if newest is not None and step_of(newest) != self.published_step:
            say(f"{newest.name} is not published; to publish it: {self.command}")

    @property
    def command(self) -> str:
        """What publishes the run from its folder."""
        command = ["hf-videomae", "push", str(self.output_dir), "--hub_model_id", self.target.id]
        flags = {"--state": self.strategy == "checkpoint", "--private": self.target.private}
        flags["--overwrite"] = self.target.overwrite
        return shlex.join([*command, *(flag for flag, wanted in flags.items() if wanted)])

    # The thread.

    def _hand_over(self, step: int, checkpoint: Path | None, *, last: bool) -> _Job:
        with_state = self.strategy == "checkpoint"
        job = _Job(take_snapshot(self.output_dir, checkpoint=checkpoint, step=step, with_state=with_state), last)
        with self._lock:
            replaced, self._next = self._next, job
            self._newer.set()
            self._lock.notify()
            if replaced is not None:
                self._replaced.append(replaced.snapshot)
        self._start()
        return job

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        stop_waiting_on(self._newer)
        while not self._left.is_set():
            with self._lock:
                while self._next is None:
                    if self._left.is_set():
                        return
                    self._lock.wait()
                job, self._next = self._next, None
                self._newer.clear()
                replaced, self._replaced = self._replaced, []
            for snapshot in replaced:
                snapshot.remove()  # here: letting go of large files takes its time
            try:
                if job.last or not self._newer.wait(max(0.0, self._not_before - time.monotonic())):
                    self._push(job)
            finally:
                job.snapshot.remove()
                job.done.set()

    def _push(self, job: _Job) -> None:
        begun = time.monotonic()
        try:
            job.published = publish_snapshot(
                job.snapshot, self.target, run_id=self.run_id, patience=self.timing.patience
            )
        except SourceUnavailable:
            return  # a newer save takes its place
        except (ValueError, OSError) as error:
            job.failure = safe(" ".join(str(error).split()))
            self._tell_of(job)
            return
        finally:
            # What nobody expected ends this thread, with its traceback; the next save gets another.
            unexpected = sys.exception()
            if unexpected is not None:
                job.failure = safe(repr(unexpected))
        # From now on it is this run's own.
        self.target = replace(self.target, overwrite=False)
        self.published_step = job.snapshot.step
        self._not_before = time.monotonic() + self.timing.spacing * job.published.commits
        self._record(job, seconds=time.monotonic() - begun)

    def _tell_of(self, job: _Job) -> None:
        if self._left.is_set():
            return
        self._note(job.snapshot.step, failure=job.failure)
        if not job.last:
            logger.warning("step %d is not published: %s", job.snapshot.step, job.failure)

    def _record(self, job: _Job, *, seconds: float) -> None:
        published = job.published
        assert published is not None
        facts: dict[str, Any] = {"commit": published.main.commit, "seconds": round(seconds, 3)}
        facts |= {"files": published.main.files, "bytes": published.main.num_bytes}
        if published.state is not None:
            facts["state"] = {"commit": published.state.commit, "bytes": published.state.num_bytes}
        self._note(job.snapshot.step, **facts)
        for note in published.notes:
            if note not in self._told:
                self._told.add(note)
                logger.warning("%s", note)

    def _note(self, step: int, **values: Any) -> None:
        """Of both threads, and no reason to end either."""
        try:
            with self._lock:
                self._notes = self._notes or JsonLines(self.output_dir / PUBLISHED_FILE, keep_until=sys.maxsize)
                self._notes.write({"step": step, **values})
        except OSError as error:
            logger.warning("%s is not written: %s", PUBLISHED_FILE, reason_of(error))

    def _leave(self) -> None:
        with self._lock:
            self._left.set()
            self._newer.set()
            self._lock.notify()
        clear(self.output_dir)

    def _tell_failure(self, reason: str) -> None:
        say_error(
            f"the run is saved in {self.output_dir}, but its end is not published on {self.target.id}: {reason}; to "
            f"publish it: {self.command}"
        )


def build_publisher(recipe: RunRecipe, *, resume: Path | None = None) -> Publisher | None:
    """Where a run is published, looked at before the work begins; None where `--push_to_hub` is not given.

    Called in all processes, which are connected; the first one talks to the Hub.

    Args:
        recipe: of the run.
        resume: the checkpoint that it goes on from: it may go on in its own repository.

    Raises:
        PushError: in the first process, in one line, for a token that may not write, or a model of another run.
        RunError: the same in the others.
    """
    if not recipe.push_to_hub:
        return None
    wanted = ModelTarget(
        id=recipe.hub_model_id or Path(recipe.output_dir).resolve().name,
        private=recipe.hub_private,
        overwrite=recipe.overwrite,
    )

    def check() -> ModelTarget:
        return check_target(wanted, run_id=run_id_for(recipe, resume)) if is_main_process() else wanted

    timing = Timing.from_environment()
    target = together(check, ValueError, OSError)
    return Publisher(target, output_dir=recipe.output_dir, strategy=recipe.hub_strategy, timing=timing)
