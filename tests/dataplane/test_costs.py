"""What a TCP session costs: counts, which do not depend on the machine."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from harbor.model import Address
from support.backends import Backend, echo
from support.needs import lacking, needs
from support.sockets import address_of, connected, listening, on_free_port, receive_exactly
from support.waiting import eventually

SCRIPT: Final = Path(__file__).parents[1] / "support" / "measured_plane.py"
PAYLOAD: Final = {"recvfrom", "sendto", "recvmsg", "sendmsg", "read", "readv", "write"}  # may be counted apart
WAITS: Final = {"epoll_wait", "epoll_pwait"}
# What a session tells the plane: a client is there, its bytes, its end; a backend is there, its bytes, its end. A wait
# that ends has something of it, or a timer: how much comes at once depends on who else is busy, so no bound is lower.
NEWS: Final = 6
TIMERS: Final = 1
SESSIONS: Final = 200
MESSAGES: Final = 1_000
HELD: Final = 500
Drive = Callable[[Address], None]
IDLE: Final = 4_000


@contextlib.contextmanager
def measured_plane(
    backend: Address, *prefix: str, command: tuple[str, ...] = (sys.executable,)
) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """A plane in a process of its own, started by the command ``prefix``, and where it listens."""
    with subprocess.Popen(
        [*prefix, *command, str(SCRIPT), backend.host, str(backend.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, Address("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(30)
        assert process.returncode == 0


def one_by_one(address: Address) -> None:
    for _ in range(SESSIONS):
        with connected(address) as client:
            client.sendall(b"ping")
            assert receive_exactly(client, 4) == b"ping"


def all_together(address: Address) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(address)) for _ in range(SESSIONS)]
        for client in clients:
            client.sendall(b"ping")
        for client in clients:
            assert receive_exactly(client, 4) == b"ping"
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            assert receive_exactly(client, 1) == b""


def many_messages(address: Address) -> None:
    with connected(address) as client:
        for _ in range(MESSAGES):
            client.sendall(b"ping")
            assert receive_exactly(client, 4) == b"ping"


def nothing(_address: Address) -> None:
    pass


def system_calls(tmp_path: Path, address: Address, drive: Drive) -> dict[str, int]:
    """Which system calls the plane makes while ``drive`` uses it, start and end of the process included."""
    table = tmp_path / "calls"
    with measured_plane(address, needs("strace"), "-f", "-c", "-U", "name,calls", "-o", str(table)) as (_, port):
        drive(port)
    rows = [line.split() for line in table.read_text().splitlines()[2:]]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total"}


@pytest.fixture
def one_processor() -> Iterator[None]:
    """All that this test starts takes turns on one processor, so that wake-ups do not depend on a race."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_processor")
@pytest.mark.parametrize("drive", [one_by_one, all_together])
def test_a_session_costs_less_than_twelve_system_calls_besides_its_payload_and_waits_for_news_only(
    tmp_path: Path, drive: Drive
) -> None:
    # A port that is nobody's source port, as backends usually have; any other costs one call more.
    with contextlib.closing(on_free_port(lambda port: Backend(echo, port=port))) as backend:
        before = system_calls(tmp_path, backend.address, nothing)
        after = system_calls(tmp_path, backend.address, drive)
        assert backend.accepted == SESSIONS
    spent = {name: (count - before.get(name, 0)) / SESSIONS for name, count in after.items()}
    spent = {name: count for name, count in spent.items() if count > 0 and name not in PAYLOAD}
    waits = sum(count for name, count in spent.items() if name in WAITS)
    assert spent["accept4"] >= 1  # strace saw the sessions
    assert sum(spent.values()) - waits < 12, spent
    assert waits <= NEWS + TIMERS, spent


@pytest.mark.usefixtures("one_processor")
def test_a_message_costs_one_read_and_one_write(tmp_path: Path) -> None:
    """There and back: two of each, and nothing besides but waiting."""
    with contextlib.closing(Backend(echo)) as backend:
        calls = system_calls(tmp_path, backend.address, many_messages)
        assert MESSAGES * 2 <= calls["readv"] <= MESSAGES * 2 + 5
        assert MESSAGES * 2 <= calls["write"] <= MESSAGES * 2 + 20  # the log's and stdout's are among them
        before = system_calls(tmp_path, backend.address, nothing)
        others = {name: count - before.get(name, 0) for name, count in calls.items() if name not in PAYLOAD | WAITS}
        assert sum(count for count in others.values() if count > 0) < MESSAGES / 10, others


def test_a_session_is_at_most_fourteen_allocations_and_leaves_none_behind() -> None:
    tracing = (sys.executable, "-X", "tracemalloc")
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(contextlib.closing(Backend(echo)))
        process, address = stack.enter_context(measured_plane(backend.address, command=tracing))

        def allocated() -> tuple[int, int]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            blocks, size = process.stdout.readline().split()
            return int(blocks), int(size)

        def sessions(count: int) -> contextlib.ExitStack:
            held = contextlib.ExitStack()
            for _ in range(count):
                client = held.enter_context(connected(address))
                client.sendall(b"ping")
                assert receive_exactly(client, 4) == b"ping"
            return held

        sessions(HELD).close()  # what the first ones need once is not counted
        eventually(lambda: not backend.live)
        before = allocated()
        held = sessions(HELD)
        during = allocated()
        held.close()
        eventually(lambda: not backend.live)
        assert (during[0] - before[0]) / HELD <= 14
        assert (during[1] - before[1]) / HELD <= 1024
        assert during[0] > before[0] + HELD
        eventually(lambda: allocated()[0] - before[0] < HELD)


def test_an_idle_session_costs_at_most_a_kibibyte() -> None:
    enough = 2 * IDLE + 500
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < enough + 300:  # the plane needs as many, and keeps a reserve
        lacking(f"this test needs {enough + 300} descriptors; the hard limit is {limits[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(enough, limits[0]), limits[1]))
    try:
        with contextlib.ExitStack() as stack:
            backend = stack.enter_context(listening(backlog=1024))
            process, address = stack.enter_context(measured_plane(address_of(backend)))

            def open_sessions(count: int) -> None:
                for _ in range(count):
                    client = stack.enter_context(connected(address))
                    far = stack.enter_context(backend.accept()[0])
                    client.sendall(b"x")
                    assert receive_exactly(far, 1) == b"x"

            open_sessions(100)  # what the first ones need once is not counted
            before = anonymous_memory(process.pid)
            open_sessions(IDLE)
            after = anonymous_memory(process.pid)
            assert (after - before) / IDLE <= 1024
            assert after > before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def anonymous_memory(pid: int) -> int:
    """Bytes that the process has for itself."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("smaps_rollup has no line Anonymous")
