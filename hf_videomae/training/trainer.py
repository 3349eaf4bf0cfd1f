"""Train a model on a task under Accelerate: one loop of optimizer steps, with checkpoints and exact resume.

A `Task` defines the model, its loss and what is saved. The `Trainer` does what every training needs: accumulation, the
learning-rate schedule, losses that are not finite, checkpoints, stop signals, logs. All processes take the same
decisions: whatever may differ between them (a loss, a signal) is gathered in every step.
"""

import contextlib
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device, set_seed
from torch import Tensor, nn

from .. import run_files
from ..checkpoint_dir import CheckpointError, read_state
from ..console import log_main
from ..data.clips import stable_seed
from ..errors import DataError, RunError
from ..filesystem import wrap_write_errors
from ..folder_lock import FolderLock
from ..publishing.background import BackgroundPublisher
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
from .distributed import StopSignalChannel, raise_on_all_ranks
from .nonfinite import NonFiniteGuard
from .optim import build_lr_schedule, build_optimizer, build_param_groups, clip_grad_norm, set_learning_rate
from .recipe import RunRecipe
from .resume import prepare_output_dir, resolve_run_id
from .run_logger import RunLogger
from .run_record import RunRecord, final_loss_and_baseline
from .run_summary import log_recipe_changes, log_run_plan, log_stop, log_train_result, loss_curve_title
from .step_snapshot import StepSnapshot
from .task import Batch, Task, TrainLoader, ValidationResult, Validator
from .train_state import TrainState, gather_step_stats


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: the last step done.
        exit_code: 0, or 128 + the signal that stopped it.
        loss: the mean of the last logged losses.
        baseline: the mean of the task's baseline.
    """

    step: int
    exit_code: int
    loss: float | None = None
    baseline: float | None = None


class Trainer:
    """Train a task from its first step, or from a checkpoint, to its last step.

    `setup` finds what can be wrong, including the first batch, before anything is written; `train` does the rest.

    Args:
        recipe: settings of the run.
        accelerator: from `build_accelerator`.
        model: the model to train.
        task: its loss, and what is saved.
        loader: an endless iterable of the batches of this process.
        resume: from `resolve_resume_checkpoint`.
        lr_scale: parameter name -> factor on its learning rate (layer-wise decay).
        validator: measures the model on other data, if given.
        publisher: publishes the run on the Hub, if given.
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
        lr_scale: Callable[[str], float] | None = None,
        validator: Validator | None = None,
        publisher: BackgroundPublisher | None = None,
    ) -> None:
        self.recipe, self.accelerator, self.task, self.loader = recipe, accelerator, task, loader
        self.resume, self.validator = resume, validator
        self.publisher = publisher if accelerator.is_main_process else None
        self.output_dir = Path(recipe.output_dir)
        self.run_id = resolve_run_id(recipe, resume) or uuid.uuid4().hex
        self.state = TrainState()

        batches, clips_per_step = loader.steps_per_epoch, recipe.clips_per_step(accelerator.num_processes)
        self.steps_per_epoch = None if batches is None else max(1, batches // recipe.gradient_accumulation)
        self.schedule = build_lr_schedule(recipe, global_batch=clips_per_step, steps_per_epoch=self.steps_per_epoch)
        self.total_steps = self.schedule.total_steps
        self.save_every = recipe.save_every or max(1, min(1000, self.total_steps // 10))

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

        self.stop = StopSignal(StopSignalChannel() if accelerator.num_processes > 1 else None)
        self._is_set_up, self._was_finished = False, False
        self._lock: FolderLock | None = None
        self._prefetched_batch: Batch | None = None
        self._snapshot: StepSnapshot | None = None  # of a step that has begun, or was rolled back
        self._last_saved_step: int | None = None
        self._data_error: str | None = None
        self._validation_error: RunError | None = None

    # Before the first step.

    def setup(self) -> None:
        """Restore the state to resume from, load the first batch, and claim the output folder: the first write.

        From here on a stop signal ends the run with a checkpoint.

        Raises:
            ValueError: for data, a checkpoint or a Hub repository that cannot be used; nothing is written then.
            OSError: likewise.
            VideoBackendError: if no video can be decoded on this machine.
        """
        log_run_plan(
            self.recipe,
            schedule=self.schedule,
            steps_per_epoch=self.steps_per_epoch,
            processes=self.accelerator.num_processes,
            device=self.accelerator.device,
        )
        rng_state = None if self.resume is None else self._restore_state(self.resume)
        self._initial_loader_state = self.loader.state_dict()
        self._batches = iter(self.loader)
        # The first batch shows what is wrong with the data before anything is written. It also starts the workers,
        # which draws from the random generators: a resumed run restores them afterwards.
        if not self._is_done():
            self._prefetched_batch = raise_on_all_ranks(
                lambda: next(self._batches), ValueError, OSError, VideoBackendError
            )
        if self.recipe.push_to_hub:
            raise_on_all_ranks(self._claim_hub_repo, ValueError, OSError)
        self.accelerator.wait_for_everyone()
        if rng_state is not None:
            restore_rng_state(*rng_state)
        # Nothing is touched if the last step is done and `run.json` says so.
        is_last_step_done = self.state.step >= self.total_steps
        self._was_finished = is_last_step_done and run_files.read_run_status(self.output_dir) == "finished"
        if not self._was_finished:
            self._open_output_dir()
        self.stop.__enter__()  # until now there was nothing to save
        self._is_set_up = True

    def _restore_state(self, checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Restore everything but the weights, which the task has loaded; return the state of the random generators."""
        saved = read_state(checkpoint)
        if saved["task"] != self.task.name:
            raise CheckpointError(f"{checkpoint} is of a {saved['task']} run, it cannot continue as {self.task.name}")
        load_optimizer_state(checkpoint, self.optimizer)
        self.loader.load_states(load_loader_states(checkpoint, saved["processes"]))
        self.state = TrainState.from_checkpoint(saved)
        log_main(f"resumed from {checkpoint} at step {self.state.step}")
        processes = self.accelerator.num_processes
        log_recipe_changes(saved, self.recipe, processes=processes, total_steps=self.total_steps)
        rank = self.accelerator.process_index
        if rank < saved["processes"]:
            return load_rank_state(checkpoint, rank)
        # A rank that the checkpoint does not know gets a seed of its own, but not that of the first steps again.
        set_seed(stable_seed(self.recipe.seed, self.state.step, rank) % 2**32)
        return capture_rng_state()

    def _claim_hub_repo(self) -> None:
        if self.publisher is not None:
            self.publisher.start(self.run_id)

    def _open_output_dir(self) -> None:
        """Claim the output folder, and open the files that the run writes."""
        is_main, step = self.accelerator.is_main_process, self.state.step
        self._lock = raise_on_all_ranks(
            lambda: prepare_output_dir(self.output_dir, resume=self.resume, step=step) if is_main else None, RunError
        )
        if not self.output_dir.is_dir():
            raise RunError(f"--output_dir {self.output_dir} is not visible to all processes; give a shared directory")
        self.logger = RunLogger(
            self.recipe,
            accelerator=self.accelerator,
            task=self.task,
            loader=self.loader,
            steps_per_epoch=self.steps_per_epoch,
            truncate_after=None if self.resume is None else self.state.step,
        )
        self.record = RunRecord(
            self.recipe,
            accelerator=self.accelerator,
            task=self.task,
            run_id=self.run_id,
            schedule=self.schedule,
            resume=self.resume,
        )
        if self.resume is not None and self.resume.resolve().parent == self.output_dir.resolve():
            self._last_saved_step = self.state.step
        self.guard = NonFiniteGuard(
            self.state, logger=self.logger, output_dir=self.output_dir, max_in_a_row=self.recipe.max_nonfinite
        )
        self._write_record("running")
        if self.recipe.report_to:
            # Trackers accept only numbers and strings.
            settings = self.recipe.as_dict().items()
            plain = {name: value for name, value in settings if isinstance(value, (int, float, str))}
            self.accelerator.init_trackers("hf_videomae", config=plain)

    # The loop.

    def train(self) -> TrainResult:
        """Train to the last step, or until a signal asks to stop; then save, test and publish.

        Raises:
            NonFiniteError: after too many steps in a row whose loss or gradient was not finite.
            RunError: if a validation or the test fails; the training is saved.
        """
        if not self._is_set_up:
            self.setup()
        if self._was_finished:
            return self._test_again()
        signal_number = 0
        try:
            self.logger.start(total_steps=self.total_steps, step=self.state.step)
            try:
                while not self._is_done() and not signal_number:
                    signal_number = self._train_step()
                    if self._data_error is not None:
                        self._stop_on_data_error(self._data_error)
                    # After steps that were not applied there is nothing new to save.
                    is_due = self.state.step % self.save_every == 0 and not self.state.skipped_in_a_row
                    if is_due or self._is_done() or signal_number or self._validation_error is not None:
                        self._save_checkpoint(last=self._is_done() or bool(signal_number))
                    if self._validation_error is not None:
                        raise self._validation_error
            except BaseException:
                # Do not notify the other processes: they may be in any part of the program.
                self._record_failure()
                raise
            finally:
                self._batches = iter(())  # end the workers now, and not in whatever order the interpreter ends
                self.logger.progress.close()
                self.stop.__exit__()
            return self._finalize(signal_number)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _train_step(self) -> int:
        """Do one optimizer step; return the signal that asked to stop, or 0."""
        recipe, state = self.recipe, self.state
        learning_rate = self.schedule(state.step)
        set_learning_rate(self.optimizer, learning_rate)
        self._snapshot = StepSnapshot(
            self.loader.state_dict() if self._prefetched_batch is None else self._initial_loader_state
        )
        self.model.train()
        total, sample_ids = torch.zeros((), device=self.accelerator.device), []
        for passes_left in reversed(range(recipe.gradient_accumulation)):
            batch = self._next_batch()
            if batch is None:
                total = self._dummy_backward()
                break
            sample_ids += batch["sample_ids"]
            with self.accelerator.no_sync(self.model) if passes_left else contextlib.nullcontext():
                loss = self.task.loss(self.model, batch) / recipe.gradient_accumulation
                self.accelerator.backward(loss)
            total = total + loss.detach().float()
        stats = gather_step_stats(
            self.accelerator,
            total,
            grad_norm=0.0 if batch is None else clip_grad_norm(self.parameters, clip=recipe.clip_grad),
            clips=len(sample_ids),
            signal_number=self.stop.requested_signal(),
            has_batch=batch is not None,
        )
        if batch is None or not stats.all_have_batch:
            self._rollback_step(self._snapshot)
            return stats.signal_number
        self._snapshot = None

        if stats.is_finite:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.clips += stats.clips
        self.logger.count_step(state.step, sample_ids)
        self.guard.check(stats, sample_ids, rank=self.accelerator.process_index, last=self._is_done())
        validation = None if stats.signal_number else self._validate()
        signal_number = stats.signal_number or self.stop.number
        is_logged = state.step % recipe.log_every == 0 or state.step == 1
        if is_logged or validation or self._is_done() or signal_number:
            self.logger.log_step(state, stats, learning_rate=learning_rate, batch=batch, validation=validation)
        return signal_number

    def _next_batch(self) -> Batch | None:
        """Return the next batch, on the device; None if a signal ended the wait for it, or the data failed."""
        try:
            with (
                self.logger.throughput.waiting(),
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
        moved: Batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
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

    def _rollback_step(self, snapshot: StepSnapshot) -> None:
        """Undo a step for which a process got no batch: a signal ended the wait for it, or the data failed."""
        self.optimizer.zero_grad(set_to_none=True)
        snapshot.restore_rng_state()
        self._data_error = next(filter(None, gather_object([self._data_error])), None)

    def _validate(self) -> ValidationResult | None:
        """Validate if it is due. The training after it is the same, bit for bit, as without it.

        A failure ends the run only after this step is saved, so that no training is lost.
        """
        last = self.state.step >= self.total_steps
        if self.validator is None or not self.validator.is_due(self.state.step, last=last):
            return None
        rng_state = capture_rng_state()
        try:
            with self.logger.throughput.paused():
                return self.validator.validate()
        except SignalInterrupt as stop:
            if stop.is_second_signal:
                raise
            self.stop.number = stop.number  # another process may have got it
            return None
        except RunError as error:
            remedy = f"checkpoint-{self.state.step} is saved: fix it, or leave it out, and continue with --resume"
            self._validation_error = RunError(f"the validation after step {self.state.step} failed: {error}. {remedy}")
            return None
        finally:
            restore_rng_state(*rng_state)

    def _is_done(self) -> bool:
        stop = self.recipe.stop_at_step
        return self.state.step >= (self.total_steps if stop is None else min(stop, self.total_steps))

    # Checkpoints and failures.

    def _save_checkpoint(self, *, last: bool) -> None:
        if self._snapshot is not None and self.state.step in (0, self._last_saved_step):
            return  # a signal came before another step was done
        with self.logger.throughput.paused():
            checkpoint = save_checkpoint(
                self.output_dir,
                self.state.step,
                state=self.record.checkpoint_state(self.state),
                optimizer=self.optimizer,
                save_model=self.task.save,
                stream=self.loader.state_dict() if self._snapshot is None else self._snapshot.stream,
                rank=self.accelerator.process_index,
                keep=self.recipe.keep_checkpoints,
            )
            if self.accelerator.is_main_process:
                loss_curve.plot_loss_curve(
                    self.output_dir,
                    title=loss_curve_title(self.task.name, self.recipe),
                    baseline_name=self.task.baseline_name,
                )
            self._last_saved_step = self.state.step
            if self.publisher is not None and not last:
                self._write_record("running")
                self.publisher.publish_checkpoint(checkpoint)

    def _stop_on_data_error(self, reason: str) -> None:
        """Save the steps done so far, and end the run in all processes, if one of them got no batch.

        Raises:
            RunError: always.
        """
        if not self.state.skipped_in_a_row:
            self._save_checkpoint(last=False)
        if self._last_saved_step is not None and self._last_saved_step == self.state.step:
            checkpoint = self.output_dir / f"checkpoint-{self.state.step}"
            reason = f"{reason}. {checkpoint} is saved: continue from it with --resume"
        raise RunError(reason)

    def _record_failure(self) -> None:
        # A full disk that ended the run may refuse this too: that error is reported already.
        with contextlib.suppress(RunError):
            self.logger.flush_bad_videos(self.state.step + 1)
            self._write_record("failed")
        if self.publisher is not None:
            self.publisher.report_unpublished()

    def _write_record(self, status: str) -> None:
        self.record.write(status, self.state, num_bad_videos=len(self.logger.bad_video_paths))

    # After the last step.

    def _finalize(self, signal_number: int) -> TrainResult:
        """Save, test and publish what was trained."""
        finished = self.state.step >= self.total_steps
        loss, baseline = final_loss_and_baseline(self.output_dir)
        if finished:
            raise_on_all_ranks(self._save_final_model, RunError)
            self._test_final_model(signal_number)
        else:
            log_stop(
                self.output_dir,
                signal_number=signal_number,
                step=self.state.step,
                total_steps=self.total_steps,
                saved=self._last_saved_step is not None,
            )
            self._write_record("stopped")
        self.accelerator.wait_for_everyone()
        # The other processes leave: the connection between them would not outlast a long wait for the Hub.
        self.accelerator.end_training()
        published = self._publish(signal_number, finished=finished)
        is_incomplete = not finished or self.validator is not None
        exit_code = 128 + signal_number if signal_number and is_incomplete else published
        return TrainResult(self.state.step, exit_code, loss, baseline)

    def _save_final_model(self) -> None:
        """Write the final model and the record of the run, in the main process."""
        if not self.accelerator.is_main_process:
            return
        save_final_model(self.output_dir, self.task.save)
        with wrap_write_errors("an image", self.output_dir, kind=RunError):
            for path in self.task.finalize_output(self.output_dir):
                log_main(f"wrote {path}")
        self._write_record("finished")
        state = self.state
        log_main(
            f"done: {state.step} steps, {state.clips} clips, {self.record.total_seconds(state):.0f} s, "
            f"{state.skipped_steps} steps not applied"
        )
        log_train_result(
            self.output_dir,
            step=state.step,
            baseline_name=self.task.baseline_name,
            num_workers=self.recipe.num_workers,
        )

    def _test_final_model(self, signal_number: int) -> None:
        try:
            if signal_number and self.validator is not None:
                log_main(
                    f"stopped by {signal_name(signal_number)}: the test of the saved model is left out; run it with "
                    f"--resume"
                )
            else:
                self._test()
        except RunError:
            self._publish(signal_number, finished=True)  # the model is as good as without a test
            raise
        except KeyboardInterrupt:
            if self.publisher is not None:
                self.publisher.report_unpublished()
            raise

    def _test_again(self) -> TrainResult:
        """Test and publish a run whose last step was done before."""
        log_main(
            f"nothing to do: step {self.state.step} of {self.total_steps} is done; give a larger --max_steps to "
            f"continue"
        )
        self.stop.__exit__()
        self._test()
        return TrainResult(self.state.step, self._publish(finished=True))

    def _test(self) -> None:
        """Test the final model in all processes, once all of them can read it."""
        if self.validator is not None:
            self.accelerator.wait_for_everyone()
            self.validator.test()

    def _publish(self, signal_number: int = 0, *, finished: bool) -> int:
        """Publish how the run ended; return the exit code. After a signal, a Hub that is silent is not waited for."""
        if self.publisher is None:
            return 0
        if not finished and self._last_saved_step is None:
            self.publisher.report_unpublished()
            return 0
        checkpoint = None if finished else self.output_dir / f"checkpoint-{self.state.step}"
        return self.publisher.publish_final(self.state.step, checkpoint, is_interrupted=bool(signal_number))
