"""Processes: started on a leash, watched by descriptor, ended with all that they started.

Neither asyncio's nor uvloop's subprocess support is used. Both reap by themselves, and once a process is reaped its
number may belong to somebody else: here a process that ended stays a zombie until its session has been killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess  # nosec B404
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from harbor.runner import guard

GUARD: Final = str(Path(guard.__file__).resolve())
# Isolated: neither the folder's files nor PYTHON* variables, meant for the app, say what this interpreter does.
INTERPRETER: Final = (sys.executable, "-I", "-S", GUARD)
CHUNK: Final = 1 << 16  # bytes of output that are read at once
MOST_LEFT: Final = 1 << 20  # bytes that can be left in a pipe: what an ordinary user may make it hold
PAUSE: Final = 0.05  # seconds for which a process is not read while there is no room for what it writes

_started: set[int] = set()  # children that are somebody's business here; all others are orphans

# Takes what a process wrote; False asks for a pause.
Output = Callable[[bytes], bool]


class Warden:
    """The process that kills the instances if this one cannot.

    Closing: ``close()`` ends it, and with it whatever it still guards.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._guarded: set[int] = set()

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # nosec B603
            [*INTERPRETER, "warden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )
        _started.add(self._process.pid)

    def add(self, session: int) -> None:
        self._guarded.add(session)
        self._tell(f"+{session}\n")

    def remove(self, session: int) -> None:
        self._guarded.discard(session)
        self._tell(f"-{session}\n")

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:  # somebody killed it; another one takes over what it guarded
            self._process.wait()
            _started.discard(self._process.pid)
            self.start()
            assert self._process.stdin is not None
            self._process.stdin.write("".join(f"+{session}\n" for session in self._guarded).encode())
            self._process.stdin.flush()


class Process:
    """A running command in a session of its own. ``code`` is how it ended, negative if by a signal.

    Closing: ``await ended.wait()``, then ``sweep()``, which leaves nothing of its session.
    """

    def __init__(self, program: str, words: Sequence[str], environment: Mapping[str, str], output: Output) -> None:
        """Start it. ``program`` is the file, ``words`` are its arguments from the name on.

        Errors: ``OSError`` if the machine has no room for a process.
        """
        self.ended = asyncio.Event()
        self.code: int | None = None
        self.output = output
        self._paused: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._pipe, its = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            # The parent-death signal belongs to the thread that starts a process: this has to be the main one.
            self._process = subprocess.Popen(  # noqa: S603  # nosec B603
                [*INTERPRETER, "leash", str(os.getpid()), program, *words],
                stdin=subprocess.DEVNULL,
                stdout=its,
                stderr=its,
                start_new_session=True,
                env=dict(environment),
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(its)
        self.pid = self._process.pid
        _started.add(self.pid)
        self._descriptor = os.pidfd_open(self.pid)
        self._loop.add_reader(self._descriptor, self._on_exit)
        self._loop.add_reader(self._pipe, self._on_output)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process group. It cannot hit anybody else: the number is its own until ``sweep()``."""
        guard.send(-self.pid, number)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of its session."""
        for pid in self.members():
            guard.send(pid, number)

    def members(self) -> list[int]:
        """The processes of its session that run."""
        return list(guard.members(self.pid))

    def kill(self) -> None:
        """End the whole session at once."""
        guard.kill_session(self.pid)

    def sweep(self) -> None:
        """Leave nothing: neither processes of its session, nor a zombie, nor output that nobody read."""
        guard.kill_session(self.pid)
        self._process.wait()
        _started.discard(self.pid)
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._pipe)
        with contextlib.suppress(BlockingIOError):
            # A pipe holds no more than this; whoever left the session and still writes is not waited for.
            for _ in range(MOST_LEFT // CHUNK):
                if not (data := os.read(self._pipe, CHUNK)):
                    break
                self.output(data)
        os.close(self._pipe)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert status is not None
        self.code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        self.ended.set()

    def _on_output(self) -> None:
        try:
            data = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._pipe)
        elif not self.output(data):
            self._loop.remove_reader(self._pipe)
            self._paused = self._loop.call_later(PAUSE, self._loop.add_reader, self._pipe, self._on_output)


def adopt_orphans() -> None:
    """From now on the orphans of instances fall to this process, and not to init."""
    guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)


def sweep_orphans(mark: str = "") -> None:
    """Reap the adopted children that have ended, and kill those that live and have ``mark`` in their environment."""
    for task in Path("/proc/self/task").iterdir():
        try:
            children = {int(pid) for pid in (task / "children").read_text().split()}
        except OSError:  # the thread ended, or this kernel does not tell
            continue
        for pid in children - _started:
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if mark else []
                if mark.encode() in environment:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0 if mark.encode() in environment else os.WNOHANG)
