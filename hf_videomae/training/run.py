"""The run: one loop of optimizer steps under Accelerate, for whatever task.

What is trained, on what, and what its loss is comes in a `Task`; here is what every training needs: accumulation, the
schedule, losses that are not finite, checkpoints, exact resume, signals, logs. All processes take the same decisions:
what may differ between them (a loss, a signal) is gathered every step.
"""

import contextlib
import math
import shutil
import time
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn

from ..cards import public_path
from ..data.collate import stable_seed
from ..video.decoding import VideoBackendError
from . import report
from .checkpoints import (
    CheckpointError,
    find_checkpoint,
    generator_state,
    list_checkpoints,
    load_optimizer,
    load_rank,
    load_streams,
    origin_of,
    read_state,
    restore_generators,
    run_id_of,
    step_of,
    write_checkpoint,
)
from .errors import RunError, say
from .journal import Journal, best_validation, data_times, gather_videos, summary
from .optim import build_optimizer, parameter_groups, set_learning_rate
from .origins import ORIGINS, origins_in
from .preparation import (
    Batch,
    Loader,
    Measured,
    Publisher,
    Task,
    Validation,
    describe_work,
    earlier_files,
    holds_another_run,
    plan_schedule,
    together,
)
from .progress import Clock, Progress, hdr_notes, tell_data
from .recipes import RunRecipe, changes
from .signals import StopSignal, name_of

_SHOWN_BAD_VIDEOS = 3
_FATE = {"replace": "is replaced", "skip": "is left out", "raise": "ends the run"}
_CLIPS_PER_STEP = ("batch_size", "gradient_accumulation")


class NotFiniteError(RunError):
    """Too many losses or gradients in a row were not finite."""


@dataclass(frozen=True)
class Outcome:
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
        self.run_id = run_id_of(resume) or uuid.uuid4().hex
        self._fault: RunError | None = None
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
        self.stop, self.clock = StopSignal(), Clock()
        self._announce()
        self._start(resume)

    # Starting.

    def _steps_per_epoch(self) -> int | None:
        batches = self.loader.steps_per_epoch
        return None if batches is None else max(1, batches // self.recipe.gradient_accumulation)

    def _announce(self) -> None:
        recipe, schedule, per_epoch = self.recipe, self.schedule, self._steps_per_epoch()
        epochs = "" if per_epoch is None else f", {schedule.total_steps / per_epoch:.1f} epochs of {per_epoch} steps"
        say(f"{schedule.total_steps} steps{epochs}, warm-up {schedule.warmup_steps} steps")
        clips, processes = self.clips_per_step, self.accelerator.num_processes
        shares = f"{recipe.batch_size} x {recipe.gradient_accumulation} accumulated x {processes} processes"
        rate = f"{recipe.base_lr:g} x {clips} / 256 = {schedule.peak:.4g}, floor {schedule.floor:.3g}"
        say(f"{clips} clips per step ({shares}), learning rate {rate}")
        for line in describe_work(recipe, device=self.accelerator.device):
            say(line)
        if recipe.tuned_batch is not None and clips < recipe.tuned_batch / 2:
            passes = math.ceil(recipe.gradient_accumulation * recipe.tuned_batch / clips)
            say(
                f"warning: this recipe was made for {recipe.tuned_batch} clips per step; {clips} will not reach "
                f"its number, --gradient_accumulation {passes} makes up for it"
            )

    def _start(self, resume: Path | None) -> None:
        generators = None if resume is None else self._restore(resume)
        self.stop.__enter__()
        try:
            self._batches = iter(self.loader)
            # The first batch shows what is wrong with the data before anything is written. It also starts the workers,
            # which draws from the generators: a resumed run sets them afterwards.
            self._fetched = None if self._over() else self._first_batch()
            self._take_repository()
        except BaseException:
            self.stop.__exit__()
            raise
        self.accelerator.wait_for_everyone()
        if generators is not None:
            restore_generators(*generators)
        if not self._finished_before():
            self._open_files(resume)

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
        self._tell_changes(state)
        rank = self.accelerator.process_index
        if rank < state["processes"]:
            tensors, values, _ = load_rank(checkpoint, rank)
            return tensors, values
        # As a new process is seeded, but not again with the numbers of the first steps.
        set_seed(stable_seed(self.recipe.seed, self.step, rank) % 2**32)
        return generator_state()

    def _tell_changes(self, state: dict[str, Any]) -> None:
        """What of a resumed run is not as it was."""
        recipe, processes = state["recipe"], self.accelerator.num_processes
        clips = recipe["batch_size"] * recipe["gradient_accumulation"] * state["processes"]
        different = changes(recipe, self.recipe.identity())
        if processes != state["processes"]:
            say(
                f"note: {processes} {'process goes' if processes == 1 else 'processes go'} on where "
                f"{state['processes']} stood: no sample is left out or repeated, but drop path, dropout and mixup "
                f"draw other numbers"
            )
            if clips == self.clips_per_step:
                # Another way to the same number of clips.
                different = {name: pair for name, pair in different.items() if name not in _CLIPS_PER_STEP}
        if clips != self.clips_per_step:
            keeping = f"; --batch_size {clips // processes} keeps all of it" if clips % processes == 0 else ""
            say(
                f"note: a step had {clips} clips and has {self.clips_per_step} from here on, in "
                f"{self.schedule.total_steps} steps in all, and the learning rate goes with it"
                + (keeping if self.recipe.gradient_accumulation == 1 else "")
            )
        for name, (before, after) in different.items():
            say(f"note: {name} was {before} and is {after} from here on: this is not the run that was interrupted")

    def _open_files(self, resume: Path | None) -> None:
        """Claim the output directory: the first write of the run."""
        if self.accelerator.is_main_process:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            anew = resume is None or holds_another_run(self.output_dir, resume)
            gone = earlier_files(self.output_dir) if anew else self._later_checkpoints()
            for path in gone:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            # Those of processes that are no more have no other keeper.
            for path in self.output_dir.glob("samples-*.jsonl"):
                report.JsonLines(path, keep_until=self.step)
        self.accelerator.wait_for_everyone()
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
        self._write_run("running")
        if self.recipe.report_to:
            # Trackers take numbers and texts alone.
            plain = {
                name: value for name, value in self.recipe.as_dict().items() if isinstance(value, (int, float, str))
            }
            self.accelerator.init_trackers("hf_videomae", config=plain)

    def _later_checkpoints(self) -> list[Path]:
        return [path for path in list_checkpoints(self.output_dir) if (step_of(path) or 0) > self.step]

    # The loop.

    def train(self) -> Outcome:
        """Train to the last step, or until a signal asks to stop.

        Raises:
            NotFiniteError: after too many steps in a row whose loss or gradient was not finite.
            RunError: when a validation or the test fails; the training is saved.
        """
        if self._finished_before():
            say(
                f"nothing to do: step {self.step} of {self.schedule.total_steps} is done; a larger --max_steps goes on"
            )
            self.stop.__exit__()
            self._test()
            return Outcome(self.step, self._publish(finished=True))
        self.progress = Progress(self.schedule.total_steps, start=self.step)
        number = 0
        self.clock.read(self.loader.seconds)
        try:
            while not self._over() and not number:
                number = self._one_step()
                # In a row of steps that were not applied there is nothing new to save.
                due = self.step % self.save_every == 0 and not self.skipped_in_a_row
                if due or self._over() or number or self._fault is not None:
                    self._save(last=self._over() or bool(number))
                if self._fault is not None:
                    raise self._fault
        except BaseException:
            # Without a word to the other processes, which may be anywhere.
            self.journal.last_words(self.step + 1, self.loader.bad_videos)
            self._write_run("failed")
            if self.publisher is not None and self.accelerator.is_main_process:
                self.publisher.abandon()
            raise
        finally:
            self._batches = iter(())  # the workers go here, not in whatever order the interpreter ends
            self.progress.close()
            self.stop.__exit__()
        return self._finish(number)

    def _over(self) -> bool:
        total, stop = self.schedule.total_steps, self.recipe.stop_at_step
        return self.step >= (total if stop is None else min(stop, total))

    def _one_step(self) -> int:
        """One optimizer step; returns the signal that asks to stop, or 0."""
        learning_rate = self.schedule(self.step)
        set_learning_rate(self.optimizer, learning_rate)
        loss, sample_ids, batch = self._accumulate()
        norm = self._gradient_norm()
        losses, norm, signals = self._agree(loss, norm, clips=len(sample_ids))
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
        if measured or self.step % self.recipe.log_every == 0 or self.step == 1 or self._over() or signals:
            self._log(mean, norm, learning_rate, batch, measured)
        return signals

    def _accumulate(self) -> tuple[Tensor, list[str], Batch]:
        """Forward and backward over the accumulated batches: their mean loss, all sample ids, the last batch."""
        self.model.train()
        passes, sample_ids = self.recipe.gradient_accumulation, []
        total: Any = 0.0
        for number in range(passes):
            batch = self._next_batch()
            sample_ids += batch["sample_ids"]
            last = number == passes - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.task.loss(self.model, batch) / passes
                self.accelerator.backward(loss)
            total = total + loss.detach().float()
        self.clock.count(len(sample_ids))
        return total, sample_ids, batch

    def _next_batch(self) -> Batch:
        with self.clock.waiting():
            batch, self._fetched = self._fetched or next(self._batches), None
        device = self.accelerator.device
        return {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    def _gradient_norm(self) -> float:
        if self.recipe.clip_grad is not None:
            return float(torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_grad))
        return float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    def _agree(self, loss: Tensor, norm: float, *, clips: int) -> tuple[list[float], float, int]:
        """What every process saw: the losses, the gradient norm, and the signal that any of them got."""
        mine = torch.stack((loss, *loss.new_tensor([self.stop.asked(), norm, clips])))
        everyone = self.accelerator.gather(mine[None]).tolist()
        self.clips += int(sum(row[3] for row in everyone))
        norms = [row[2] for row in everyone]
        return [row[0] for row in everyone], sum(norms) / len(norms), int(max(row[1] for row in everyone))

    def _validate(self) -> Measured | None:
        """Measure where it is due. The training after it is the same, bit for bit, as without.

        What cannot be measured ends the run once this step is saved: no training is lost to it.
        """
        last = self.step >= self.schedule.total_steps
        if self.validation is None or not self.validation.due(self.step, last=last):
            return None
        generators = generator_state()
        try:
            with self.clock.stopped():
                return self.validation.measure()
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
            NotFiniteError: after `max_nonfinite` in a row.
        """
        if finite:
            self.skipped_in_a_row = 0
            return
        self.skipped += 1
        self.skipped_in_a_row += 1
        everyone = gather_object([{"process": self.accelerator.process_index, "sample_ids": sample_ids}])
        what = "loss" if not all(map(math.isfinite, losses)) else "gradient"
        culprits = [row for row in everyone if not math.isfinite(losses[row["process"]])] or everyone
        numbers = {"losses": [repr(loss) for loss in losses], "grad_norm": repr(norm)}
        self.journal.not_finite({"step": self.step, "what": what, **numbers, "samples": culprits})
        count = f"{self.skipped_in_a_row} in a row, {self.skipped} in all"
        self.progress.say(
            f"warning: step {self.step}: the {what} is not finite and was not applied ({count}); "
            f"{report.NOT_FINITE_FILE} has its samples, the first is {culprits[0]['sample_ids'][0]}"
        )
        if self.skipped_in_a_row >= self.recipe.max_nonfinite:
            kept = find_checkpoint("auto", output_dir=self.output_dir) if self.accelerator.is_main_process else None
            raise NotFiniteError(
                f"the {what} was not finite in {self.skipped_in_a_row} steps in a row, up to step {self.step}; "
                f"{'no checkpoint was written yet' if kept is None else f'{kept} is intact'}. Try a lower --base_lr, "
                f"--clip_grad 1, or look at the samples in {self.output_dir / report.NOT_FINITE_FILE}"
            )

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
            stream=self.loader.state_dict(),
            rank=self.accelerator.process_index,
            barrier=self.accelerator.wait_for_everyone,
            keep=self.recipe.keep_checkpoints,
        )
        if self.accelerator.is_main_process:
            report.draw_loss(self.output_dir, title=self._title(), baseline_name=self.task.baseline_name)
        return checkpoint

    def _title(self) -> str:
        """Of the loss picture, which is published: without the folders of this machine."""
        named = self.recipe.dataset
        data = " + ".join(map(public_path, [named] if isinstance(named, str) else named))
        return f"{self.task.name}: {public_path(self.recipe.model)} on {data}"

    def _finish(self, number: int) -> Outcome:
        finished = self.step >= self.schedule.total_steps
        loss, baseline = summary(self.output_dir)
        if not finished:
            reason = f"stopped by {name_of(number)}" if number else "stopped"
            say(
                f"{reason} after step {self.step} of {self.schedule.total_steps}; saved checkpoint-{self.step}. "
                f"Go on with: --output_dir {self.output_dir} --resume"
            )
            self._write_run("stopped")
        elif self.accelerator.is_main_process:
            self._publish_locally()
            self._write_run("finished")
            self._tell(loss, baseline)
        try:
            if finished:
                self._test()
        except RunError:
            self._publish(finished=True)  # the model is as good as without a test
            raise
        self.accelerator.wait_for_everyone()
        # The other processes leave: what connects them would not outlast a long wait for the Hub.
        self.accelerator.end_training()
        published = self._publish(finished=finished)
        return Outcome(self.step, 128 + number if number and not finished else published, loss, baseline)

    def _publish(self, *, finished: bool) -> int:
        """How the run ended; an exit code."""
        if self.publisher is None or not self.accelerator.is_main_process:
            return 0
        return self.publisher.ended(self.step, None if finished else self.output_dir / f"checkpoint-{self.step}")

    def _test(self) -> None:
        """Test the final model, in all processes, once it is there for all of them."""
        if self.validation is not None:
            self.accelerator.wait_for_everyone()
            self.validation.test()

    def _publish_locally(self) -> None:
        """The final model at the top of the output directory, file by file whole, and the task's pictures."""
        folder = self.output_dir / ".unfinished-model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.task.save(folder)
        for path in folder.iterdir():
            path.replace(self.output_dir / path.name)
        folder.rmdir()
        for written in self.task.finish(self.output_dir):
            say(f"wrote {written}")

    def _tell(self, loss: float | None, baseline: float | None) -> None:
        seconds = self._total_seconds()
        say(f"done: {self.step} steps, {self.clips} clips, {seconds:.0f} s, {self.skipped} steps not applied")
        if loss is not None and baseline:
            share = 100 * abs(1 - loss / baseline)
            place = f"{share:.1f} % {'under' if loss < baseline else 'over'} {baseline:.4f}"
            say(f"final loss {loss:.4f}, {place} ({self.task.baseline_name})")
        best = best_validation(self.output_dir)
        if best is not None and best["step"] != self.step:
            say(f"the best validation was after step {best['step']}: top-1 {best['top1']:.4f}; saved is the last step")
        for line in hdr_notes() + tell_data(*data_times(self.output_dir), num_workers=self.recipe.num_workers):
            say(line)
        say(f"model, {report.METRICS_FILE} and {report.PICTURE_FILE} are in {self.output_dir}")

    def _total_seconds(self) -> float:
        return round(self.seconds + time.time() - self._begun, 1)

    def _write_run(self, status: str) -> None:
        if not self.accelerator.is_main_process:
            return
        loss, baseline = summary(self.output_dir)
        data_wait, data_seconds = data_times(self.output_dir)
        report.write_json(
            self.output_dir / report.RUN_FILE,
            {
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
                "data_wait": data_wait,
                "data_seconds": data_seconds,
                "loss": loss,
                "baseline": baseline,
                "baseline_is": self.task.baseline_name,
                "best_validation": best_validation(self.output_dir),
                "learning_rate": self.schedule.peak,
                "hardware": report.hardware(self.accelerator.num_processes, self.accelerator.device),
                "versions": report.versions(),
                "started": self._started,
                "updated": report.now(),
                "seconds": self._total_seconds(),
                "resumed_from": self._resumed_from,
            },
        )
