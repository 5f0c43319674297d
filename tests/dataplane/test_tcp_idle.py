"""Sessions in which nothing moves: left alone, cut when asked to, and found out when a peer is dead."""

from __future__ import annotations

import contextlib
import socket

import pytest

import harbor
from harbor.dataplane.sockets import Liveness
from harbor.model import Reason
from support.needs import SETTLED, plain_source
from support.plane import Planes, RunningPlane
from support.sockets import address_of, ends, go_deaf, receive_exactly, reset
from support.waiting import eventually

QUICK = Liveness(idle=1, interval=1, probes=100, unacked=2)  # it is ``unacked`` that counts, not ``probes``
OPTIONS = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


@pytest.fixture
def quick_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions grow up at once."""
    if harbor.is_compiled:
        pytest.skip(SETTLED)
    monkeypatch.setattr("harbor.dataplane.tcp.GROWN_UP", 0.05)
    monkeypatch.setattr("harbor.dataplane.tcp.SWEEP", 0.05)


def test_A13_an_idle_session_is_cut_on_both_sides(plane: RunningPlane, host: str) -> None:
    port, near, far = plane.pair(host, idle_timeout=0.2)
    near.sendall(b"once")
    assert receive_exactly(far, 4) == b"once"
    assert ends(near) == "reset"
    assert ends(far) == "reset"
    plane.await_end(port, Reason.IDLE_TIMEOUT)


def test_A14_an_idle_session_is_cut_with_data_stuck_in_it(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(idle_timeout=0.3)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend, receive_buffer=4096)
    while not plane.plane.reactor.held:
        far.sendall(bytes(65_536))
    plane.await_end(port, Reason.IDLE_TIMEOUT)
    assert plane.plane.reactor.held == 0
    assert ends(far) == "reset"
    assert ends(near) == "reset"


@pytest.mark.parametrize("way", ["down", "up"])
def test_A15_a_session_that_moves_in_one_direction_only_is_not_idle(plane: RunningPlane, way: str) -> None:
    backend = plane.listening()
    port = plane.open(idle_timeout=0.4)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    source, sink = (far, near) if way == "down" else (near, far)
    for _ in range(2):  # as long as it takes two others to be cut, one after the other
        idle, _ = plane.session(port, backend)
        before = plane.counters(port).closed.get(Reason.IDLE_TIMEOUT, 0)
        while plane.counters(port).closed.get(Reason.IDLE_TIMEOUT, 0) == before:
            source.sendall(b".")
            assert receive_exactly(sink, 1) == b"."
        assert ends(idle) == "reset"
    assert plane.counters(port).active == 1


def test_A15_without_a_timeout_nothing_is_ever_cut(plane: RunningPlane, quick_age: None) -> None:
    port, near, far = plane.pair()
    eventually(lambda: _sessions(plane, port)[0].moved_before == 0, what="it was looked at")
    far.sendall(b"after a long silence")
    assert receive_exactly(near, 20) == b"after a long silence"


def test_a_timeout_that_is_set_later_holds_for_sessions_that_live(plane: RunningPlane, quick_age: None) -> None:
    port, near, _ = plane.pair()
    plane.set_policy(port, idle_timeout=0.2)
    assert ends(near) == "reset"
    plane.await_end(port, Reason.IDLE_TIMEOUT)


@plain_source
def test_A20_peers_that_lost_power_are_found_out(planes: Planes, quick_age: None) -> None:
    """Three sessions: a silent one loses its backend, a silent one its client, and one its backend while it sends."""
    plane = planes(liveness=QUICK)
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    pairs = [plane.session(port, backend) for _ in range(4)]
    eventually(lambda: all(_keeps_alive(session.backend) for session in _sessions(plane, port)))
    go_deaf(pairs[0][1])
    go_deaf(pairs[1][0])
    go_deaf(pairs[2][1])
    pairs[2][0].sendall(b"is there anybody?")
    eventually(lambda: sum(plane.closed(port).values()) == 3, within=30)
    assert plane.closed(port) == {Reason.BACKEND_RESET: 2, Reason.CLIENT_RESET: 1}
    assert ends(pairs[0][0]) == "reset"
    assert ends(pairs[1][1]) == "reset"
    assert ends(pairs[2][0]) == "reset"
    pairs[3][0].sendall(b"we live")  # silence alone is no reason
    assert receive_exactly(pairs[3][1], 7) == b"we live"


@plain_source
def test_A20_accepted_sockets_inherit_keepalive_and_old_backend_sockets_get_it(
    planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.tcp.SWEEP", 0.05)
    monkeypatch.setattr("harbor.dataplane.tcp.GROWN_UP", 1.0)
    plane = planes(liveness=Liveness(idle=77, interval=7, probes=3, unacked=99))
    port, near, _ = plane.pair()
    expected = {"TCP_KEEPIDLE": 77, "TCP_KEEPINTVL": 7, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 99_000}
    session = _sessions(plane, port)[0]
    client = plane.call(session.client_socket)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert session.backend.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert _keeps_alive(client)
    assert _options(client) == expected
    assert not _keeps_alive(session.backend)  # a short session does without
    eventually(lambda: _keeps_alive(session.backend))
    eventually(lambda: _options(session.backend) == expected)
    reset(near)
    plane.await_end(port, Reason.CLIENT_RESET)


def test_A20_a_session_that_was_dialled_for_long_gets_keepalive_too(plane: RunningPlane, quick_age: None) -> None:
    """It was looked at before it had a backend."""
    backend = plane.listening(backlog=0)
    fillers = [plane.keep(socket.socket()) for _ in range(2)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(backend.getsockname())
    port = plane.open(connect_timeout=30)
    plane.backends(port, [address_of(backend)])
    plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    age = plane.sessions()[0].age
    eventually(lambda: plane.sessions()[0].age > age + 0.3)  # several looks
    for _ in range(2):
        plane.keep(backend.accept()[0])
    plane.await_open(port)
    eventually(lambda: _keeps_alive(_sessions(plane, port)[0].backend))


def _sessions(plane: RunningPlane, port: int) -> list:
    return plane.call(lambda: list(plane.plane._ports[str(port)].tcp.sessions.values()))


def _keeps_alive(sock: socket.SocketType) -> bool:
    return sock is not None and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))


def _options(sock: socket.SocketType) -> dict[str, int]:
    return {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS}


@pytest.mark.parametrize("first", ["client", "backend"])
def test_a_session_of_which_one_side_has_ended_is_cut_sooner(plane: RunningPlane, first: str) -> None:
    backend = plane.listening()
    port = plane.open(half_close_timeout=0.2)
    plane.backends(port, [address_of(backend)])
    whole = plane.session(port, backend)
    near, far = plane.session(port, backend)
    (near if first == "client" else far).shutdown(socket.SHUT_WR)
    assert ends(far if first == "client" else near) == "end"
    plane.await_end(port, Reason.HALF_CLOSE_TIMEOUT)
    whole[0].sendall(b"undisturbed")
    assert receive_exactly(whole[1], 11) == b"undisturbed"


def test_a_half_closed_session_that_moves_goes_on(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(half_close_timeout=0.4)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    near.shutdown(socket.SHUT_WR)
    for _ in range(2):  # as long as it takes two others to be cut, one after the other
        _, other = plane.session(port, backend)
        other.shutdown(socket.SHUT_WR)
        while plane.counters(port).active > 1:
            far.sendall(b".")
            assert receive_exactly(near, 1) == b"."
    assert plane.closed(port) == {Reason.HALF_CLOSE_TIMEOUT: 2}


def test_a_session_that_never_rests_ends_at_its_age(plane: RunningPlane) -> None:
    port, near, far = plane.pair(max_session_age=0.3)
    while not plane.closed(port):
        with contextlib.suppress(OSError):
            near.sendall(b".")
            far.recv(1)
    plane.await_end(port, Reason.MAX_SESSION_AGE)


def test_a_flow_ends_at_its_age_and_begins_anew(plane: RunningPlane) -> None:
    backend, client = plane.datagrams(), plane.datagrams()
    port = plane.open("udp", max_session_age=0.3)
    plane.backends(port, [address_of(backend)])
    sources = set()
    while len(sources) < 2:
        client.sendto(b"x", ("127.0.0.1", port))
        sources.add(backend.recvfrom(10)[1])
    assert plane.closed(port) == {Reason.MAX_SESSION_AGE: 1}
