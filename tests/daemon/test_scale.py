"""Many services: what they cost at start and in memory, and that opening and closing them disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from harbor.model import Exposure, Protocol, Service
from harbor.store import SaveService
from harbor.store.sqlite import SqliteStore
from support.daemon import Api, Serve, Unreachable, daemon_config
from support.running_node import MakeBackend
from support.waiting import eventually

SERVICES: Final = 1000
FIRST_PORT: Final = 28_000  # of a thousand that only this test takes
CPU_FOR_A_START: Final = 2.0  # seconds, imports included
MEMORY_OF_A_SERVICE: Final = 16 * 1024  # bytes
NEW_CONNECTIONS: Final = 200  # per second


def fill(state: Path, ports: range) -> None:
    """A state with a service on each of these ports, or on as many as can be bound."""

    async def run() -> None:
        store = SqliteStore.open(state)
        await store.commit(
            *(
                SaveService(Service(f"id-{n}", f"s{n}", Protocol.TCP, port, 4100 + n, Exposure.PRIVATE, created=n))
                for n, port in enumerate(ports)
            )
        )
        await store.close()

    asyncio.run(run())


@contextmanager
def started(directory: Path, ports: range) -> Iterator[tuple[int, Api]]:
    """A daemon from its very beginning, imports and all; yields its pid once it is ready."""
    config = directory / "harbor.yml"
    config.write_text(daemon_config(directory, ports, "log: {level: error}"))
    program = [sys.executable, "-c", "from harbor.cli import main; main()", "serve", "--config", str(config)]
    with subprocess.Popen(program) as process:
        api = Api(directory / "state" / "harbor.sock")

        def ready() -> bool:
            try:
                return api("GET", "/readyz").status == 200
            except Unreachable:
                return False

        try:
            eventually(ready, within=60)
            yield process.pid, api
            process.terminate()
            assert process.wait(30) == 0
        finally:
            api.close()
            process.kill()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_thousand_services_start_in_two_seconds_of_cpu_and_cost_16_KiB_each(directory: Path) -> None:
    ports = range(FIRST_PORT, FIRST_PORT + SERVICES)
    with started(directory, ports) as (pid, _):
        empty = resident_bytes(pid)
    fill(directory / "state", ports)
    with started(directory, ports) as (pid, api):
        spent = cpu_seconds(pid)
        each = (resident_bytes(pid) - empty) / SERVICES
        described = api("GET", "/v1/node").body
        assert described["services"] == SERVICES
        print(f"start: {spent:.2f} s of CPU, {each / 1024:.1f} KiB per service")
        assert (
            len(described["degraded"]) < 100
        )  # others may hold some; nearly all are open, so the numbers mean what they say
    assert spent < CPU_FOR_A_START
    assert each < MEMORY_OF_A_SERVICE


class Clients:
    """A thread that makes so many connections per second, each with one exchange."""

    def __init__(self, port: int) -> None:
        self.made = 0
        self.errors: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / NEW_CONNECTIONS
            data = b"%09d" % self.made
            try:
                with socket.create_connection(("127.0.0.1", self._port), 10) as client:
                    client.sendall(data)
                    if client.recv(9) != data:
                        self.errors.append(f"connection {self.made} was not answered")
            except OSError as error:
                self.errors.append(f"connection {self.made}: {error}")
            self.made += 1


@pytest.mark.slow
def test_a_thousand_services_come_and_go_and_new_connections_to_another_do_not_notice(
    serve: Serve, backend: MakeBackend
) -> None:
    daemon = serve(quarantine=0.0)
    api = daemon.api
    port = api.create("steady").body["port"]
    assert api.put("steady", "b", backend().address).status == 201
    with Clients(port) as clients:
        for n in range(SERVICES):
            assert api.create(f"{('tcp', 'udp', 'both')[n % 3]}-{n}").status == 201
            if n >= 10:
                gone = n - 10
                assert api("DELETE", f"/v1/services/{('tcp', 'udp', 'both')[gone % 3]}-{gone}").status == 204
    print(f"{clients.made} connections")
    assert clients.errors == []
    assert clients.made > 100
    assert len(api.services()) == 11
    closed = api.services()["steady"]["closed"]
    eventually(lambda: api.services()["steady"]["closed"] == {"client_closed": clients.made}, what=str(closed))
    daemon.stop()
