"""``harbor run`` as a person or a service manager starts it: a process, what it prints, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from harbor.model import Address
from support.daemon import Daemon
from support.sockets import connected
from support.waiting import eventually

HARBOR: Final = [sys.executable, "-P", "-c", "from harbor.cli import main; main()"]
APP: Final = [sys.executable, "-I", "-S", str(Path(__file__).with_name("app.py"))]
PATIENCE: Final = 40.0  # seconds; against hanging only


class Run:
    """A running ``harbor run``. ``printed`` is what it wrote so far, without times.

    Closing: ``close()`` ends it at once if it still runs.
    """

    def __init__(self, folder: Path, words: list[str], environment: dict[str, str], **more: Any) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*HARBOR, "run", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=folder, env=environment, **more,
        )  # fmt: skip
        self._written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def printed(self) -> str:
        return re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", self._written.decode(errors="replace"))

    @property
    def raw(self) -> bytes:
        return self._written

    def shows(self, text: str, times: int = 1) -> str:
        """Return what was printed once ``text`` stands in it so many times."""
        eventually(lambda: self.printed.count(text) >= times or not self._reader.is_alive(), PATIENCE, text)
        assert self.printed.count(text) >= times, self.printed
        return self.printed

    def ready(self, count: int = 1) -> Run:
        """Return once so many lives have become ready, since the beginning."""
        self.shows(" is ready: ", count)
        return self

    def pid_of(self, instance: str) -> int:
        """The process in which an instance was ready last."""
        return next(pid for pid in reversed(self.children()) if self._is(pid, instance))

    def children(self) -> list[int]:
        """The processes that it started and that live, the oldest first, without its own helpers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = map(int, path.read_text().split())
        return [pid for pid in pids if b"HARBOR_INSTANCE=" in _environment(pid)]

    def _is(self, pid: int, instance: str) -> bool:
        return f"HARBOR_INSTANCE={instance}".encode() in _environment(pid).split(b"\0")

    def signal(self, number: signal.Signals) -> None:
        assert self.process.poll() is None, self.printed
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has one; it must have left nothing to complain about."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.printed) from None
        self._reader.join(PATIENCE)
        assert "Traceback" not in self.printed, self.printed
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            self._written += data


class Load:
    """Clients that make one short session after another, without ever trying anything twice.

    Closing: a context manager; leaving it ends the clients.
    """

    def __init__(self, port: int, clients: int = 3) -> None:
        self.answered: set[int] = set()
        self.problems: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._clients) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _clients(self) -> None:
        while not self._stop.is_set():
            try:
                self.answered.add(greeting(self._port)[1])
            except (OSError, AssertionError, ValueError) as error:
                self.problems.append(repr(error))

    @staticmethod
    def session(port: int) -> socket.socket:
        """A session that lives until it is closed."""
        client = connected(Address("127.0.0.1", port))
        assert client.recv(100).endswith(b"\n")
        return client


def greeting(port: int) -> tuple[str, int]:
    """Which instance answers on a port, and in which process: one session, from its beginning to its end."""
    with connected(Address("127.0.0.1", port)) as client, client.makefile("rb") as reader:
        name, pid = reader.readline().decode().split()
        client.sendall(b"are you there?\n")
        assert reader.readline() == b"are you there?\n"
        return name, int(pid)


def asked(daemon: Daemon, path: str) -> Any:
    """What the node answers, over a connection of its own: one that idled for long is not kept."""
    daemon.api.close()
    return daemon.api("GET", path).body


def backends(daemon: Daemon, service: str) -> dict[str, str]:
    """Instance → state, in queue order."""
    return {backend["instance"]: backend["state"] for backend in asked(daemon, f"/v1/services/{service}/backends")}


def port_of(daemon: Daemon, service: str) -> int:
    """The external port of a service."""
    return int(asked(daemon, f"/v1/services/{service}")["port"])


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
