"""Make a run small enough to test the trainer: a linear model, and batches that follow from their position."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_videomae.data import DataError
from hf_videomae.training import RunRecipe, Trainer, TrainResult, build_accelerator, resolve_resume_checkpoint


class ToyLoader:
    """Yields batch n with rows seeded by n.

    Args:
        batch_size: rows of a batch.
        rank: rank of this process.
        world_size: number of processes.
        poison: batches of the last rank that hold a value that is not finite.
        short: batches of the last rank without their last row.
        broken: the batch at which the data of the last rank fails.
        stopped: the batch at which a signal reaches the first rank while it waits.
        everywhere: the signal reaches all ranks.
    """

    def __init__(
        self,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        poison: tuple[int, ...] = (),
        short: tuple[int, ...] = (),
        broken: int | None = None,
        stopped: int | None = None,
        everywhere: bool = False,
    ) -> None:
        self.stopped, self.everywhere = stopped, everywhere
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.poison, self.short, self.broken = poison, short, broken
        self.position, self.epoch, self.steps_per_epoch = 0, 0, 10
        self.bad_videos: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            if self.position == self.broken and self.rank == self.world_size - 1:
                self.bad_videos.append({"path": "a.mp4", "reason": "no video stream"})
                raise DataError("a.mp4 cannot be decoded")
            if self.position == self.stopped and (self.rank == 0 or self.everywhere):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            first = (self.position * self.world_size + self.rank) * self.batch_size
            rows = [torch.randn(4, generator=torch.Generator().manual_seed(first + i)) for i in range(self.batch_size)]
            x = torch.stack(rows)
            if self.position in self.poison and self.rank == self.world_size - 1:
                x[0, 0] = float("nan")
            size = self.batch_size - (self.position in self.short and self.rank == self.world_size - 1)
            self.position += 1
            self.seconds = {"decode": 0.5 * self.position, "transform": 0.25 * self.position}
            yield {"x": x[:size], "sample_ids": [f"row-{first + i}" for i in range(size)]}

    def state_dict(self) -> dict[str, Any]:
        return {"row": self.position * self.world_size * self.batch_size}

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        self.position, rest = divmod(states[0]["row"], self.world_size * self.batch_size)
        assert rest == 0


class ToyTask:
    name = "toy"
    baseline_name = "predict nothing"

    def __init__(self, model: nn.Module, *, before_step: Any = None, noise: float = 0.1) -> None:
        self.model, self.before_step, self.noise = model, before_step, noise
        self.calls = 0

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        self.calls += 1
        if self.before_step is not None:
            self.before_step(self.calls)
        noise = self.noise * torch.rand(())  # the trainer must restore the random generators, too
        return (model(batch["x"]) - batch["x"].sum(1, keepdim=True) + noise).pow(2).mean()

    def baseline(self, batch: dict[str, Any]) -> float | None:
        return float(batch["x"].sum(1).pow(2).mean())

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(self.model.state_dict(), folder / "model.safetensors")

    def run_metadata(self) -> dict[str, Any]:
        return {"data": {}, "parents": []}

    def finalize_output(self, output_dir: Path) -> list[str]:
        return []


def toy_run(
    output_dir: Path,
    *,
    noise: float = 0.1,
    poison: tuple[int, ...] = (),
    short: tuple[int, ...] = (),
    broken: int | None = None,
    stopped: int | None = None,
    everywhere: bool = False,
    before_step: Any = None,
    validator: Any = None,
    **settings: Any,
) -> Trainer:
    """Return the trainer of the toy, set up, and resumed if the settings say so."""
    options = {
        "max_steps": 6,
        "batch_size": 4,
        "base_lr": 6.4,
        "log_every": 1,
        "warmup_steps": 1,
        "seed": 3,
        "save_every": 99,
    }
    recipe = RunRecipe(output_dir=str(output_dir), **{**options, **settings})
    accelerator = build_accelerator(recipe)
    resume = resolve_resume_checkpoint(recipe)
    model = nn.Linear(4, 1)
    if resume is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(resume / "model.safetensors"))
    loader = ToyLoader(
        recipe.batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        poison=poison,
        short=short,
        broken=broken,
        stopped=stopped,
        everywhere=everywhere,
    )
    trainer = Trainer(
        recipe,
        accelerator=accelerator,
        model=model,
        task=ToyTask(model, before_step=before_step, noise=noise),
        loader=loader,
        resume=resume,
        validator=validator,
    )
    trainer.setup()
    return trainer


def toy_train(output_dir: Path, **options: Any) -> TrainResult:
    return toy_run(output_dir, **options).train()


def run_in_processes(count: int, output_dir: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Train the toy in processes of its own (`toy_main.py`), connected if there are several."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []
    program = Path(__file__).with_name("toy_main.py")
    return subprocess.run(
        [sys.executable, *launch, str(program), str(output_dir), json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(program.parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
