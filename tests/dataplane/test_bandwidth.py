"""Bandwidth of real connections: nothing is lost, nothing is faster than it may be, and changes are live."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest

from harbor.model import Drop
from harbor.policy.meter import LEAST_BURST
from support.plane import RunningPlane
from support.sockets import address_of, receive_all, receive_exactly
from support.waiting import eventually

RATE = 200_000  # bytes per second
SIZE = 120_000
TEXT = bytes(range(256)) * (SIZE // 256 + 1)


def most_after(seconds: float, rate: int = RATE) -> float:
    """What may have passed: the rate and one burst."""
    return rate * seconds + max(rate / 10, LEAST_BURST)


def send_apart(sock: socket.socket, data: bytes = TEXT) -> Callable[[], None]:
    """Send from a thread and end; returns what waits for that."""

    def send() -> None:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread.join


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("whose", ["session", "service"])
def test_a_paced_stream_arrives_whole_and_no_faster_than_it_may(plane: RunningPlane, whose: str, way: str) -> None:
    backend = plane.listening()
    port = plane.open(bandwidth={f"{whose}_{way}": RATE})
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    source, sink = (near, far) if way == "up" else (far, near)
    began = time.monotonic()
    join = send_apart(source)
    got = b""
    while len(got) < len(TEXT):
        got += sink.recv(65_536)
        assert len(got) <= most_after(time.monotonic() - began)
    assert got == TEXT
    assert sink.recv(1) == b""
    join()
    sink.sendall(b"the other way is free" * 1000)
    sink.shutdown(socket.SHUT_WR)
    assert receive_all(source) == b"the other way is free" * 1000


def test_sessions_share_the_bandwidth_of_their_service_in_turn(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(bandwidth={"service_down": RATE})
    plane.backends(port, [address_of(backend)])
    pairs = [plane.session(port, backend) for _ in range(4)]
    began = time.monotonic()
    joins = [send_apart(far) for _, far in pairs]
    counts = [0] * len(pairs)
    while min(counts) < SIZE // 8:
        for number, (near, _) in enumerate(pairs):
            with contextlib.suppress(BlockingIOError):
                counts[number] += len(near.recv(65_536, socket.MSG_DONTWAIT))
        assert sum(counts) <= most_after(time.monotonic() - began)
    assert max(counts) <= 2 * min(counts) + 65_536
    plane.kill()
    for join in joins:
        join()


def test_a_change_is_in_force_at_once_for_sessions_that_live(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    far.sendall(b"free")
    assert receive_exactly(near, 4) == b"free"
    plane.set_policy(port, bandwidth={"session_down": 1})
    join = send_apart(far, bytes(3_000_000))
    assert receive_exactly(near, 1000) == bytes(1000)
    eventually(lambda: plane.counters(port).bytes_out >= LEAST_BURST)
    assert plane.counters(port).bytes_out < 2 * LEAST_BURST
    plane.set_policy(port)
    assert len(receive_all(near)) == 3_000_000 - 1000
    join()


def test_a_paced_session_that_is_killed_leaves_nothing(plane: RunningPlane) -> None:
    before = plane.call(plane.plane.reactor.watched)
    backend = plane.listening()
    port = plane.open(bandwidth={"session_up": 1, "service_up": 1})
    plane.backends(port, [address_of(backend)])
    pairs = [plane.session(port, backend) for _ in range(5)]
    joins = [send_apart(near) for near, _ in pairs]
    eventually(lambda: plane.counters(port).bytes_in >= LEAST_BURST)
    assert plane.kill() == 5
    for join in joins:
        join()
    plane.close_port(port)
    eventually(lambda: plane.call(plane.plane.reactor.watched) == before)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("whose", ["session", "service"])
def test_datagrams_over_the_bandwidth_are_dropped_and_counted(plane: RunningPlane, whose: str, way: str) -> None:
    backend, client = plane.datagrams(), plane.datagrams()
    port = plane.open("udp", bandwidth={f"{whose}_{way}": 1})
    plane.backends(port, [address_of(backend)])
    client.sendto(b"hello", ("127.0.0.1", port))
    _, flow = backend.recvfrom(100)
    source, sink, to = (client, backend, ("127.0.0.1", port)) if way == "up" else (backend, client, flow)
    for number in range(20):
        source.sendto(bytes([number]) * 1000, to)
    eventually(lambda: plane.counters(port).dropped.get(Drop.BANDWIDTH, 0) >= 15)
    passed = 20 - plane.counters(port).dropped[Drop.BANDWIDTH]
    assert passed * 1000 < LEAST_BURST + 1000
    for number in range(passed):
        assert sink.recv(2000) == bytes([number]) * 1000
    back, forth = (backend, client) if way == "up" else (client, backend)
    back.sendto(bytes(30_000), flow if way == "up" else ("127.0.0.1", port))
    assert forth.recv(65_535) == bytes(30_000)


def test_new_flows_share_the_bandwidth_of_their_service(plane: RunningPlane) -> None:
    backend = plane.datagrams()
    port = plane.open("udp", bandwidth={"service_up": 1})
    plane.backends(port, [address_of(backend)])
    for _ in range(10):
        plane.datagrams().sendto(bytes(1000), ("127.0.0.1", port))
    eventually(lambda: plane.counters(port).dropped.get(Drop.BANDWIDTH, 0) + plane.counters(port).opened == 10)
    assert plane.counters(port).opened == 5
    plane.set_policy(port)
    plane.datagrams().sendto(bytes(1000), ("127.0.0.1", port))
    eventually(lambda: plane.counters(port).opened == 6)
