"""Test that runs killed at random steps and resumed equal an uninterrupted run, bit for bit.

Real processes get a real SIGKILL, all at once: the launcher, both ranks and their workers. One video of each set is
damaged, so that what is known of bad videos must come back as well.
"""

import json
import random
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from hf_videomae.checkpoint_dir import incomplete_reason, list_checkpoints
from tests.helpers.datasets_on_disk import damage, write_folder, write_parquet, write_webdataset
from tests.helpers.running import Started, lines, pretrain, started, write_small_model

STEPS, SAVE_EVERY = 20, 5
ROWS, BAD = (9, 11, 10), 17
SPEED = ("clips_per_second", "data_wait", "seconds", "data_seconds")
Arguments = Callable[[str], tuple[Any, ...]]
Straight = Callable[[int, str], Path]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Arguments:
    """Return the settings of all runs on a dataset of 30 videos, one of them damaged."""
    root = tmp_path_factory.mktemp("kill")
    model = write_small_model(root / "model")
    often = ["--save_every", SAVE_EVERY, "--log_every", 1, "--log_samples"]
    common = ["--model", model, "--max_steps", STEPS, "--batch_size", 4, "--base_lr", 1e-2, *often]

    @cache
    def of(kind: str) -> tuple[Any, ...]:
        if kind == "folder":
            folder = write_folder(root / kind, count=sum(ROWS))
            damage(folder / "class_1" / f"{BAD:03d}.mp4", "truncated")
        else:
            {"parquet": write_parquet, "webdataset": write_webdataset}[kind](root / kind, rows=ROWS, bad=(BAD,))
        return ("--dataset", root / kind, *common)

    return of


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, arguments: Arguments) -> Straight:
    """Return a function that makes each uninterrupted run once, without workers, which change nothing."""

    @cache
    def run(processes: int, kind: str) -> Path:
        folder = tmp_path_factory.mktemp("straight")
        command = pretrain(*arguments(kind), "--num_workers", 0, "--output_dir", folder, processes=processes)
        with started(command, log=folder / "log") as whole:
            whole.finish()
        return folder

    return run


def last_step(folder: Path) -> int:
    """Return the last step that the first process logged."""
    path = folder / "samples-0.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return json.loads(whole.splitlines()[-1])["step"] if whole else 0


def newest(folder: Path) -> int:
    """Return the step of the last complete checkpoint."""
    steps = [int(path.name.rpartition("-")[2]) for path in list_checkpoints(folder) if incomplete_reason(path) is None]
    return max(steps, default=0)


def kill_after(step: int, run: Started, folder: Path) -> int:
    """Kill it there; returns how many steps are lost."""
    run.until(lambda: last_step(folder) >= step)
    run.kill()
    return last_step(folder) - newest(folder)


def assert_same_run(folder: Path, whole: Path, *, processes: int) -> None:
    for rank in range(processes):
        name = f"samples-{rank}.jsonl"
        assert (folder / name).read_text() == (whole / name).read_text()
        assert [line["step"] for line in lines(folder / name)] == list(range(1, STEPS + 1))
    ours, theirs = (
        [{name: value for name, value in line.items() if name not in SPEED} for line in lines(run / "metrics.jsonl")]
        for run in (folder, whole)
    )
    assert ours == theirs and len(ours) == STEPS
    assert len(lines(folder / "bad_videos.jsonl")) == 1
    for name in ("bad_videos.jsonl", "model.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not list(folder.glob(".unfinished*"))


CASES = list(product((1, 2), (0, 2), ("folder", "parquet", "webdataset")))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "workers", "kind"), CASES)
def test_run_killed_twice_equals_an_uninterrupted_one(
    straight: Straight,
    arguments: Arguments,
    tmp_path: Path,
    processes: int,
    workers: int,
    kind: str,
) -> None:
    steps = random.Random(f"{processes} {workers} {kind}")
    folder = tmp_path / "run"
    command = [*arguments(kind), "--num_workers", workers, "--output_dir", folder, "--resume"]
    lost = []
    for step in (steps.choice((6, 7, 8)), steps.choice((12, 13, 16, 17))):
        with started(pretrain(*command, processes=processes), log=tmp_path / "log") as run:
            # A run that goes on first drops the lines of the steps that were lost.
            lost.append(kill_after(max(step, last_step(folder) + 1), run, folder))
    with started(pretrain(*command, processes=processes), log=tmp_path / "log") as run:
        saved = newest(folder)
        assert f"resumed from {folder}/checkpoint-{saved} at step {saved}" in run.finish()
    assert sum(lost) > 0
    print(f"killed and resumed twice: {lost} steps were lost and repeated")
    assert_same_run(folder, straight(processes, kind), processes=processes)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_run_killed_while_writing_a_checkpoint_resumes_from_the_last(
    straight: Straight, arguments: Arguments, tmp_path: Path, processes: int
) -> None:
    folder = tmp_path / "run"
    command = [*arguments("folder"), "--num_workers", 0, "--output_dir", folder, "--resume", "--save_every", 1]
    half: list[Path] = []

    def caught() -> bool:
        if newest(folder) < 5 or not list(folder.glob(".unfinished-[0-9]*")):
            return False
        run.pause()
        half[:] = folder.glob(".unfinished-[0-9]*")
        if not half:
            run.resume()
        return bool(half)

    with started(pretrain(*command, processes=processes), log=tmp_path / "log") as run:
        run.until(caught, every=0.001)
        run.kill()
    written = sorted(path.name for path in half[0].iterdir())
    print(f"killed when {half[0].name} held {written}")
    saved = newest(folder)
    assert saved >= 5 and not (folder / f"checkpoint-{saved + 1}").exists()
    with started(pretrain(*command, processes=processes), log=tmp_path / "log") as run:
        assert f"resumed from {folder}/checkpoint-{saved} at step {saved}" in run.finish()
    assert_same_run(folder, straight(processes, "folder"), processes=processes)
