"""Stop on Ctrl-C and SIGTERM: end every wait, save unsaved work, exit with 128 + signal.

Inside `handle_signals()` a signal raises `SignalInterrupt` in the main thread, in the middle of any wait: a client's
sleep, a socket, a lock. Work that has something to save enters a `StopSignal` instead. It is interrupted only inside
`StopSignal.interruptible()`, and otherwise checks `requested_signal()` between two steps. A second signal interrupts
it anywhere.

A watcher thread ends a program that has not exited some seconds later, because its main thread is inside a library (a
collective operation that waits for another process) or joins threads of a client that sleep between two retries.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, Protocol

GRACE_SECONDS = 3.0
"""Seconds in which a program with nothing to save has to exit by itself."""
_SECOND_SIGNAL_SECONDS = 1.0
# `timeout` and launchers forward a signal that the process group received too: that is one signal, not two.
_ECHO_SECONDS, _LAUNCHER_ECHO_SECONDS = 0.5, 2.0
_POLL_SECONDS, _READ_DELAY_SECONDS = 0.5, 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAUNCHER_VARIABLES = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")


class SignalInterrupt(SystemExit, KeyboardInterrupt):
    """A signal ended a wait. Uncaught, it ends the process with exit code 128 + signal and without a traceback.

    Attributes:
        number: number of the signal.
        is_second_signal: whether a stop was requested before.
    """

    def __init__(self, number: int, *, is_second_signal: bool = False) -> None:
        super().__init__(128 + number)
        self.number, self.is_second_signal = number, is_second_signal

    def __str__(self) -> str:
        return f"stopped by {signal_name(self.number)}"


def signal_name(number: int) -> str:
    """Return the usual name of a signal."""
    return {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}.get(
        signal.Signals(number), signal.Signals(number).name
    )


class PeerProcesses(Protocol):
    """The other processes of a run, which may not have received the signal. Called in the watcher thread."""

    def broadcast_stop(self, number: int) -> None:
        """Tell them about a signal."""

    def received_stop(self) -> int:
        """Return the signal that one of them reported, or 0."""


class StopSignal:
    """Remember a requested stop, inside a `with` block of work that has something to save.

    A second signal raises `SignalInterrupt`. A launcher that has exited counts as SIGTERM: `accelerate launch` does
    not forward signals to a single process, which would keep training unnoticed.

    Args:
        peers: processes that must stop with this one, even while they wait.
    """

    def __init__(self, peers: PeerProcesses | None = None) -> None:
        self.number, self.peers, self.is_reported = 0, peers, False
        self.requested_at = 0.0
        self.is_waiting = False
        self._launcher_pid = _launcher_pid()

    def __enter__(self) -> "StopSignal":
        _process.enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        _process.leave(self)

    def requested_signal(self) -> int:
        """Return the signal that requested a stop, or 0."""
        if not self.number and self._launcher_pid is not None and os.getppid() != self._launcher_pid:
            self.number = _process.number = signal.SIGTERM
            self.requested_at = _process.requested_at = time.monotonic()
        return self.number

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise `SignalInterrupt` inside the block once a stop is requested, or if it was before."""
        self.is_waiting = True
        try:
            if self.requested_signal():
                raise SignalInterrupt(self.number)
            yield
        finally:
            self.is_waiting = False


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Make a signal end this program; only work inside a `StopSignal` is saved first.

    Blocks may be nested and follow each other. Only for the main thread of a program: a process that does not exit
    after a signal is killed.
    """
    scope = _Program()
    _process.enter(scope)
    try:
        yield
    finally:
        _process.leave(scope)


def is_stop_requested() -> bool:
    """Return whether a signal has asked this process to stop."""
    return _process.number != 0


def claim_stop_report() -> bool:
    """Return whether the signal is still unreported, and claim the report."""
    is_reported, _process.is_reported = _process.is_reported, True
    return not is_reported


def has_unsaved_work() -> bool:
    """Return whether work with something to save is running (`StopSignal`)."""
    return isinstance(_process.current(), StopSignal)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let a stop signal end a wait: inside a `StopSignal` only here, in a program without one everywhere."""
    scope = _process.current()
    with scope.interruptible() if isinstance(scope, StopSignal) else contextlib.nullcontext():
        yield


class _Program:
    """A block of `handle_signals()`."""

    def __init__(self) -> None:
        self.number, self.requested_at = 0, 0.0


class _Process:
    """The signal handlers of this process, and the scopes that receive the signals."""

    def __init__(self) -> None:
        self.scopes: list[StopSignal | _Program] = []
        self.number, self.requested_at, self.handled_at, self.repeated = 0, 0.0, 0.0, False
        self.is_reported = False  # the user knows about the signal
        self._previous: dict[int, Any] = {}
        self._watcher: _Watcher | None = None

    def enter(self, scope: StopSignal | _Program) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python handles signals in the main thread alone
        if not self.scopes:
            self.number, self.requested_at, self.handled_at = 0, 0.0, 0.0
            self.repeated = self.is_reported = False
            self._previous = {number: signal.signal(number, self._handle_signal) for number in _SIGNALS}
            self._watcher = _Watcher(self) if hasattr(signal, "pthread_kill") else None
        self.scopes.append(scope)

    def leave(self, scope: StopSignal | _Program) -> None:
        if scope not in self.scopes:
            return
        if isinstance(scope, _Program) and self.number and not self._programs(exclude=scope):
            self.end_within(GRACE_SECONDS)  # threads of clients may still be waiting
        self.scopes.remove(scope)
        if not self.scopes:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            if self._watcher is not None:
                self._watcher.close()

    def before_fork(self) -> None:
        """Block signals: one that reaches the child before `reset_in_child` would count as one of this process."""
        if self.scopes:
            _thread_state.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def after_fork(self) -> None:
        """Unblock signals."""
        mask = vars(_thread_state).pop("mask", None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def reset_in_child(self) -> None:
        """Restore default handlers in a forked process."""
        if self.scopes:
            self.scopes, self._watcher = [], None
            if threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
        self.after_fork()

    def current(self) -> "StopSignal | _Program | None":
        """Return the scope that receives signals: the innermost work with something to save, else the program."""
        work = [scope for scope in self.scopes if isinstance(scope, StopSignal)]
        return (work or self.scopes or [None])[-1]

    def is_program(self) -> bool:
        return bool(self._programs())

    def end_within(self, seconds: float) -> None:
        """End the process within some seconds, if it belongs to a program; a notebook that called a run stays."""
        if self._watcher is not None and self.is_program():
            self._watcher.end_within(seconds)

    def _programs(self, *, exclude: Any = None) -> list[_Program]:
        return [scope for scope in self.scopes if isinstance(scope, _Program) and scope is not exclude]

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, in the main thread."""
        self.handled_at = time.monotonic()
        scope = self.current()
        assert scope is not None  # handlers are installed only while a scope is open
        if self.repeated:  # by the watcher: the first interrupt was lost
            self.repeated = False
            if isinstance(scope, StopSignal) and scope.is_waiting:
                raise SignalInterrupt(scope.number)
            return
        if self.number and time.monotonic() - self.requested_at < echo_seconds():
            return
        is_second_signal = bool(scope.number)
        scope.number, self.number = scope.number or number, self.number or number
        scope.requested_at = self.requested_at = time.monotonic()
        if is_second_signal or isinstance(scope, _Program):
            self.end_within(_SECOND_SIGNAL_SECONDS if is_second_signal else GRACE_SECONDS)
        else:
            self.is_reported = True  # the work reports how it ended
            if not scope.is_waiting:
                return
        raise SignalInterrupt(number, is_second_signal=is_second_signal)


class _Watcher:
    """A thread that sees signals even while the main thread is inside a library, and ends the program in time."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self._launcher_pid = _launcher_pid()
        self._unhandled: list[tuple[float, int]] = []
        self._deadline = float("inf")
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._main = threading.get_ident()
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def end_within(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        if self._deadline == float("inf"):
            os.write(self._write, b"\0")

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._read], [], [], _POLL_SECONDS)
            numbers = os.read(self._read, 64) if ready else b""
            if 0 in numbers:
                os.close(self._read)
                os.close(self._write)
                return
            self._unhandled += [(time.monotonic(), number) for number in numbers if number in _SIGNALS]
            self._check_signals()

    def _check_signals(self) -> None:
        now, process = time.monotonic(), self._process
        scope = process.current()
        # A signal may be handled shortly before this thread reads its number.
        self._unhandled = [
            (requested_at, number)
            for requested_at, number in self._unhandled
            if requested_at - _READ_DELAY_SECONDS > process.handled_at
        ]
        if now >= self._deadline:
            _exit_now(process.number or signal.SIGTERM)
        if (
            isinstance(scope, StopSignal)
            and scope.is_waiting
            and scope.number
            and now - scope.requested_at > _POLL_SECONDS
        ):
            self._send(scope.number, repeated=True)
        if isinstance(scope, StopSignal) and scope.peers is not None:
            self._exchange_with_peers(scope, scope.peers)
        if self._launcher_pid is not None and os.getppid() != self._launcher_pid and not process.number:
            self._launcher_pid = None
            self._send(signal.SIGTERM)
        if self._unhandled and process.is_program():
            first, number = self._unhandled[0]
            is_second_signal = self._unhandled[-1][0] - first > echo_seconds() or (scope is not None and scope.number)
            grace = _SECOND_SIGNAL_SECONDS if is_second_signal else GRACE_SECONDS
            if now - first > grace and (is_second_signal or isinstance(scope, _Program)):
                _exit_now(number)

    def _exchange_with_peers(self, scope: StopSignal, peers: PeerProcesses) -> None:
        number = scope.number or (self._unhandled[0][1] if self._unhandled else 0)
        if number and not scope.is_reported:
            scope.is_reported = True
            peers.broadcast_stop(number)
        elif scope.is_waiting and not number and (number := peers.received_stop()):
            self._send(number)

    def _send(self, number: int, *, repeated: bool = False) -> None:
        self._process.repeated = repeated
        # To the main thread, so that its system calls are interrupted.
        signal.pthread_kill(self._main, number)


def echo_seconds() -> float:
    """Return for how many seconds after a signal another one counts as the same."""
    return _ECHO_SECONDS if _launcher_pid() is None else _LAUNCHER_ECHO_SECONDS


def _launcher_pid() -> int | None:
    return os.getppid() if any(mark in os.environ for mark in _LAUNCHER_VARIABLES) else None


def _exit_now(number: int) -> NoReturn:
    """End the process at once, whatever its threads do."""
    report_thread = threading.Thread(target=_report_and_flush, args=(number,), daemon=True)
    report_thread.start()
    report_thread.join(0.5)  # the reader of the streams may be stuck
    os._exit(128 + number)


def _report_and_flush(number: int) -> None:
    if claim_stop_report() and int(os.environ.get("RANK", "0")) == 0:
        with contextlib.suppress(OSError, ValueError):
            print(f"error: stopped by {signal_name(number)}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


_thread_state = threading.local()
_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork, after_in_parent=_process.after_fork, after_in_child=_process.reset_in_child
    )
