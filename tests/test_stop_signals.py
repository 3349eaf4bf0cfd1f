"""Test that signals end a program's waits, and the program, within seconds."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

pytestmark = pytest.mark.fault

PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from hf_videomae.stop_signals import GRACE_SECONDS, SignalInterrupt, StopSignal, handle_signals, signal_name

def wait_in_threads():
    with ThreadPoolExecutor(1) as threads:
        threads.submit(time.sleep, 60).result()

def deaf():
    while True:
        try:
            time.sleep(60)
        except SignalInterrupt:
            pass

def save(seconds):
    with StopSignal() as stop:
        while not stop.requested_signal():
            try:
                with stop.interruptible():
                    time.sleep(60)
            except SignalInterrupt as error:
                assert not error.is_second_signal
        time.sleep(seconds)
        print("saved", flush=True)
    sys.exit(128 + stop.number)

def swallowed():
    with StopSignal() as stop, stop.interruptible():
        try:
            time.sleep(60)
        except SignalInterrupt:
            time.sleep(60)

with handle_signals():
    print("ready", flush=True)
    EVALUATED
"""


def stopped(body: str, *signals: tuple[float, signal.Signals]) -> tuple[int, str, float]:
    """Run a body, send signals after so many seconds each; returns the exit code, the output, and the seconds."""
    return _stopped([sys.executable, "-c", PROGRAM.replace("EVALUATED", body)], signals)


def _stopped(command: list[str], signals: Sequence[tuple[float, signal.Signals]]) -> tuple[int, str, float]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    begun = time.monotonic()
    try:
        for wait, number in signals:
            time.sleep(wait)
            process.send_signal(number)
        output = process.stdout.read()
        return process.wait(timeout=60), output, time.monotonic() - begun
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_a_sleep_at_once(number: signal.Signals, code: int) -> None:
    found, output, seconds = stopped("time.sleep(60)", (0.1, number))
    assert (found, output) == (code, "") and seconds < 3


@pytest.mark.slow
@pytest.mark.parametrize("body", ["wait_in_threads()", "deaf()"])
def test_program_that_cannot_exit_is_killed(body: str) -> None:
    """A client waits in threads that the interpreter joins, or swallows the interrupt."""
    found, output, seconds = stopped(body, (0.1, signal.SIGTERM))
    assert (found, output) == (143, "error: stopped by SIGTERM\n") and 2 < seconds < 10


@pytest.mark.slow
def test_second_signal_exits_at_once() -> None:
    found, _, seconds = stopped("wait_in_threads()", (0.1, signal.SIGINT), (0.8, signal.SIGINT))
    assert found == 130 and seconds < 3.0


def test_signal_ends_the_wait_and_work_is_saved() -> None:
    found, output, seconds = stopped("save(1)", (0.1, signal.SIGTERM))
    assert (found, output) == (143, "saved\n") and seconds < 6


@pytest.mark.slow
def test_second_signal_does_not_wait_for_saving() -> None:
    found, output, seconds = stopped("save(60)", (0.1, signal.SIGTERM), (1.0, signal.SIGTERM))
    assert (found, output) == (143, "") and seconds < 6


def test_echoed_signal_counts_once() -> None:
    """`timeout` and launchers send a signal to the process and to its group."""
    found, output, _ = stopped("save(1)", (0.1, signal.SIGTERM), (0.05, signal.SIGTERM))
    assert (found, output) == (143, "saved\n")


@pytest.mark.slow
def test_swallowed_interrupt_is_raised_again() -> None:
    found, output, seconds = stopped("swallowed()", (0.1, signal.SIGTERM))
    assert found == 143 and "Traceback" not in output and seconds < 6


@pytest.mark.slow
def test_forked_processes_do_not_forward_signals() -> None:
    body = """
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    time.sleep(4)
    print(child.exitcode, flush=True)
"""
    found, output, _ = stopped(body.strip())
    assert (found, output) == (0, "-15\n")


@pytest.mark.slow
def test_second_signal_ends_the_work_but_not_its_caller() -> None:
    code = """
import time
from hf_videomae.stop_signals import StopSignal
try:
    with StopSignal():
        print("ready", flush=True)
        time.sleep(60)
        time.sleep(60)
except KeyboardInterrupt:
    time.sleep(3)
    print("goes on")
"""
    signals = ((0.1, signal.SIGINT), (1.0, signal.SIGINT))
    found, output, _ = _stopped([sys.executable, "-c", code], signals)
    assert (found, output) == (0, "goes on\n")
