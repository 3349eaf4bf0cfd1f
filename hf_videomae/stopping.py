"""Stop on Ctrl-C and SIGTERM: end every wait, save what is to be saved, leave with 128 + signal.

Inside `program()` a signal raises `Stopped` in the main thread, in the middle of whatever it waits for: a sleep of a
client, a socket, a lock. Work that has something to save enters a `StopSignal` instead: it is interrupted only inside
`StopSignal.waiting()`, and otherwise asks between two steps. A second signal interrupts it anywhere.

A watcher thread ends a program that has not left some seconds later, because its main thread is inside a library (a
collective operation that waits for another process) or joins threads of a client that sleep between two tries.
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
"""Seconds that a program with nothing to save has to leave by itself."""
_SECOND_SIGNAL_SECONDS = 1.0
# `timeout` and launchers pass on a signal that the process group got as well: that is one signal, not two.
_ECHO_SECONDS, _LAUNCHER_ECHO_SECONDS = 0.5, 2.0
_TICK_SECONDS, _READ_SECONDS = 0.5, 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAUNCHER_MARKS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")


class Stopped(SystemExit, KeyboardInterrupt):
    """A signal ended a wait. Uncaught, it ends the process with exit code 128 + signal and without a traceback.

    Attributes:
        number: of the signal.
        again: a stop had been asked for before.
    """

    def __init__(self, number: int, *, again: bool = False) -> None:
        super().__init__(128 + number)
        self.number, self.again = number, again

    def __str__(self) -> str:
        return f"stopped by {name_of(self.number)}"


def name_of(number: int) -> str:
    """Return what people call a signal."""
    return {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}.get(
        signal.Signals(number), signal.Signals(number).name
    )


class Others(Protocol):
    """The other processes of a run, which may have got no signal. Called in the thread that watches for signals."""

    def tell(self, number: int) -> None:
        """Tell them of a signal."""

    def heard(self) -> int:
        """Return the signal that one of them told of, or 0."""


class StopSignal:
    """Remember that a stop was asked for, inside a `with` block of work that has something to save.

    A second signal raises `Stopped`. A launcher that is gone counts as SIGTERM: `accelerate launch` does not pass
    signals on to a single process, which would train on without anybody knowing.

    Args:
        others: processes that are to stop with this one, also where they wait.
    """

    def __init__(self, others: Others | None = None) -> None:
        self.number, self.others, self.told = 0, others, False
        self.at = 0.0
        self.waits = False
        self._launcher = _launcher()

    def __enter__(self) -> "StopSignal":
        _process.enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        _process.leave(self)

    def asked(self) -> int:
        """Return the signal that asked for a stop, or 0."""
        if not self.number and self._launcher is not None and os.getppid() != self._launcher:
            self.number = _process.number = signal.SIGTERM
            self.at = _process.at = time.monotonic()
        return self.number

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise `Stopped` inside the block once a stop is asked for, or was before."""
        self.waits = True
        try:
            if self.asked():
                raise Stopped(self.number)
            yield
        finally:
            self.waits = False


@contextlib.contextmanager
def program() -> Iterator[None]:
    """Make a signal end this program, with nothing to save but where a `StopSignal` is entered inside.

    Blocks may be nested and follow each other. Only for the main thread of a program: a process that does not leave
    after a signal is ended.
    """
    scope = _Program()
    _process.enter(scope)
    try:
        yield
    finally:
        _process.leave(scope)


def is_asked() -> bool:
    """Return whether a signal has asked this process to stop."""
    return _process.number != 0


def tell_once() -> bool:
    """Return whether the user is still to be told of the signal, and take that over."""
    told, _process.told = _process.told, True
    return not told


def has_work() -> bool:
    """Return whether work with something to save is under way (`StopSignal`)."""
    return isinstance(_process.current(), StopSignal)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Let a stop signal end a wait: inside a `StopSignal` only here, in a program without one everywhere."""
    scope = _process.current()
    with scope.waiting() if isinstance(scope, StopSignal) else contextlib.nullcontext():
        yield


class _Program:
    """A block of `program()`."""

    def __init__(self) -> None:
        self.number, self.at = 0, 0.0


class _Process:
    """The signal handlers of this process, and who gets the signals."""

    def __init__(self) -> None:
        self.scopes: list[StopSignal | _Program] = []
        self.number, self.at, self.handled_at, self.repeated = 0, 0.0, 0.0, False
        self.told = False  # the user knows of the signal
        self._previous: dict[int, Any] = {}
        self._watcher: _Watcher | None = None

    def enter(self, scope: StopSignal | _Program) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python takes signals in the main thread alone
        if not self.scopes:
            self.number, self.at, self.handled_at, self.repeated, self.told = 0, 0.0, 0.0, False, False
            self._previous = {number: signal.signal(number, self._take) for number in _SIGNALS}
            self._watcher = _Watcher(self) if hasattr(signal, "pthread_kill") else None
        self.scopes.append(scope)

    def leave(self, scope: StopSignal | _Program) -> None:
        if scope not in self.scopes:
            return
        if isinstance(scope, _Program) and self.number and not self._programs(besides=scope):
            self.end_within(GRACE_SECONDS)  # threads of clients may be in the middle of a wait
        self.scopes.remove(scope)
        if not self.scopes:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            if self._watcher is not None:
                self._watcher.close()

    def before_fork(self) -> None:
        """Hold signals back: one that comes to the new process before `forget` would seem to come to this one."""
        if self.scopes:
            _of_thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def after_fork(self) -> None:
        """Let signals in again."""
        mask = vars(_of_thread).pop("mask", None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def forget(self) -> None:
        """Leave the signals of a forked process to that process."""
        if self.scopes:
            self.scopes, self._watcher = [], None
            if threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
        self.after_fork()

    def current(self) -> "StopSignal | _Program | None":
        """Return who gets the signals: the innermost work that has something to save, else the program."""
        work = [scope for scope in self.scopes if isinstance(scope, StopSignal)]
        return (work or self.scopes or [None])[-1]

    def is_program(self) -> bool:
        return bool(self._programs())

    def end_within(self, seconds: float) -> None:
        """End the process after a while, if it is a program's: a notebook that called a run stays."""
        if self._watcher is not None and self.is_program():
            self._watcher.end_within(seconds)

    def _programs(self, *, besides: Any = None) -> list[_Program]:
        return [scope for scope in self.scopes if isinstance(scope, _Program) and scope is not besides]

    def _take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, in the main thread."""
        self.handled_at = time.monotonic()
        scope = self.current()
        assert scope is not None  # the handlers are there as long as a scope is
        if self.repeated:  # by the watcher: the first one was raised where it went unnoticed
            self.repeated = False
            if isinstance(scope, StopSignal) and scope.waits:
                raise Stopped(scope.number)
            return
        if self.number and time.monotonic() - self.at < echo_seconds():
            return
        again = bool(scope.number)
        scope.number, self.number = scope.number or number, self.number or number
        scope.at = self.at = time.monotonic()
        if again or isinstance(scope, _Program):
            self.end_within(_SECOND_SIGNAL_SECONDS if again else GRACE_SECONDS)
        else:
            self.told = True  # the work says how it ended
            if not scope.waits:
                return
        raise Stopped(number, again=again)


class _Watcher:
    """A thread that sees signals even while the main thread is inside a library, and ends the program in time."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self._launcher = _launcher()
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
            ready, _, _ = select.select([self._read], [], [], _TICK_SECONDS)
            numbers = os.read(self._read, 64) if ready else b""
            if 0 in numbers:
                os.close(self._read)
                os.close(self._write)
                return
            self._unhandled += [(time.monotonic(), number) for number in numbers if number in _SIGNALS]
            self._look()

    def _look(self) -> None:
        now, process = time.monotonic(), self._process
        scope = process.current()
        # A signal may be handled a moment before this thread reads of it.
        self._unhandled = [(at, number) for at, number in self._unhandled if at - _READ_SECONDS > process.handled_at]
        if now >= self._deadline:
            _end(process.number or signal.SIGTERM)
        if isinstance(scope, StopSignal) and scope.waits and scope.number and now - scope.at > _TICK_SECONDS:
            self._send(scope.number, repeated=True)
        if isinstance(scope, StopSignal) and scope.others is not None:
            self._share(scope, scope.others)
        if self._launcher is not None and os.getppid() != self._launcher and not process.number:
            self._launcher = None
            self._send(signal.SIGTERM)
        if self._unhandled and process.is_program():
            first, number = self._unhandled[0]
            again = self._unhandled[-1][0] - first > echo_seconds() or (scope is not None and scope.number)
            grace = _SECOND_SIGNAL_SECONDS if again else GRACE_SECONDS
            if now - first > grace and (again or isinstance(scope, _Program)):
                _end(number)

    def _share(self, scope: StopSignal, others: Others) -> None:
        number = scope.number or (self._unhandled[0][1] if self._unhandled else 0)
        if number and not scope.told:
            scope.told = True
            others.tell(number)
        elif scope.waits and not number and (number := others.heard()):
            self._send(number)

    def _send(self, number: int, *, repeated: bool = False) -> None:
        self._process.repeated = repeated
        # To the main thread: only its system calls are to be interrupted.
        signal.pthread_kill(self._main, number)


def echo_seconds() -> float:
    """Return for how long after a signal another one is taken for the same."""
    return _ECHO_SECONDS if _launcher() is None else _LAUNCHER_ECHO_SECONDS


def _launcher() -> int | None:
    return os.getppid() if any(mark in os.environ for mark in _LAUNCHER_MARKS) else None


def _end(number: int) -> NoReturn:
    """End the process, whatever its threads do."""
    last_words = threading.Thread(target=_say_and_flush, args=(number,), daemon=True)
    last_words.start()
    last_words.join(0.5)  # who reads them may be stuck
    os._exit(128 + number)


def _say_and_flush(number: int) -> None:
    if tell_once() and int(os.environ.get("RANK", "0")) == 0:
        with contextlib.suppress(OSError, ValueError):
            print(f"error: stopped by {name_of(number)}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


_of_thread = threading.local()
_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork, after_in_parent=_process.after_fork, after_in_child=_process.forget
    )
