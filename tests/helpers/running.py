"""Start `examples/pretrain.py` in processes of its own, as a user does, and kill such runs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from hf_videomae import VideoMAEConfig, VideoMAEForPreTraining

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "pretrain.py"
PATIENCE = 900.0
"""Seconds for what takes seconds: the machine may be busy."""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def launch(*arguments: object, processes: int = 1) -> list[str]:
    """Return the command of `accelerate launch`, with a free port."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    if processes > 1:
        command += ["--config_file", str(ROOT / "examples" / "accelerate" / "cpu-2.yaml"), "--main_process_port", "0"]
    else:
        command += ["--num_processes", "1"]
    return [*command, str(SCRIPT), *map(str, arguments)]


def pretrain(*arguments: object, processes: int) -> list[str]:
    """Return the command of the script alone, or of two processes."""
    return [sys.executable, str(SCRIPT), *map(str, arguments)] if processes == 1 else launch(*arguments, processes=2)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def write_small_model(folder: Path) -> Path:
    """Save the smallest model, with random weights."""
    config = VideoMAEConfig.from_preset("tiny", num_hidden_layers=1, decoder_num_hidden_layers=1)
    VideoMAEForPreTraining(config).save_pretrained(folder)
    return folder


class Started:
    """A run with all its processes: the launcher, the ranks and their workers."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def everyone(self) -> list[psutil.Process]:
        """Return all processes; ranks have sessions of their own, so the launcher's group is not all."""
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Send SIGKILL to all processes, and return when none is left."""
        everyone = self.everyone()
        for one in everyone:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        deadline = time.monotonic() + 60
        while any(map(_runs, everyone)):
            assert time.monotonic() < deadline, f"these outlive their SIGKILL: {everyone}"
            time.sleep(0.05)

    def pause(self) -> None:
        """Suspend all processes, whatever they do."""
        for one in self.everyone():
            with suppress(psutil.NoSuchProcess):
                one.suspend()

    def resume(self) -> None:
        """Continue all processes."""
        for one in self.everyone():
            with suppress(psutil.NoSuchProcess):
                one.resume()

    def until(self, reached: Callable[[], bool], *, every: float = 0.005) -> None:
        """Wait until something has happened in the run."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert self.process.poll() is None, f"the run ended before:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"nothing happened for {PATIENCE} s:\n{self.log.read_text()}"
            time.sleep(every)

    def finish(self) -> str:
        """Wait until the run ends with success, and return what it printed."""
        code = self.process.wait(timeout=PATIENCE)
        printed = self.log.read_text()
        assert code == 0, printed
        return printed


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def started(command: list[str], *, log: Path, variables: dict[str, str] | None = None) -> Iterator[Started]:
    """Start a run; whatever happens inside, none of its processes outlives the block.

    Args:
        command: by `pretrain` or `launch`.
        log: where its output goes, both streams.
        variables: its environment.
    """
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            env=environment() if variables is None else variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    run = Started(process, log)
    try:
        yield run
    finally:
        run.kill()
