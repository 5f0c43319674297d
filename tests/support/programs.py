"""Real servers and clients: started by their paths, ended by their pids."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.needs import needs
from support.port_block import open_ports
from support.waiting import eventually

PATIENCE: Final = 40.0  # seconds; against hanging only


class Programs:
    """The servers of one test; what they print goes to a file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, program: str, *arguments: str | int | Path, port: int, kind: str = "tcp"
    ) -> subprocess.Popen[bytes]:
        """Start a server and return once it listens on ``port``."""
        said = self._directory / f"{program}-{port}.log"
        with said.open("ab") as output:
            process = subprocess.Popen(
                [needs(program), *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self._directory,
            )  # fmt: skip
        self._running.append(process)
        # Looked up, not tried: servers count their connections, and so do tests.
        eventually(lambda: process.poll() is not None or kind in open_ports([port]).get(port, ()), PATIENCE, program)
        assert process.poll() is None, said.read_text(errors="replace")
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL: it says goodbye to nobody."""
        process.kill()
        process.wait(PATIENCE)
        self._running.remove(process)

    def close(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def programs(directory: Path) -> Iterator[Programs]:
    started = Programs(directory)
    try:
        yield started
    finally:
        started.close()


def output_of(
    program: str,
    *arguments: str | int | Path,
    given: bytes | None = None,
    fails: Sequence[int] = (),
    within: float = PATIENCE,
) -> str:
    """What a client prints; it must succeed, or fail with one of these exit codes."""
    done = subprocess.run(
        [needs(program), *map(str, arguments)], input=given, capture_output=True, timeout=within,
        stdin=subprocess.DEVNULL if given is None else None,
    )  # fmt: skip
    assert done.returncode in (fails or (0,)), (done.returncode, done.stdout[-1000:], done.stderr[-1000:])
    return done.stdout.decode()
