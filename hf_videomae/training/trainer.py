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

from .. import provenance, run_files
from ..checkpoint_dir import CheckpointError, checkpoint_source, find_checkpoint, read_state
from ..console import log_main
from ..data.clips import stable_seed
from ..errors import DataError, RunError
from ..filesystem import wrap_write_errors
from ..folder_lock import FolderLock
from ..stop_signals import SignalInterrupt, StopSignal, signal_name
from ..video.decoding import VideoBackendError
from . import loss_curve
from .checkpoints import (
    capture_rng_state,
    load_loader_states,
    load_optimizer_state,
    load_rank_state,
    restore_rng_state,
    save_checkpoint,
    save_final_model,
)
from .distributed import StopSignalChannel
from .lineage_record import LINEAGE_KEY, lineage_fields
from .nonfinite import NonFiniteStep
from .optim import build_optimizer, build_param_groups, clip_grad_norm, set_learning_rate
from .output_dir import prepare_output_dir
from .progress import ProgressBar, ThroughputMeter
from .recipe import RunRecipe
from .run_logger import RunLogger, gather_bad_videos, summary
from .run_setup import (
    Batch,
    RunPublisher,
    Task,
    TrainLoader,
    ValidationResult,
    Validator,
    build_lr_schedule,
    raise_on_all_ranks,
    resolve_run_id,
)
from .run_summary import (
    collect_result_metadata,
    log_recipe_changes,
    log_run_plan,
    log_stop,
    log_train_result,
    loss_curve_title,
)
from .step_snapshot import StepSnapshot
from .train_result import TrainResult

_MAX_SHOWN_BAD_VIDEOS = 3
_BAD_VIDEO_ACTION = {"replace": "is replaced", "skip": "is left out", "raise": "ends the run"}


class Trainer:
    """A training run, ready for its first step.

    Building it checks everything that can be wrong, the first batch included, before anything is written.

    Args:
        recipe: its settings.
        accelerator: from `build_accelerator`.
        model: what is trained.
        task: its loss, and what is written.
        loader: an endless iterable of batches of this process.
        resume: from `resolve_resume_checkpoint`.
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
        loader: TrainLoader,
        resume: Path | None = None,
        lr_scale: Any = None,
        validation: Validator | None = None,
        publisher: RunPublisher | None = None,
    ) -> None:
        self.validation, self.publisher = validation, publisher
        self.run_id = resolve_run_id(recipe, resume) or uuid.uuid4().hex
        self._validation_error: RunError | None = None
        self._data_error: str | None = None
        self.recipe, self.accelerator, self.task, self.loader = recipe, accelerator, task, loader
        self.output_dir = Path(recipe.output_dir)
        self.clips_per_step = recipe.batch_size * recipe.gradient_accumulation * accelerator.num_processes
        self.schedule = build_lr_schedule(
            recipe, global_batch=self.clips_per_step, steps_per_epoch=self._steps_per_epoch()
        )
        self.step, self.skipped_steps, self.skipped_in_a_row, self.seconds = 0, 0, 0, 0.0
        self.clips = 0  # of all processes; batches may be smaller than asked for (--on_bad_video skip)
        self.save_every = recipe.save_every or max(1, min(1000, self.schedule.total_steps // 10))
        with warnings.catch_warnings():
            # torch has a new name for DDP's broadcast_buffers, which Accelerate does not know yet.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = accelerator.prepare_model(model)
        if recipe.compile:
            self.model = torch.compile(self.model)
        groups = build_param_groups(model, weight_decay=recipe.weight_decay, lr_scale=lr_scale)
        fused = accelerator.device.type == "cuda"
        self.optimizer = build_optimizer(groups, betas=recipe.betas, eps=recipe.adam_eps, fused=fused)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.stop, self.throughput = (
            StopSignal(StopSignalChannel() if accelerator.num_processes > 1 else None),
            ThroughputMeter(),
        )
        self._step_snapshot: StepSnapshot | None = None  # of a step that is under way, or was abandoned
        self._last_saved_step: int | None = None
        self._lock: FolderLock | None = None
        log_run_plan(
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
        generators = None if resume is None else self._restore_state(resume)
        self._initial_loader_state = self.loader.state_dict()
        self._batches = iter(self.loader)
        # The first batch shows what is wrong with the data before anything is written. It also starts the workers,
        # which draws from the generators: a resumed run sets them afterwards.
        self._prefetched_batch = None if self._is_done() else self._load_first_batch()
        self._claim_hub_repo()
        self.accelerator.wait_for_everyone()
        if generators is not None:
            restore_rng_state(*generators)
        if not self._is_already_finished():
            self._open_output_dir(resume)
        self.stop.__enter__()  # until now there was nothing to save

    def _load_first_batch(self) -> Batch:
        """The first batch; a process that gets none stops all, and says why in one voice."""
        return raise_on_all_ranks(lambda: next(self._batches), ValueError, OSError, VideoBackendError)

    def _claim_hub_repo(self) -> None:
        """Where the run is published must be free for it."""

        def take() -> None:
            if self.publisher is not None and self.accelerator.is_main_process:
                self.publisher.open(self.run_id)

        if self.recipe.push_to_hub:
            raise_on_all_ranks(take, ValueError, OSError)

    def _is_already_finished(self) -> bool:
        """Whether the last step is done and the run said so: then nothing is touched."""
        return self.step >= self.schedule.total_steps and run_files.read_run_status(self.output_dir) == "finished"

    def _restore_state(self, checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the weights, which the task has loaded; returns the generators' states."""
        state = read_state(checkpoint)
        if state["task"] != self.task.name:
            raise CheckpointError(f"{checkpoint} is of a {state['task']} run, it cannot go on as {self.task.name}")
        load_optimizer_state(checkpoint, self.optimizer)
        self.loader.load_states(load_loader_states(checkpoint, state["processes"]))
        self.step, self.skipped_steps = state["step"], state["skipped_steps"]
        self.skipped_in_a_row, self.seconds = state["skipped_in_a_row"], state["seconds"]
        self.clips = state["clips"]
        log_main(f"resumed from {checkpoint} at step {self.step}")
        log_recipe_changes(
            state,
            self.recipe,
            processes=self.accelerator.num_processes,
            clips_per_step=self.clips_per_step,
            total_steps=self.schedule.total_steps,
        )
        rank = self.accelerator.process_index
        if rank < state["processes"]:
            tensors, values, _ = load_rank_state(checkpoint, rank)
            return tensors, values
        # As a new process is seeded, but not again with the numbers of the first steps.
        set_seed(stable_seed(self.recipe.seed, self.step, rank) % 2**32)
        return capture_rng_state()

    def _open_output_dir(self, resume: Path | None) -> None:
        """Claim the output directory: the first write of the run."""
        raise_on_all_ranks(lambda: self._claim_output_dir(resume), RunError)
        if not self.output_dir.is_dir():
            raise RunError(f"--output_dir {self.output_dir} is not visible to all processes; give a shared directory")
        self.logger = RunLogger(
            self.output_dir,
            rank=self.accelerator.process_index,
            log_samples=self.recipe.log_samples,
            truncate_after=None if resume is None else self.step,
        )
        self._start_time, self._started_at = time.time(), provenance.utc_timestamp()
        self._resumed_from = None if resume is None else checkpoint_source(resume)
        if resume is not None and resume.resolve().parent == self.output_dir.resolve():
            self._last_saved_step = self.step
        self._write_run_record("running")
        if self.recipe.report_to:
            # Trackers take numbers and texts alone.
            plain = {
                name: value for name, value in self.recipe.as_dict().items() if isinstance(value, (int, float, str))
            }
            self.accelerator.init_trackers("hf_videomae", config=plain)

    def _claim_output_dir(self, resume: Path | None) -> None:
        if self.accelerator.is_main_process:
            self._lock = prepare_output_dir(self.output_dir, resume=resume, step=self.step)

    # The loop.

    def train(self) -> TrainResult:
        """Train to the last step, or until a signal asks to stop.

        Raises:
            NotFiniteError: after too many steps in a row whose loss or gradient was not finite.
            RunError: when a validation or the test fails; the training is saved.
        """
        if self._is_already_finished():
            total = self.schedule.total_steps
            log_main(f"nothing to do: step {self.step} of {total} is done; a larger --max_steps goes on")
            self.stop.__exit__()
            self._test()
            return TrainResult(self.step, self._publish(finished=True))
        try:
            return self._finalize(self._train())
        finally:
            if self._lock is not None:
                self._lock.release()

    def _train(self) -> int:
        """Train every step that is left; returns the signal that asked to stop, or 0."""
        self.progress = ProgressBar(self.schedule.total_steps, start=self.step)
        number = 0
        self.throughput.read(self.loader.seconds)
        try:
            while not self._is_done() and not number:
                number = self._train_step()
                if self._data_error is not None:
                    self._stop_on_data_error(self._data_error)
                # In a row of steps that were not applied there is nothing new to save.
                is_due = self.step % self.save_every == 0 and not self.skipped_in_a_row
                if is_due or self._is_done() or number or self._validation_error is not None:
                    self._save_checkpoint(last=self._is_done() or bool(number))
                if self._validation_error is not None:
                    raise self._validation_error
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
            self.logger.flush_bad_videos(self.step + 1, self.loader.bad_videos)
            self._write_run_record("failed")
        if self.publisher is not None and self.accelerator.is_main_process:
            self.publisher.report_unpublished()

    def _stop_on_data_error(self, reason: str) -> None:
        """End the run where a process has no batch, with all steps so far saved; `RunError` in all processes."""
        if not self.skipped_in_a_row:
            self._save_checkpoint(last=False)
        if self._last_saved_step is not None and self._last_saved_step == self.step:
            reason = f"{reason}. {self.output_dir / f'checkpoint-{self.step}'} is saved: --resume goes on from it"
        raise RunError(reason)

    def _is_done(self) -> bool:
        total, stop = self.schedule.total_steps, self.recipe.stop_at_step
        return self.step >= (total if stop is None else min(stop, total))

    def _train_step(self) -> int:
        """One optimizer step; returns the signal that asks to stop, or 0."""
        learning_rate = self.schedule(self.step)
        set_learning_rate(self.optimizer, learning_rate)
        self._step_snapshot = StepSnapshot(
            self.loader.state_dict() if self._prefetched_batch is None else self._initial_loader_state
        )
        loss, sample_ids, batch = self._forward_backward()
        norm = 0.0 if batch is None else clip_grad_norm(self.parameters, clip=self.recipe.clip_grad)
        losses, norm, signals, has_batch = self._gather_metrics(
            loss, norm, clips=len(sample_ids), has_batch=batch is not None
        )
        if batch is None or not has_batch:
            return self._rollback_step(signals)
        self._step_snapshot = None
        mean = sum(losses) / len(losses)
        finite = math.isfinite(mean) and math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.progress.advance()
        self.logger.write_samples(self.step, sample_ids)
        self._handle_nonfinite(finite, losses, norm, sample_ids)
        validation_result = None if signals else self._validate()
        signals = signals or self.stop.number
        if validation_result or self.step % self.recipe.log_every == 0 or self.step == 1 or self._is_done() or signals:
            self._log_metrics(mean, norm, learning_rate, batch, validation_result)
        return signals

    def _rollback_step(self, number: int) -> int:
        """Undo a step for which some process got no batch: a signal ended the wait for it, or the data failed."""
        assert self._step_snapshot is not None
        self.optimizer.zero_grad(set_to_none=True)
        self._step_snapshot.restore_rng_state()
        self._data_error = next(filter(None, gather_object([self._data_error])), None)
        return number

    def _forward_backward(self) -> tuple[Tensor, list[str], Batch | None]:
        """Forward and backward over the accumulated batches: their mean loss, all sample ids, the last batch.

        The batch is None where there is none: the step is not to be applied.
        """
        self.model.train()
        passes, sample_ids = self.recipe.gradient_accumulation, []
        total: Any = 0.0
        for number in range(passes):
            batch = self._next_batch()
            if batch is None:
                return self._dummy_backward(), [], None
            sample_ids += batch["sample_ids"]
            last = number == passes - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.task.loss(self.model, batch) / passes
                self.accelerator.backward(loss)
            total = total + loss.detach().float()
        self.throughput.count(len(sample_ids))
        return total, sample_ids, batch

    def _next_batch(self) -> Batch | None:
        """Return the next batch, on the device; None where a signal ended the wait for it, or the data failed."""
        try:
            with (
                self.throughput.waiting(),
                contextlib.nullcontext() if self._prefetched_batch else self.stop.interruptible(),
            ):
                batch, self._prefetched_batch = self._prefetched_batch or next(self._batches), None
        except SignalInterrupt as stop:
            if stop.is_second_signal:
                raise
            return None
        except (DataError, VideoBackendError) as error:
            self._data_error = str(error)
            return None
        device = self.accelerator.device
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        if self.accelerator.num_processes > 1:
            self._last_batch = moved
        return moved

    def _dummy_backward(self) -> Tensor:
        """Take part in a step that nobody applies: the other processes may be waiting for this one's gradients."""
        if self.accelerator.num_processes == 1:
            return torch.zeros((), device=self.accelerator.device)
        loss = self.task.loss(self.model, self._last_batch)
        self.accelerator.backward(loss)
        return loss.detach().float()

    def _gather_metrics(
        self, loss: Tensor, norm: float, *, clips: int, has_batch: bool
    ) -> tuple[list[float], float, int, bool]:
        """What every process saw: the losses, the gradient norm, the signal that any of them got, and whether all had
        their batches."""
        mine = torch.stack((loss, *loss.new_tensor([self.stop.requested_signal(), norm, clips, has_batch])))
        per_rank = self.accelerator.gather(mine[None]).tolist()
        all_have_batch = all(row[4] for row in per_rank)
        self.clips += int(sum(row[3] for row in per_rank)) if all_have_batch else 0
        norms = [row[2] for row in per_rank]
        number = int(max(row[1] for row in per_rank))
        return [row[0] for row in per_rank], sum(norms) / len(norms), number, all_have_batch

    def _validate(self) -> ValidationResult | None:
        """Measure where it is due; the training after it is the same, bit for bit, as without.

        What cannot be measured ends the run once this step is saved: no training is lost to it.
        """
        last = self.step >= self.schedule.total_steps
        if self.validation is None or not self.validation.is_due(self.step, last=last):
            return None
        generators = capture_rng_state()
        try:
            with self.throughput.stopped():
                return self.validation.validate()
        except SignalInterrupt as stop:
            if stop.is_second_signal:
                raise
            self.stop.number = stop.number  # of another process, it may be
            return None
        except RunError as error:
            remedy = f"checkpoint-{self.step} is saved: mend it, or leave it out, and go on with --resume"
            self._validation_error = RunError(f"the validation after step {self.step} failed: {error}. {remedy}")
            return None
        finally:
            restore_rng_state(*generators)

    # Keeping account.

    def _handle_nonfinite(self, finite: bool, losses: list[float], norm: float, sample_ids: list[str]) -> None:
        """Count and name steps that were not applied.

        Raises:
            NotFiniteError: after `max_nonfinite` in a row, or at the end of a run in which no step was applied.
        """
        if finite:
            self.skipped_in_a_row = 0
            return
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        per_rank = gather_object([{"process": self.accelerator.process_index, "sample_ids": sample_ids}])
        step = NonFiniteStep(self.step, losses, norm, per_rank)
        self.logger.write_nonfinite(step.record())
        self.progress.log_main(step.warning(consecutive=self.skipped_in_a_row, total_skipped=self.skipped_steps))
        nothing_learned = self._is_done() and self.skipped_steps == self.step
        if self.skipped_in_a_row >= self.recipe.max_nonfinite or nothing_learned:
            kept = find_checkpoint("auto", output_dir=self.output_dir) if self.accelerator.is_main_process else None
            raise step.error(self.output_dir, consecutive=self.skipped_in_a_row, kept=kept)

    def _log_metrics(
        self,
        loss: float,
        norm: float,
        learning_rate: float,
        batch: Batch,
        validation_result: ValidationResult | None = None,
    ) -> None:
        """A line of metrics.jsonl, to the trackers and to the user."""
        self._log_bad_videos()
        reading = self.throughput.read(self.loader.seconds)
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
            "skipped_steps": self.skipped_steps,
        }
        if not self.accelerator.is_main_process:
            return
        baseline = self.task.baseline(batch)
        if baseline is not None:
            metrics["baseline"] = baseline
        if validation_result is not None:
            metrics.update(validation_result.numbers)
        self.logger.metrics(metrics)
        self.progress.show(metrics)
        if validation_result is not None:
            self.progress.log_main(f"validation after step {self.step}: {validation_result.summary}")
        if self.recipe.report_to:
            times = {f"data_seconds/{part}": value for part, value in metrics.pop("data_seconds").items()}
            numbers = {name: value for name, value in metrics.items() if value is not None and name != "step"}
            self.accelerator.log({**numbers, **times}, step=self.step)

    def _log_bad_videos(self) -> None:
        for line in self.logger.bad_videos(self.step, gather_bad_videos(self.loader.bad_videos)):
            if len(self.logger.bad_video_paths) <= _MAX_SHOWN_BAD_VIDEOS:
                what = f"{line['path']} cannot be decoded ({line['reason']}) and {_BAD_VIDEO_ACTION[self.recipe.on_bad_video]}"
                self.progress.log_main(f"warning: {what}; see {run_files.BAD_VIDEOS_FILE}")

    # Saving and ending.

    def _save_checkpoint(self, *, last: bool) -> None:
        if self._step_snapshot is not None and self.step in (0, self._last_saved_step):
            return  # a signal came before another step was done
        with self.throughput.stopped():
            checkpoint = self._write_checkpoint()
            if self.publisher is not None and not last and self.accelerator.is_main_process:
                self._write_run_record("running")
                self.publisher.saved(checkpoint)

    def _write_checkpoint(self) -> Path:
        state = {
            "run_id": self.run_id,
            "task": self.task.name,
            "processes": self.accelerator.num_processes,
            "recipe": self.recipe.numeric_settings(),
            "log_samples": self.recipe.log_samples,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "seconds": self._total_seconds(),
            "clips": self.clips,
            LINEAGE_KEY: lineage_fields(self.task.run_metadata()) if self.accelerator.is_main_process else {},
        }
        checkpoint = save_checkpoint(
            self.output_dir,
            self.step,
            state=state,
            optimizer=self.optimizer,
            save_model=self.task.save,
            stream=self.loader.state_dict() if self._step_snapshot is None else self._step_snapshot.stream,
            rank=self.accelerator.process_index,
            raise_on_all_ranks=lambda attempt: raise_on_all_ranks(attempt, RunError),
            keep=self.recipe.keep_checkpoints,
        )
        if self.accelerator.is_main_process:
            loss_curve.plot_loss_curve(
                self.output_dir,
                title=loss_curve_title(self.task.name, self.recipe),
                baseline_name=self.task.baseline_name,
            )
        self._last_saved_step = self.step
        return checkpoint

    def _finalize(self, number: int) -> TrainResult:
        finished = self.step >= self.schedule.total_steps
        loss, baseline = summary(self.output_dir)
        if not finished:
            saved = self._last_saved_step is not None
            log_stop(self.output_dir, number=number, step=self.step, of=self.schedule.total_steps, saved=saved)
            self._write_run_record("stopped")
        else:
            raise_on_all_ranks(self._save_final_model, RunError)
        try:
            if finished and number and self.validation is not None:
                log_main(
                    f"stopped by {signal_name(number)}: the test of the saved model is left out; --resume makes up for it"
                )
            elif finished:
                self._test()
        except RunError:
            self._publish(number, finished=True)  # the model is as good as without a test
            raise
        except KeyboardInterrupt:
            if self.publisher is not None and self.accelerator.is_main_process:
                self.publisher.report_unpublished()
            raise
        self.accelerator.wait_for_everyone()
        # The other processes leave: what connects them would not outlast a long wait for the Hub.
        self.accelerator.end_training()
        published = self._publish(number, finished=finished)
        stopped = number and (not finished or self.validation is not None)
        return TrainResult(self.step, 128 + number if stopped else published, loss, baseline)

    def _save_final_model(self) -> None:
        """Write the final model and the record of the run, in the first process."""
        if self.accelerator.is_main_process:
            save_final_model(self.output_dir, self.task.save)
            with wrap_write_errors("a picture", self.output_dir, kind=RunError):
                for written in self.task.finalize_output(self.output_dir):
                    log_main(f"wrote {written}")
            self._write_run_record("finished")
            log_main(
                f"done: {self.step} steps, {self.clips} clips, {self._total_seconds():.0f} s, {self.skipped_steps} steps "
                f"not applied"
            )
            log_train_result(
                self.output_dir,
                step=self.step,
                baseline_name=self.task.baseline_name,
                num_workers=self.recipe.num_workers,
            )

    def _publish(self, number: int = 0, *, finished: bool) -> int:
        """How the run ended; an exit code. After a signal, a Hub that does not answer is not waited for."""
        if self.publisher is None or not self.accelerator.is_main_process:
            return 0
        if not finished and self._last_saved_step is None:
            self.publisher.report_unpublished()
            return 0
        checkpoint = None if finished else self.output_dir / f"checkpoint-{self.step}"
        return self.publisher.publish_final(self.step, checkpoint, is_interrupted=bool(number))

    def _test(self) -> None:
        """Test the final model, in all processes, once it is there for all of them."""
        if self.validation is not None:
            self.accelerator.wait_for_everyone()
            self.validation.test()

    def _total_seconds(self) -> float:
        return round(self.seconds + time.time() - self._start_time, 1)

    def _write_run_record(self, status: str) -> None:
        if not self.accelerator.is_main_process:
            return
        with wrap_write_errors(run_files.RUN_FILE, self.output_dir, kind=RunError):
            run_files.write_json(self.output_dir / run_files.RUN_FILE, self._run_record(status))

    def _run_record(self, status: str) -> dict[str, Any]:
        """Return what `run.json` holds."""
        return {
            "run_id": self.run_id,
            "status": status,
            "task": self.task.name,
            "command": provenance.redacted_command_line(),
            "recipe": self.recipe.as_dict(),
            **self.task.run_metadata(),
            "steps": self.step,
            "total_steps": self.schedule.total_steps,
            "clips": self.clips,
            "skipped_steps": self.skipped_steps,
            "bad_videos": len(self.logger.bad_video_paths),
            "baseline_is": self.task.baseline_name,
            "learning_rate": self.schedule.peak,
            "started": self._started_at,
            "seconds": self._total_seconds(),
            "resumed_from": self._resumed_from,
            **collect_result_metadata(
                self.output_dir, processes=self.accelerator.num_processes, device=self.accelerator.device
            ),
        }
