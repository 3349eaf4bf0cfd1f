"""Test worker processes: they survive signals meant for the training process, and end with it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from hf_videomae.data import Sample, workers
from hf_videomae.hub.source_errors import SourceRefused
from hf_videomae.video.decoding import VideoBackendError, VideoDecodeError
from tests.helpers.datasets_on_disk import write_parquet

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}


def work_on(item: int, result: workers.WorkerResult[int]) -> int:
    """Square a number; 3 is a video that cannot be decoded, 4 an error after it."""
    if item == 4:
        raise VideoBackendError("no decoder works")

    def decode(sample: Sample) -> int:
        if sample.id == "3":
            raise VideoDecodeError("3.mp4", "it is broken")
        return int(sample.id) ** 2

    return result.decode(Sample(str(item), f"{item}.mp4"), decode) or 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_order_with_bad_videos_and_typed_errors(num_workers: int) -> None:
    with closing(workers.run_in_workers(work_on, range(1, 6), num_workers=num_workers)) as iterator:
        results = list(iterator)
    assert [result.content for result in results] == [1, 4, 0, None, 25]
    assert results[2].bad == [{"path": "3.mp4", "id": "3", "reason": "it is broken"}] and not results[1].bad
    with pytest.raises(VideoBackendError, match="^no decoder works$"):
        results[3].unwrap()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_error_of_reading_items_comes_after_earlier_results(num_workers: int) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise SourceRefused("the Hub refuses")

    with closing(workers.run_in_workers(work_on, items(), num_workers=num_workers)) as results:
        assert [next(results).unwrap() for _ in range(2)] == [1, 4]
        with pytest.raises(SourceRefused, match="^the Hub refuses$"):
            next(results).unwrap()


def test_workers_survive_signals_to_process_group() -> None:
    """Ctrl-C and SIGTERM reach the whole group, but the training process still gets its batches."""
    code = """
import os, signal
from hf_videomae.data import ClipConfig, MotionSource, build_loader
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
settings = ClipConfig(num_frames=4, stride=2, image_size=32)
loader = build_loader(MotionSource(num_videos=20), clip_config=settings, batch_size=2, seed=0, num_workers=2)
batches = iter(loader)
next(batches)
os.killpg(os.getpgid(0), signal.SIGINT)
os.killpg(os.getpgid(0), signal.SIGTERM)
print(sum(len(next(batches)["sample_ids"]) for _ in range(12)))
batches.close()
"""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=300,
    )
    assert (answer.stdout.strip(), answer.returncode) == ("24", 0), answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_program_may_exit_without_closing_batches(tmp_path: Path, workers: int) -> None:
    """At exit, multiprocessing sends one SIGTERM, which workers survive, and waits for them."""
    write_parquet(tmp_path)
    code = f"""
from hf_videomae.data import ClipConfig, build_loader, open_source
settings = ClipConfig(num_frames=4, stride=2, image_size=32)
source = open_source({str(tmp_path)!r})
batches = iter(build_loader(source, clip_config=settings, batch_size=2, seed=0, num_workers={workers}))
print(len(next(batches)["sample_ids"]))
"""
    answer = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert (answer.stdout.strip(), answer.stderr, answer.returncode) == ("2", "", 0)


@pytest.mark.fault
@pytest.mark.parametrize("code", [1, 0], ids=["uncaught", "reported"])
def test_program_ends_after_an_error_of_a_stream(tmp_path: Path, code: int) -> None:
    """The traceback keeps torch's iterator and so its worker; a program that reports the error in one line, too."""
    write_parquet(tmp_path, rows=(6,))
    program = f"""
import sys
from hf_videomae.data import ClipConfig, DataError, build_loader, open_source
clips = ClipConfig(num_frames=4, stride=2, image_size=32)
loader = build_loader(open_source({str(tmp_path)!r}), clip_config=clips, batch_size=32, seed=0, num_workers=2)
try:
    next(iter(loader))
except DataError as error:
    if {code}:
        raise
    kept = error
    print(error)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == code and "too few for one batch of 32" in answer.stdout + answer.stderr


def test_worker_ends_with_killed_training_process() -> None:
    """Kill the parent of a worker that waits for the rest of an item and holds the other end of its own pipe."""
    code = """
import multiprocessing, os, time
from hf_videomae.data import workers
exit_flag = multiprocessing.get_context("fork").RawValue("b", 0)
def work():
    workers._init_worker(0, exit_flag=exit_flag)
    rest, held = os.pipe()
    print(os.getpid(), flush=True)
    os.read(rest, 1)
multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
    try:
        worker.wait(timeout=300)
    finally:
        if worker.is_running():
            worker.kill()


@pytest.mark.fault
def test_killed_worker_raises_one_line() -> None:
    """The system kills a worker when memory is full. The other worker would survive the SIGTERM at exit."""
    code = """
import multiprocessing, signal, time
from hf_videomae.data import ClipConfig, DataError, MotionSource, build_loader
settings = ClipConfig(num_frames=4, stride=2, image_size=32)
loader = build_loader(MotionSource(num_videos=20), clip_config=settings, batch_size=2, seed=0, num_workers=2)
batches = iter(loader)
next(batches)
multiprocessing.active_children()[0].kill()
time.sleep(1)  # nothing is raised outside of the wait for a batch
try:
    for _ in range(100):
        next(batches)
except DataError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr) == (0, "") and answer.stdout.count("\n") == 1
    assert "worker" in answer.stdout and "killed" in answer.stdout and "--num_workers" in answer.stdout


def test_worker_prints_no_traceback_when_training_process_left(capsys: pytest.CaptureFixture[str]) -> None:
    def report(error: Exception) -> None:
        workers._report_unless_disconnected(type(error), error, None)

    for error in (ConnectionResetError("left"), EOFError(), ValueError("another error")):
        thread = threading.Thread(target=report, args=(error,))
        thread.start()
        thread.join()
    assert capsys.readouterr().err.splitlines() == ["ValueError: another error"]
    report(ConnectionResetError("of the main thread"))
    assert "of the main thread" in capsys.readouterr().err
