"""Fuzz what reads strangers' files: `python tests/fuzz/run.py --minutes 20 --seed 0 --target all`.

Sound inputs are damaged and read as a user would read them, many times. A trial may end well or with an error of the
promised kind. A traceback, a signal, more than 30 s or more than 2 GB is a fault: it is printed with the command that
repeats it, and the exit status is 1. The trials run in processes of their own, which a parent watches.
"""

import argparse
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a script, from anywhere

TARGETS = ("containers", "configs", "indexes", "shards", "checkpoints")
MAX_SECONDS, MAX_BYTES = 30.0, 2 * 10**9
_START_SECONDS = 120.0  # in which a process imports torch and reads its first input
_PER_PROCESS = 5000  # trials; then a fresh one
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True)
class Fault:
    """A trial that ended as none should."""

    target: str
    name: str
    number: int
    what: str

    def command(self, seed: int) -> str:
        """Return what repeats it alone."""
        return (
            f"python tests/fuzz/run.py --seed {seed} --target {self.target} --input {self.name} --number {self.number}"
        )


def write_inputs(target: str, folder: Path) -> list[str]:
    """Write the sound inputs of a target, and return their names."""
    from tests.fuzz import inputs

    folder.mkdir(parents=True, exist_ok=True)
    return {
        "containers": inputs.write_containers, "configs": inputs.write_models,
        "indexes": inputs.write_indexes, "shards": inputs.write_shards,
        "checkpoints": inputs.write_checkpoints,
    }[target](folder)  # fmt: skip


# The process that runs trials.


def work(target: str, folder: Path, names: list[str], *, seed: int, first: int, last: int) -> None:
    """Run trials one after the other; what they are and how they ended goes to stdout, a line of JSON each."""
    from tests.fuzz.targets import run_trial

    # Far above the limit: a fault is to be seen, and no danger to the machine.
    resource.setrlimit(resource.RLIMIT_DATA, (4 * MAX_BYTES, 4 * MAX_BYTES))
    answers = os.dup(1)  # what libraries print must not mix with the answers
    os.dup2(2, 1)
    with ThreadPoolExecutor(1) as thread:
        for number in range(first, last):
            name = names[number % len(names)]
            _tell(answers, start=number)
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak of memory
            trial = thread.submit(run_trial, target, folder / name, seed=seed, number=number)
            error = trial.exception()
            said = "".join(traceback.format_exception(error)) if error else None
            _tell(answers, end=number, outcome=None if error else trial.result(), error=said, peak=_peak())


def _tell(answers: int, **facts: Any) -> None:
    os.write(answers, (json.dumps(facts) + "\n").encode())


def _peak() -> int:
    """Return the most memory since it was forgotten, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


# The parent.


class Campaign:
    """Trials of one target, by processes that are watched.

    Attributes:
        trials: that ended.
        outcomes: how many of each kind.
        faults: the trials that ended as none should.
        longest: seconds of the slowest trial.
        peak: bytes of the largest one.
    """

    def __init__(self, target: str, folder: Path, names: list[str], *, seed: int) -> None:
        self.target, self.seed = target, seed
        self._folder, self._names = folder, names
        self.trials, self.longest, self.peak = 0, 0.0, 0
        self.outcomes: Counter[str] = Counter()
        self.faults: list[Fault] = []

    def run(self, *, first: int, last: int, until: float) -> None:
        """Run the trials from one number to before another, or up to a time; a fresh process after each that dies."""
        number = first
        while number < last and time.monotonic() < until:
            number = self._one_process(number, min(last, number + _PER_PROCESS), until=until)

    def _one_process(self, first: int, last: int, *, until: float) -> int:
        """Watch one process, and return the number of the trial to begin the next one with."""
        command = [sys.executable, __file__, "--worker", self.target, str(self._folder), str(first), str(last)]
        command += ["--seed", str(self.seed), "--names", *self._names]
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, **_ENVIRONMENT, "TMPDIR": str(self._folder)},
            )
            try:
                return self._watch(process, first, last, until=until, complaints=complaints)
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()

    def _watch(
        self, process: subprocess.Popen[bytes], first: int, last: int, *, until: float, complaints: IO[bytes]
    ) -> int:
        running = first - 1
        lines, clock = _Lines(process), _Clock()
        while (line := lines.next_before(clock.deadline)) is not None:
            answer = json.loads(line)
            if "start" in answer:
                # The first trial of a process imports what it needs.
                clock.start(_START_SECONDS if running < first else MAX_SECONDS)
                running = answer["start"]
                continue
            self._count(answer, seconds=clock.seconds, is_first=running == first)
            if time.monotonic() >= until:
                return last
        if running == last - 1 and process.poll() == 0:
            return last
        complaints.seek(0)
        said = complaints.read()[-2000:].decode("utf-8", "replace")
        self._fault(running, f"{_ending(process, clock.seconds)}\n{said}")
        return running + 1

    def _count(self, answer: dict[str, Any], *, seconds: float, is_first: bool) -> None:
        self.trials += 1
        self.longest = max(self.longest, 0.0 if is_first else seconds)
        self.peak = max(self.peak, answer["peak"])
        self.outcomes[(answer["outcome"] or "traceback").split(":")[0].split(" ")[-1]] += 1
        if answer["error"] is not None:
            self._fault(answer["end"], answer["error"])
        elif answer["peak"] > MAX_BYTES:
            self._fault(answer["end"], f"it took {answer['peak'] / 1e9:.1f} GB; {answer['outcome']}")

    def _fault(self, number: int, what: str) -> None:
        self.faults.append(Fault(self.target, self._names[max(number, 0) % len(self._names)], number, what))


class _Clock:
    """How long a trial has run, and until when it may."""

    def __init__(self) -> None:
        self.start(_START_SECONDS)

    def start(self, patience: float) -> None:
        self._started = time.monotonic()
        self.deadline = self._started + patience

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started


class _Lines:
    """The lines that a process writes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._kept = process, b""

    def next_before(self, deadline: float) -> bytes | None:
        """Return the next line; None where the process has ended, or is silent beyond a time."""
        stream = self._process.stdout
        assert stream is not None
        while b"\n" not in self._kept:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            part = os.read(stream.fileno(), 65536)
            if not part:
                self._process.wait()
                return None
            self._kept += part
        line, _, self._kept = self._kept.partition(b"\n")
        return line


def _ending(process: subprocess.Popen[bytes], seconds: float) -> str:
    if process.poll() is None:
        return f"no end after {seconds:.0f} s"
    if process.returncode < 0:
        return f"the process was killed by {signal.Signals(-process.returncode).name}"
    return f"the process ended with status {process.returncode}"


def report(campaign: Campaign) -> str:
    """Return what is to be said of a campaign, the faults of one kind once."""
    ends = ", ".join(f"{count} {kind}" for kind, count in campaign.outcomes.most_common(4))
    lines = [
        f"{campaign.target}: {campaign.trials} trials ({ends}), {len(campaign.faults)} faults, "
        f"slowest {campaign.longest:.1f} s, at most {campaign.peak / 1e9:.2f} GB"
    ]
    kinds: dict[str, list[Fault]] = {}
    for fault in campaign.faults:
        kinds.setdefault(_kind(fault.what), []).append(fault)
    for kind, faults in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lines.append(f"FAULT ({len(faults)}x) {kind}\n  {faults[0].command(campaign.seed)}\n{faults[0].what}")
    return "\n".join(lines)


def _kind(what: str) -> str:
    """Return the last line of a traceback and the last place in our code."""
    lines = what.strip().splitlines()
    ours = [line.strip() for line in lines if "hf_videomae" in line and line.strip().startswith("File")]
    head = lines[0] if not lines[0].startswith("Traceback") else lines[-1][:150]
    return f"{head} {ours[-1] if ours else ''}"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--minutes", type=float, default=20.0, help="of all targets together")
    parser.add_argument("--trials", type=int, default=10**9, help="of each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", help="damage this input alone")
    parser.add_argument("--number", type=int, help="run this trial alone")
    parser.add_argument("--worker", nargs=4, metavar=("TARGET", "FOLDER", "FIRST", "LAST"), help=argparse.SUPPRESS)
    parser.add_argument("--names", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        target, folder, first, last = arguments.worker
        work(target, Path(folder), arguments.names, seed=arguments.seed, first=int(first), last=int(last))
        return 0
    targets = TARGETS if arguments.target == "all" else (arguments.target,)
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            names = write_inputs(target, Path(folder, target))
            if arguments.input:
                names = [arguments.input]
            campaign = Campaign(target, Path(folder, target), names, seed=arguments.seed)
            first, trials = (0, arguments.trials) if arguments.number is None else (arguments.number, 1)
            until = time.monotonic() + 60 * arguments.minutes / len(targets)
            campaign.run(first=first, last=first + trials, until=until)
            print(report(campaign), flush=True)
            faults += len(campaign.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
