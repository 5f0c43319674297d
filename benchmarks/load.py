"""The load generator and its backends as this side sees them: options in, JSON out, the proxy watched meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.process import LOAD, LOAD_TLS, ROOT, Failed, Program, stopping

SETUP: Final = 45.0  # seconds until the connections stand; load itself gives up after 30
GRACE: Final = 15.0  # seconds beyond the measured ones until a result is missed
BACKEND_LIFE: Final = 900  # seconds after which a backend ends whatever happens


FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
TLS_FLAGS: Final = ("-DWITH_OPENSSL", "-lssl", "-lcrypto")
NO_OPENSSL: Final = "the load of the TLS rows needs OpenSSL's headers; on Debian: apt-get install libssl-dev"


def build() -> None:
    """Compile load.c if it is newer than the programs; that with TLS only where there is OpenSSL.

    Errors: ``Failed`` without a C compiler.
    """
    _compile(LOAD, ("load.c",), ())
    if _has_headers():
        _compile(LOAD_TLS, ("load.c", "load_tls.c"), TLS_FLAGS)


def _compile(program: Path, names: Sequence[str], flags: Sequence[str]) -> None:
    newest = max((ROOT / name).stat().st_mtime for name in (*names, "load_tls.h"))
    if program.exists() and program.stat().st_mtime >= newest:
        return
    program.parent.mkdir(exist_ok=True)
    draft = program.with_name(f"{program.name}.{os.getpid()}")
    sources = [ROOT / name for name in names]
    done = subprocess.run([_compiler(), *FLAGS, "-o", draft, *sources, *flags], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"load.c does not compile here: {done.stderr.strip()[-500:]}")
    os.replace(draft, program)  # one that runs just now keeps its file


def _compiler() -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Failed("the load generator needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    return compiler


def _has_headers() -> bool:
    command = [_compiler(), "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True).returncode == 0


def words(mode: str, options: dict[str, Any]) -> list[str | Path]:
    """The command line of one run; an option that is True stands alone, one that is False or None is left out."""
    command: list[str | Path] = [LOAD_TLS if options.get("tls") else LOAD, mode]
    for name, value in options.items():
        if value is True:
            command.append(f"--{name}")
        elif value is not None and value is not False:
            command += [f"--{name}", str(value)]
    return command


@contextmanager
def backends(
    cpu: int, host: str = "127.0.0.1", namespace: str | None = None, echo: int = 0
) -> Iterator[dict[str, int]]:
    """Backends of every kind; the block gets their ports by name: echo, source, sink, web, udp."""
    kinds = {"echo": echo, "source": 0, "sink": 0, "web": 0, "udp": 0}
    options = {"host": host, **kinds, "seconds": BACKEND_LIFE, "wait": True}
    with stopping(Program(words("serve", options), cpu, namespace=namespace, piped=True)) as server:
        yield server.hear(5.0)


@dataclass(frozen=True, slots=True)
class Window:
    """What happened while the load ran: its own result, and the processor time of proxy and machine, in seconds."""

    result: dict[str, Any]
    cpu: float
    machine: float

    @property
    def operations(self) -> int:
        """How many operations were done; a window without any tells nothing. Errors: ``Failed``."""
        count = int(self.result["operations"])
        if not count:
            raise Failed(f"no operation succeeded: {self.errors or 'no error either'}")
        return count

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / float(self.result["seconds"])

    @property
    def errors(self) -> str:
        """The errors, as text."""
        return ", ".join(f"{name} ({count})" for name, count in self.result["errors"].items())

    @property
    def error_count(self) -> int:
        """How many operations failed."""
        return sum(self.result["errors"].values())


class Load:
    """One run of the generator, set up and waiting for ``go``."""

    def __init__(self, program: Program, seconds: float) -> None:
        self._program = program
        self._seconds = seconds

    def go(self) -> None:
        """Let the traffic begin."""
        self._program.tell()

    def result(self) -> dict[str, Any]:
        """What it measured, once it is over; its connections stay until the block ends."""
        return self._program.hear(self._seconds + GRACE)

    def watching(self, proxy: Program) -> Window:
        """Begin, wait for the end, and say what it cost the proxy."""
        cpu, busy = proxy.cpu_seconds(), machine.busy_seconds()
        self.go()
        result = self.result()
        return Window(result, proxy.cpu_seconds() - cpu, machine.busy_seconds() - busy)


@contextmanager
def load(
    mode: str, cpu: int, port: int, seconds: float, *, namespace: str | None = None, **options: Any
) -> Iterator[Load]:
    """A run of the generator against ``port``; its connections stand when the block begins."""
    if options.get("tls") and not LOAD_TLS.exists():
        raise Failed(NO_OPENSSL)
    options = {"port": port, "seconds": seconds, "wait": True, **options}
    with stopping(Program(words(mode, options), cpu, namespace=namespace, piped=True)) as program:
        program.hear(SETUP)
        yield Load(program, seconds)
