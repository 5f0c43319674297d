"""Programs of a benchmark: each on its core, in a session of its own, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import machine

ROOT: Final = Path(__file__).parent
LOAD: Final = ROOT / "build" / "load"
LOAD_TLS: Final = ROOT / "build" / "load-tls"  # the same with OpenSSL
START: Final = 60.0  # seconds a program may take to be ready; 5,000 services take the slowest peer a while
STOP: Final = 0.5  # seconds between the request to end and the end; nothing here has anything to lose


class Failed(Exception):
    """A measurement could not be made; the message says why, for the table."""


class Program:
    """A program on one core that ends with us.

    Closing: ``stop()``; it ends the whole session, so workers too.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        cpu: int,
        *,
        log: Path | None = None,
        namespace: str | None = None,
        piped: bool = False,
    ) -> None:
        words = [str(LOAD), "run", "--cpu", str(cpu), "--"]
        if namespace is not None:
            words += ["ip", "netns", "exec", namespace]
        self.name = Path(command[0]).name
        self._log = log
        with open(log if log is not None else os.devnull, "ab") as output:
            self._process = subprocess.Popen(
                [*words, *map(str, command)],
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._read = b""

    def cpu_seconds(self) -> float:
        """Processor time of the program and its workers until now."""
        return machine.cpu_seconds(self.pid)

    def memory(self) -> int:
        """Bytes in RAM, of the program and its workers."""
        return machine.memory(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        os.kill(self.pid, number)

    def wait_for(self, what: str, is_so: Callable[[], bool], within: float = START, pause: float = 0.002) -> None:
        """Come back once it is so. Errors: ``Failed`` if the program ends, or it takes too long."""
        deadline = time.monotonic() + within
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: {what}: not within {within:g} s")
            time.sleep(pause)

    def check(self) -> None:
        """Errors: ``Failed`` if the program has ended."""
        if self._process.poll() is not None:
            raise Failed(f"{self.name} ended with {self._process.returncode}: {self._last_words()}")

    def tell(self) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def hear(self, within: float) -> dict[str, Any]:
        """The next line of its stdout, which is JSON. Errors: ``Failed``, with what the program says is wrong."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + within
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Failed(f"{self.name} said nothing for {within:g} s")
            data = os.read(descriptor, 65536)
            if not data:
                raise Failed(f"{self.name} ended without a result: {self._last_words()}")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        if "error" in heard:
            errors = ", ".join(f"{name} ({count})" for name, count in heard["errors"].items())
            raise Failed(f"{heard['error']}{': ' if errors else ''}{errors}")
        return heard

    def stop(self, patience: float = STOP) -> None:
        """End the program and its workers; those that do not like to are killed after so many seconds."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self._process.poll() is not None and not machine.session_members(self.pid):
                    return
                time.sleep(0.005)

    def _last_words(self) -> str:
        if self._log is None or not self._log.exists():
            return "it left no message"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it left no message"


@contextmanager
def stopping(program: Program) -> Iterator[Program]:
    """The program, ended behind the block whatever happens."""
    try:
        yield program
    finally:
        program.stop()
