"""Test that a stop signal ends a run within seconds while the Hub is away, and that what was trained is saved."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hf_videomae.checkpoint_dir import latest_checkpoint
from tests.helpers.datasets_on_disk import write_parquet, write_videofolder
from tests.helpers.running import ROOT, Started, lines, pretrain, started, write_small_model
from tests.local_hub import LocalHub

pytestmark = [pytest.mark.fault, pytest.mark.slow]
SECONDS = 180.0
"""Far below the 15 minutes that a Hub is waited for. It takes 3 to 10, but the machine may be busy."""


class Place:
    """A dataset on the Hub, a small model here, and a run on them."""

    def __init__(self, hub: LocalHub, tmp_path: Path, *, processes: int) -> None:
        self.hub, self.run, self.log, self.processes = hub, tmp_path / "run", tmp_path / "log", processes
        self.model = write_small_model(tmp_path / "model")
        write_parquet(hub.dataset("org/set"), rows=(12, 12, 12, 12))
        write_videofolder(hub.dataset("org/files"), count=48)
        self.variables = {**hub.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_TOKEN": hub.token}

    def command(self, *arguments: object, dataset: str = "org/set", folder: Path | None = None) -> list[str]:
        common = ["--dataset", dataset, "--model", self.model, "--output_dir", folder or self.run, "--batch_size", 4]
        common += ["--log_every", 1, "--save_every", 400, "--max_bad_share", 0, "--max_steps", 400, "--log_samples"]
        return pretrain(*common, *arguments, processes=self.processes)

    def stop(
        self,
        command: list[str],
        *,
        when: Callable[[Started], bool],
        fault: Callable[[], object] = lambda: None,
        number: signal.Signals = signal.SIGTERM,
        settle: float = 4.0,
        rank: int | None = None,
    ) -> tuple[int, str]:
        """Start a run, let the Hub fail, and stop it; returns the exit code and what it printed."""
        with started(command, log=self.log, variables=self.variables) as run:
            run.until(lambda: when(run), every=0.05)
            fault()
            time.sleep(settle)
            everyone = run.everyone()
            begun = time.monotonic()
            target = run.process if rank is None else rank_of(run, rank)
            target.send_signal(number)
            code = run.process.wait(timeout=SECONDS)
            print(f"stopped in {time.monotonic() - begun:.1f} s")
            deadline = time.monotonic() + 10
            while any(map(runs, everyone)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not [process for process in everyone if runs(process)]
        return code, self.log.read_text()


def runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def rank_of(run: Started, rank: int) -> psutil.Process:
    """Return a training process: the oldest with its environment, as its workers are younger."""
    found = [process for process in run.everyone() if process.environ().get("RANK") == str(rank)]
    return min(found, key=lambda process: process.create_time())


@pytest.fixture(params=[1, 2])
def place(request: pytest.FixtureRequest, hub: LocalHub, tmp_path: Path) -> Place:
    return Place(hub, tmp_path, processes=request.param)


def assert_ended(place: Place, code: int, printed: str, number: signal.Signals = signal.SIGTERM) -> None:
    # A launcher has an exit code, and words, of its own.
    assert code == 128 + number if place.processes == 1 else code != 0, printed
    assert place.processes == 2 or "Traceback" not in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_while_a_dataset_opens_ends_the_run(place: Place, number: signal.Signals) -> None:
    place.hub.fail("/api/datasets/org/set", status=503, times=None)
    seen = lambda run: bool(place.hub.requests("/api/datasets"))  # noqa: E731
    code, printed = place.stop(place.command(), when=seen, number=number)
    assert_ended(place, code, printed, number)
    assert printed.count("error: stopped by") == 1 and not place.run.exists()


@pytest.mark.parametrize(("dataset", "workers"), [("org/set", 1), ("org/set", 0), ("org/files", 1), ("org/files", 0)])
def test_stop_during_a_stream_saves_and_resumes_exactly(place: Place, dataset: str, workers: int) -> None:
    """Check that the resumed run has the samples and losses of one that was not stopped."""
    command = place.command("--num_workers", workers, dataset=dataset)
    code, printed = place.stop(
        command, when=lambda run: "step 3/" in run.log.read_text(), fault=place.hub.stop, settle=8.0
    )
    assert_ended(place, code, printed)
    checkpoint = latest_checkpoint(place.run)
    assert checkpoint is not None and f"saved {checkpoint.name}" in printed
    place.hub.start()
    if (dataset, workers) == ("org/set", 1):
        assert_goes_on(place, int(checkpoint.name.partition("-")[2]) + 3)


def assert_goes_on(place: Place, steps: int) -> None:
    straight = place.run.with_name("straight")
    for folder, more in ((place.run, ["--resume"]), (straight, [])):
        command = place.command("--stop_at_step", steps, *more, folder=folder)
        with started(command, log=place.log, variables=place.variables) as run:
            run.finish()
    for name in ("metrics.jsonl", *(f"samples-{rank}.jsonl" for rank in range(place.processes))):
        keys = ("step", "loss", "sample_ids")
        found = [[[line.get(key) for key in keys] for line in lines(run / name)] for run in (place.run, straight)]
        assert found[0] == found[1], name


def test_signal_to_one_of_two_processes_stops_both(hub: LocalHub, tmp_path: Path) -> None:
    place = Place(hub, tmp_path, processes=2)
    code, printed = place.stop(
        place.command(), when=lambda run: "step 3/" in run.log.read_text(), fault=hub.stop, settle=8.0, rank=1
    )
    hub.start()
    assert code != 0 and latest_checkpoint(place.run) is not None, printed


def test_stop_while_the_last_push_waits_ends_the_run(place: Place) -> None:
    place.hub.fail("/commit/|/preupload/", status=503, times=None)
    command = place.command("--push_to_hub", "--hub_model_id", "org/run", "--max_steps", 3)
    code, printed = place.stop(command, when=lambda run: "model, metrics" in run.log.read_text())
    assert_ended(place, code, printed)
    assert "is not published on org/run: interrupted by SIGTERM; to publish it: hf-videomae push" in printed


def test_stopped_run_does_not_wait_for_a_hub_that_is_away(place: Place) -> None:
    command = place.command("--push_to_hub", "--hub_model_id", "org/run", dataset="motion")
    code, printed = place.stop(command, when=lambda run: "step 3/" in run.log.read_text(), fault=place.hub.stop)
    place.hub.start()
    assert_ended(place, code, printed)
    assert latest_checkpoint(place.run) is not None and "the Hub does not answer" in printed
