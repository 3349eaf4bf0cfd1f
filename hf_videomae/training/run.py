"""The run: one loop of optimizer steps under Accelerate, for whatever task.

What is trained, on what, and what its loss is comes in a `Task`; here is what every training needs: accumulation, the
schedule, losses that are not finite, checkpoints, exact resume, signals, logs. All processes take the same decisions:
what may differ between them (a loss, a signal) is gathered every step.
"""

import contextlib
import math
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn

from ..data.collate import stable_seed
from ..data.samples import DataError
from ..locking import FolderLock
from ..stopping import Stopped, StopSignal, name_of
from ..storage import writing
from ..video.decoding import VideoBackendError
from . import report
from .checkpoints import (
    CheckpointError,
    find_checkpoint,
    generator_state,
    load_optimizer,
    load_rank,
    load_streams,
    origin_of,
    read_state,
    restore_generators,
    write_checkpoint,
    write_final_model,
)
from .describing import announce_changes, announce_plan, announce_result, announce_stop, run_facts_of, title_of
from .errors import RunError, say
from .journal import Journal, gather_videos, summary
from .not_finite import NotFinite
from .optim import build_optimizer, gradient_norm, parameter_groups, set_learning_rate
from .origins import ORIGINS, origins_in
from .outcome import Outcome
from .output import claim
from .position import StepStart
from .preparation import (
    Batch,
    Loader,
    Measured,
    Publisher,
    Task,
    Validation,
    plan_schedule,
    run_id_for,
    together,
)
from .progress import Clock, Progress
from .recipes import RunRecipe
from .together import StopNews

_SHOWN_BAD_VIDEOS = 3
_FATE = {"replace": "is replaced", "skip": "is left out", "raise": "ends the run"}


class Run:
    """A training run, ready for its first step.

    Building it checks everything that can be wrong, the first batch included, before anything is written.

    Args:
        recipe: its settings.
        accelerator: from `build_accelerator`.
        model: what is trained.
        task: its loss, and what is written.
        loader: an endless iterable of batches of this process.
        resume: from `resume_point`.
        lr_scale: name -> factor on the learning rate of a parameter (layer-wise decay).
        validation: what is measured on other data, if anything.
        publisher: where the run is published, if anywhere.
    """

    def __init__(
        self,
        recipe: RunRecipe,
        *,
        accelerator: Accelerator,
        model: nn.Module,
        task: Task,
        loader: Loader,
        resume: Path | None = None,
        lr_scale: Any = None,
        validation: Validation | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self.validation, self.publisher = validation, publisher
        self.run_id = run_id_for(recipe, resume) or uuid.uuid4().hex
        self._fault: RunError | None = None
        self._data_fault: str | None = None
        self.recipe, self.accelerator, self.task, self.loader = recipe, accelerator, task, loader
        self.output_dir = Path(recipe.output_dir)
        self.clips_per_step = recipe.batch_size * recipe.gradient_accumulation * accelerator.num_processes
        self.schedule = plan_schedule(
            recipe, global_batch=self.clips_per_step, steps_per_epoch=self._steps_per_epoch()
        )
        self.step, self.skipped, self.skipped_in_a_row, self.seconds = 0, 0, 0, 0.0
        self.clips = 0  # of all processes; batches may be smaller than asked for (--on_bad_video skip)
        self.save_every = recipe.save_every or max(1, min(1000, self.schedule.total_steps // 10))
        with warnings.catch_warnings():
            # torch has a new name for DDP's broadcast_buffers, which Accelerate does not know yet.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = accelerator.prepare_model(model)
        if recipe.compile:
            self.model = torch.compile(self.model)
        groups = parameter_groups(model, weight_decay=recipe.weight_decay, lr_scale=lr_scale)
        fused = accelerator.device.type == "cuda"
        self.optimizer = build_optimizer(groups, betas=recipe.betas, eps=recipe.adam_eps, fused=fused)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.stop, self.clock = StopSignal(StopNews() if accelerator.num_processes > 1 else None), Clock()
        self._before: StepStart | None = None  # of a step that is under way, or was abandoned
        self._saved_step: int | None = None
        self._lock: FolderLock | None = None
        announce_plan(
            recipe,
            schedule=self.schedule,
            steps_per_epoch=self._steps_per_epoch(),
            processes=accelerator.num_processes,
            clips_per_step=self.clips_per_step,
            device=accelerator.device,
        )
        self._start(resume)

    # Starting.

    def _steps_per_epoch(self) -> int | None:
        batches = self.loader.steps_per_epoch
        return None if batches is None else max(1, batches // self.recipe.gradient_accumulation)

    def _start(self, resume: Path | None) -> None:
        generators = None if resume is None else self._restore(resume)
        self._stream_before_first = self.loader.state_dict()
        self._batches = iter(self.loader)
        # The first batch shows what is wrong with the data before anything is written. It also starts the workers,
        # which draws from the generators: a resumed run sets them afterwards.
        self._fetched = None if self._over() else self._first_batch()
        self._take_repository()
        self.accelerator.wait_for_everyone()
        if generators is not None:
            restore_generators(*generators)
        if not self._finished_before():
            self._open_files(resume)
        self.stop.__enter__()  # until now there was nothing to save

    def _first_batch(self) -> Batch:
        """The first batch; a process that gets none stops all, and says why in one voice."""
        return together(lambda: next(self._batches), ValueError, OSError, VideoBackendError)

    def _take_repository(self) -> None:
        """Where the run is published must be free for it."""

        def take() -> None:
            if self.publisher is not None and self.accelerator.is_main_process:
                self.publisher.open(self.run_id)

        if self.recipe.push_to_hub:
            together(take, ValueError, OSError)

    def _finished_before(self) -> bool:
        """Whether the last step is done and the run said so: then nothing is touched."""
        return self.step >= self.schedule.total_steps and report.status_of(self.output_dir) == "finished"

    def _restore(self, checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the weights, which the task has loaded; returns the generators' states."""
        state = read_state(checkpoint)
        if state["task"] != self.task.name:
            raise CheckpointError(f"{checkpoint} is of a {state['task']} run, it cannot go on as {self.task.name}")
        load_optimizer(checkpoint, self.optimizer)
        self.loader.load_states(load_streams(checkpoint, state["processes"]))
        self.step, self.skipped = state["step"], state["skipped_steps"]
        self.skipped_in_a_row, self.seconds = state["skipped_in_a_row"], state["seconds"]
        self.clips = state["clips"]
        say(f"resumed from {checkpoint} at step {self.step}")
        announce_changes(
            state,
            self.recipe,
            processes=self.accelerator.num_processes,
            clips_per_step=self.clips_per_step,
            total_steps=self.schedule.total_steps,
        )
        rank = self.accelerator.process_index
        if rank < state["processes"]:
            tensors, values, _ = load_rank(checkpoint, rank)
            return tensors, values
        # As a new process is seeded, but not again with the numbers of the first steps.
        set_seed(stable_seed(self.recipe.seed, self.step, rank) % 2**32)
        return generator_state()

    def _open_files(self, resume: Path | None) -> None:
        """Claim the output directory: the first write of the run."""
        together(lambda: self._claim(resume), RunError)
        if not self.output_dir.is_dir():
            raise RunError(f"--output_dir {self.output_dir} is not visible to all processes; give a shared directory")
        self.journal = Journal(
            self.output_dir,
            rank=self.accelerator.process_index,
            log_samples=self.recipe.log_samples,
            keep_until=None if resume is None else self.step,
        )
        self._begun, self._started = time.time(), report.now()
        self._resumed_from = None if resume is None else origin_of(resume)
        if resume is not None and resume.resolve().parent == self.output_dir.resolve():
            self._saved_step = self.step
        self._write_run("running")
        if self.recipe.report_to:
            # Trackers take numbers and texts alone.
            plain = {
                name: value for name, value in self.recipe.as_dict().items() if isinstance(value, (int, float, str))
            }
            self.accelerator.init_trackers("hf_videomae", config=plain)

    def _claim(self, resume: Path | None) -> None:
        if self.accelerator.is_main_process:
            self._lock = claim(self.output_dir, resume=resume, step=self.step)

    # The loop.

    def train(self) -> Outcome:
        """Train to the last step, or until a signal asks to stop.

        Raises:
            NotFiniteError: after too many steps in a row whose loss or gradient was not finite.
            RunError: when a validation or the test fails; the training is saved.
        """
        if self._finished_before():
            total = self.schedule.total_steps
            say(f"nothing to do: step {self.step} of {total} is done; a larger --max_steps goes on")
            self.stop.__exit__()
            self._test()
            return Outcome(self.step, self._publish(finished=True))
        try:
            return self._finish(self._train())
        finally:
            if self._lock is not None:
                self._lock.release()

    def _train(self) -> int:
        """Train every step that is left; returns the signal that asked to stop, or 0."""
        self.progress = Progress(self.schedule.total_steps, start=self.step)
        number = 0
        self.clock.read(self.loader.seconds)
        try:
            while not self._over() and not number:
                number = self._one_step()
                if self._data_fault is not None:
                    self._end_without_data(self._data_fault)
                # In a row of steps that were not applied there is nothing new to save.
                due = self.step % self.save_every == 0 and not self.skipped_in_a_row
                if due or self._over() or number or self._fault is not None:
                    self._save(last=self._over() or bool(number))
                if self._fault is not None:
                    raise self._fault
        except BaseException:
            # Without a word to the other processes, which may be anywhere.
            self._record_failure()
            raise
        finally:
            self._batches = iter(())  # the workers go here, not in whatever order the interpreter ends
            self.progress.close()
            self.stop.__exit__()
        return number

    def _record_failure(self) -> None:
        # A disk that ended the run may not take this either: its error is told already.
        with contextlib.suppress(RunError):
            self.journal.last_words(self.step + 1, self.loader.bad_videos)
            self._write_run("failed")
        if self.publisher is not None and self.accelerator.is_main_process:
            self.publisher.abandon()

    def _end_without_data(self, reason: str) -> None:
        """End the run where a process has no batch, with all steps so far saved; `RunError` in all processes."""
        if not self.skipped_in_a_row:
            self._save(last=False)
        if self._saved_step is not None and self._saved_step == self.step:
            reason = f"{reason}. {self.output_dir / f'checkpoint-{self.step}'} is saved: --resume goes on from it"
        raise RunError(reason)

    def _over(self) -> bool:
        total, stop = self.schedule.total_steps, self.recipe.stop_at_step
        return self.step >= (total if stop is None else min(stop, total))

    def _one_step(self) -> int:
        """One optimizer step; returns the signal that asks to stop, or 0."""
        learning_rate = self.schedule(self.step)
        set_learning_rate(self.optimizer, learning_rate)
        self._before = StepStart(self.loader.state_dict() if self._fetched is None else self._stream_before_first)
        loss, sample_ids, batch = self._accumulate()
        norm = 0.0 if batch is None else gradient_norm(self.parameters, clip=self.recipe.clip_grad)
        losses, norm, signals, is_whole = self._agree(loss, norm, clips=len(sample_ids), is_whole=batch is not None)
        if batch is None or not is_whole:
            return self._abandon_step(signals)
        self._before = None
        mean = sum(losses) / len(losses)
        finite = math.isfinite(mean) and math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.progress.advance()
        self.journal.samples(self.step, sample_ids)
        self._account(finite, losses, norm, sample_ids)
        measured = None if signals else self._validate()
        signals = signals or self.stop.number
        if measured or self.step % self.recipe.log_every == 0 or self.step == 1 or self._over() or signals:
            self._log(mean, norm, learning_rate, batch, measured)
        return signals

    def _abandon_step(self, number: int) -> int:
        """Undo a step for which some process got no batch: a signal ended the wait for it, or the data failed."""
        assert self._before is not None
        self.optimizer.zero_grad(set_to_none=True)
        self._before.restore_generators()
        self._data_fault = next(filter(None, gather_object([self._data_fault])), None)
        return number

    def _accumulate(self) -> tuple[Tensor, list[str], Batch | None]:
        """Forward and backward over the accumulated batches: their mean loss, all sample ids, the last batch.

        The batch is None where there is none: the step is not to be applied.
        """
        self.model.train()
        passes, sample_ids = self.recipe.gradient_accumulation, []
        total: Any = 0.0
        for number in range(passes):
            batch = self._next_batch()
            if batch is None:
                return self._stand_in(), [], None
            sample_ids += batch["sample_ids"]
            last = number == passes - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.task.loss(self.model, batch) / passes
                self.accelerator.backward(loss)
            total = total + loss.detach().float()
        self.clock.count(len(sample_ids))
        return total, sample_ids, batch

    def _next_batch(self) -> Batch | None:
        """Return the next batch, on the device; None where a signal ended the wait for it, or the data failed."""
        try:
            with self.clock.waiting(), contextlib.nullcontext() if self._fetched else self.stop.waiting():
                batch, self._fetched = self._fetched or next(self._batches), None
        except Stopped as stop:
            if stop.again:
                raise
            return None
        except (DataError, VideoBackendError) as error:
            self._data_fault = str(error)
            return None
        device = self.accelerator.device
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        if self.accelerator.num_processes > 1:
            self._last_batch = moved
        return moved

    def _stand_in(self) -> Tensor:
        """Take part in a step that nobody applies: the other processes may be waiting for this one's gradients."""
        if self.accelerator.num_processes == 1:
            return torch.zeros((), device=self.accelerator.device)
        loss = self.task.loss(self.model, self._last_batch)
        self.accelerator.backward(loss)
        return loss.detach().float()

    def _agree(self, loss: Tensor, norm: float, *, clips: int, is_whole: bool) -> tuple[list[float], float, int, bool]:
        """What every process saw: the losses, the gradient norm, the signal that any of them got, and whether all had
        their batches."""
        mine = torch.stack((loss, *loss.new_tensor([self.stop.asked(), norm, clips, is_whole])))
        everyone = self.accelerator.gather(mine[None]).tolist()
        all_whole = all(row[4] for row in everyone)
        self.clips += int(sum(row[3] for row in everyone)) if all_whole else 0
        norms = [row[2] for row in everyone]
        number = int(max(row[1] for row in everyone))
        return [row[0] for row in everyone], sum(norms) / len(norms), number, all_whole

    def _validate(self) -> Measured | None:
        """Measure where it is due; the training after it is the same, bit for bit, as without.

        What cannot be measured ends the run once this step is saved: no training is lost to it.
        """
        last = self.step >= self.schedule.total_steps
        if self.validation is None or not self.validation.due(self.step, last=last):
            return None
        generators = generator_state()
        try:
            with self.clock.stopped():
                return self.validation.measure()
        except Stopped as stop:
            if stop.again:
                raise
            self.stop.number = stop.number  # of another process, it may be
            return None
        except RunError as error:
            remedy = f"checkpoint-{self.step} is saved: mend it, or leave it out, and go on with --resume"
            self._fault = RunError(f"the validation after step {self.step} failed: {error}. {remedy}")
            return None
        finally:
            restore_generators(*generators)

    # Keeping account.

    def _account(self, finite: bool, losses: list[float], norm: float, sample_ids: list[str]) -> None:
        """Count and name steps that were not applied.

        Raises:
            NotFiniteError: after `max_nonfinite` in a row, or at the end of a run in which no step was applied.
        """
        if finite:
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        everyone = gather_object([{"process": self.accelerator.process_index, "sample_ids": sample_ids}])
        step = NotFinite(self.step, losses, norm, everyone)
        self.journal.not_finite(step.record())
        self.progress.say(step.warning(in_a_row=self.skipped_in_a_row, in_all=self.skipped))
        nothing_learned = self._over() and self.skipped == self.step
        if self.skipped_in_a_row >= self.recipe.max_nonfinite or nothing_learned:
            kept = find_checkpoint("auto", output_dir=self.output_dir) if self.accelerator.is_main_process else None
            raise step.error(self.output_dir, in_a_row=self.skipped_in_a_row, kept=kept)

    def _log(
        self, loss: float, norm: float, learning_rate: float, batch: Batch, measured: Measured | None = None
    ) -> None:
        """A line of metrics.jsonl, to the trackers and to the user."""
        self._log_bad_videos()
        reading = self.clock.read(self.loader.seconds)
        per_epoch = self._steps_per_epoch()
        metrics = {
            "step": self.step,
            "epoch": self.loader.epoch
            if per_epoch is None
            else round(self.clips / per_epoch / self.clips_per_step, 4),
            "loss": loss if math.isfinite(loss) else None,
            "lr": learning_rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "clips_per_second": round(reading.clips_per_second * self.accelerator.num_processes, 3),
            "seconds": round(reading.seconds, 3),
            "data_wait": round(reading.data_wait, 4),
            "data_seconds": {part: round(seconds, 4) for part, seconds in reading.data_seconds.items()},
            "skipped_steps": self.skipped,
        }
        if not self.accelerator.is_main_process:
            return
        baseline = self.task.baseline(batch)
        if baseline is not None:
            metrics["baseline"] = baseline
        if measured is not None:
            metrics.update(measured.numbers)
        self.journal.metrics(metrics)
        self.progress.show(metrics)
        if measured is not None:
            self.progress.say(f"validation after step {self.step}: {measured.summary}")
        if self.recipe.report_to:
            times = {f"data_seconds/{part}": value for part, value in metrics.pop("data_seconds").items()}
            numbers = {name: value for name, value in metrics.items() if value is not None and name != "step"}
            self.accelerator.log({**numbers, **times}, step=self.step)

    def _log_bad_videos(self) -> None:
        for line in self.journal.bad_videos(self.step, gather_videos(self.loader.bad_videos)):
            if len(self.journal.bad_paths) <= _SHOWN_BAD_VIDEOS:
                what = f"{line['path']} cannot be decoded ({line['reason']}) and {_FATE[self.recipe.on_bad_video]}"
                self.progress.say(f"warning: {what}; see {report.BAD_VIDEOS_FILE}")

    # Saving and ending.

    def _save(self, *, last: bool) -> None:
        if self._before is not None and self.step in (0, self._saved_step):
            return  # a signal came before another step was done
        with self.clock.stopped():
            checkpoint = self._write_checkpoint()
            if self.publisher is not None and not last and self.accelerator.is_main_process:
                self._write_run("running")
                self.publisher.saved(checkpoint)

    def _write_checkpoint(self) -> Path:
        state = {
            "run_id": self.run_id,
            "task": self.task.name,
            "processes": self.accelerator.num_processes,
            "recipe": self.recipe.identity(),
            "log_samples": self.recipe.log_samples,
            "skipped_steps": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "seconds": self._total_seconds(),
            "clips": self.clips,
            ORIGINS: origins_in(self.task.facts()) if self.accelerator.is_main_process else {},
        }
        checkpoint = write_checkpoint(
            self.output_dir,
            self.step,
            state=state,
            optimizer=self.optimizer,
            save_model=self.task.save,
            stream=self.loader.state_dict() if self._before is None else self._before.stream,
            rank=self.accelerator.process_index,
            together=lambda attempt: together(attempt, RunError),
            keep=self.recipe.keep_checkpoints,
        )
        if self.accelerator.is_main_process:
            report.draw_loss(
                self.output_dir, title=title_of(self.task.name, self.recipe), baseline_name=self.task.baseline_name
            )
        self._saved_step = self.step
        return checkpoint

    def _finish(self, number: int) -> Outcome:
        finished = self.step >= self.schedule.total_steps
        loss, baseline = summary(self.output_dir)
        if not finished:
            saved = self._saved_step is not None
            announce_stop(self.output_dir, number=number, step=self.step, of=self.schedule.total_steps, saved=saved)
            self._write_run("stopped")
        else:
            together(self._write_result, RunError)
        try:
            if finished and number and self.validation is not None:
                say(f"stopped by {name_of(number)}: the test of the saved model is left out; --resume makes up for it")
            elif finished:
                self._test()
        except RunError:
            self._publish(number, finished=True)  # the model is as good as without a test
            raise
        except KeyboardInterrupt:
            if self.publisher is not None and self.accelerator.is_main_process:
                self.publisher.abandon()
            raise
        self.accelerator.wait_for_everyone()
        # The other processes leave: what connects them would not outlast a long wait for the Hub.
        self.accelerator.end_training()
        published = self._publish(number, finished=finished)
        stopped = number and (not finished or self.validation is not None)
        return Outcome(self.step, 128 + number if stopped else published, loss, baseline)

    def _write_result(self) -> None:
        """Write the final model and the record of the run, in the first process."""
        if self.accelerator.is_main_process:
            write_final_model(self.output_dir, self.task.save)
            with writing("a picture", self.output_dir, kind=RunError):
                for written in self.task.finish(self.output_dir):
                    say(f"wrote {written}")
            self._write_run("finished")
            say(
                f"done: {self.step} steps, {self.clips} clips, {self._total_seconds():.0f} s, {self.skipped} steps "
                f"not applied"
            )
            announce_result(
                self.output_dir,
                step=self.step,
                baseline_name=self.task.baseline_name,
                num_workers=self.recipe.num_workers,
            )

    def _publish(self, number: int = 0, *, finished: bool) -> int:
        """How the run ended; an exit code. After a signal, a Hub that does not answer is not waited for."""
        if self.publisher is None or not self.accelerator.is_main_process:
            return 0
        if not finished and self._saved_step is None:
            self.publisher.abandon()
            return 0
        checkpoint = None if finished else self.output_dir / f"checkpoint-{self.step}"
        return self.publisher.ended(self.step, checkpoint, hurry=bool(number))

    def _test(self) -> None:
        """Test the final model, in all processes, once it is there for all of them."""
        if self.validation is not None:
            self.accelerator.wait_for_everyone()
            self.validation.test()

    def _total_seconds(self) -> float:
        return round(self.seconds + time.time() - self._begun, 1)

    def _write_run(self, status: str) -> None:
        if not self.accelerator.is_main_process:
            return
        with writing(report.RUN_FILE, self.output_dir, kind=RunError):
            report.write_json(self.output_dir / report.RUN_FILE, self._record(status))

    def _record(self, status: str) -> dict[str, Any]:
        """Return what `run.json` holds."""
        return {
            "run_id": self.run_id,
            "status": status,
            "task": self.task.name,
            "command": report.command_line(),
            "recipe": self.recipe.as_dict(),
            **self.task.facts(),
            "steps": self.step,
            "total_steps": self.schedule.total_steps,
            "clips": self.clips,
            "skipped_steps": self.skipped,
            "bad_videos": len(self.journal.bad_paths),
            "baseline_is": self.task.baseline_name,
            "learning_rate": self.schedule.peak,
            "started": self._started,
            "seconds": self._total_seconds(),
            "resumed_from": self._resumed_from,
            **run_facts_of(self.output_dir, processes=self.accelerator.num_processes, device=self.accelerator.device),
        }
