"""What the node may ask of the plane: bind, open, release, kill, look, stop, close."""

from __future__ import annotations

import socket

import pytest

from harbor.errors import PortTaken
from harbor.model import Address, Opening, Policy, Protocol, Reason, Route
from support.backends import greeting
from support.plane import RunningPlane
from support.sockets import address_of, datagrams, ends, is_silent, listening, receive_all, receive_exactly, reset
from support.waiting import eventually


def bind(plane: RunningPlane, port: int, protocol: str, host: str = "127.0.0.1", service_id: str = "s1") -> None:
    plane.call(lambda: plane.plane.bind(Opening(service_id, "name", Protocol(protocol), host, port, Policy())))


@pytest.mark.parametrize("taken", ["tcp", "udp"])
def test_both_halves_of_a_port_are_bound_or_neither(plane: RunningPlane, taken: str) -> None:
    number = plane.free_number()
    plane.keep(listening(port=number) if taken == "tcp" else datagrams(port=number))
    with pytest.raises(PortTaken, match=f"{taken.upper()} port {number} on 127.0.0.1 is in use"):
        bind(plane, number, "both")
    assert not plane.plane.is_bound("s1")
    free = "udp" if taken == "tcp" else "tcp"
    bind(plane, number, free)  # the other half was given back


def test_a_port_that_is_only_somebodys_source_port_is_taken_all_the_same(plane: RunningPlane) -> None:
    far = plane.listening()
    near = plane.keep(socket.create_connection(address_of(far)[:2], timeout=10))
    with pytest.raises(PortTaken):
        bind(plane, address_of(near).port, "tcp")


@pytest.mark.parametrize(
    ("host", "why"), [("203.0.113.7", "does not have that address"), ("2001:db8::7", "does not have that address")]
)
def test_why_a_port_cannot_be_bound_is_said(plane: RunningPlane, host: str, why: str) -> None:
    for protocol in ("tcp", "udp"):
        with pytest.raises(PortTaken, match=why):
            bind(plane, 20_000, protocol, host)


def test_clients_that_come_between_bind_and_open_are_served(plane: RunningPlane) -> None:
    port = plane.free_number()
    bind(plane, port, "tcp", service_id=str(port))
    client = plane.client(port)
    plane.backends(port, [plane.backend(greeting(b"hello")).address])
    assert is_silent(client)
    plane.call(lambda: plane.plane.open(str(port)))
    assert receive_exactly(client, 5) == b"hello"


def test_one_port_carries_both_protocols(plane: RunningPlane) -> None:
    port = plane.open("both")
    number = plane.free_number()
    receiver, acceptor = plane.datagrams(port=number), plane.listening(port=number)
    plane.backends(port, [address_of(receiver)])
    near, far = plane.session(port, acceptor)
    client = plane.datagrams()
    client.sendto(b"datagram", ("127.0.0.1", port))
    assert receiver.recv(100) == b"datagram"
    near.sendall(b"stream")
    assert receive_exactly(far, 6) == b"stream"
    eventually(lambda: plane.counters(port).bytes_in == 14)
    counters = plane.counters(port)
    assert (counters.opened, counters.active, counters.active_by_backend) == (2, 2, {"b1": 2})
    assert plane.plane.session_count() == 2
    assert plane.plane.connection_count() == 1
    assert [view.protocol for view in plane.sessions()] == [Protocol.TCP, Protocol.UDP]


@pytest.mark.parametrize(
    ("query", "killed"),
    [
        ({}, {0, 1, 2, 3}),
        ({"service_id": "one"}, {0, 1}),
        ({"backend_id": "b2"}, {1, 3}),
        ({"client": "127.0.0.2"}, {1, 2}),
        ({"client": "127.0.0.0/30", "service_id": "other", "backend_id": "b1"}, {2}),
        ({"client": "::1"}, set()),
        ({"session_id": "2"}, {1}),
        ({"session_id": "99"}, set()),
    ],
)
def test_kill_ends_what_matches_and_nothing_else(plane: RunningPlane, query: dict[str, str], killed: set[int]) -> None:
    backend = plane.listening()
    one, other = plane.open(), plane.open()
    for port in (one, other):
        plane.backends(port, [address_of(backend)] * 2)
    sources = ["127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.1"]
    pairs = []
    for number, (port, source) in enumerate(zip((one, one, other, other), sources, strict=True), start=1):
        pairs.append(plane.session(port, backend, source=source))
        eventually(lambda: [view.state for view in plane.sessions()].count("open") == number)  # noqa: B023
    if "service_id" in query:
        query = query | {"service_id": str(one if query["service_id"] == "one" else other)}
    assert {int(view.id) - 1 for view in plane.sessions(**query)} == killed
    assert plane.kill(**query) == len(killed)
    for number, (near, far) in enumerate(pairs):
        if number in killed:
            assert ends(near) == ends(far) == "reset"
        else:
            near.sendall(b"alive")
            assert receive_exactly(far, 5) == b"alive"
    closed = plane.closed(one).get(Reason.KILLED, 0) + plane.closed(other).get(Reason.KILLED, 0)
    assert closed == len(killed)


def test_a_session_that_is_still_dialled_can_be_killed(plane: RunningPlane) -> None:
    full = plane.listening(backlog=0)
    fillers = [plane.keep(socket.socket()) for _ in range(2)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    port = plane.open(connect_timeout=60)
    plane.backends(port, [address_of(full)])
    client = plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    assert plane.kill() == 1
    assert ends(client) == "reset"
    plane.await_end(port, Reason.KILLED)
    assert plane.observer.failures == []


@pytest.mark.parametrize(("within", "reason"), [(0, Reason.BACKEND_REMOVED), (0.2, Reason.DRAINED)])
def test_B05_a_released_backend_loses_its_sessions(plane: RunningPlane, within: float, reason: Reason) -> None:
    backend, stays = plane.listening(), plane.listening()
    port = plane.open()
    routes = [Route("leaves", address_of(backend)), Route("stays", address_of(stays))]
    plane.routes(port, routes)
    near, far = plane.session(port, backend)
    kept = plane.session(port, stays)
    plane.await_open(port, 2)
    plane.routes(port, routes[1:])
    plane.release(port, "leaves", within)
    assert ends(near) == ends(far) == "reset"
    plane.await_end(port, reason)
    kept[0].sendall(b"undisturbed")
    assert receive_exactly(kept[1], 11) == b"undisturbed"


def test_B05_sessions_of_a_backend_that_leaves_end_one_after_the_other(
    plane: RunningPlane,
) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.routes(port, [Route("leaves", address_of(backend))])
    pairs = [plane.session(port, backend) for _ in range(20)]
    plane.await_open(port, 20)
    ids = [session.id for session in plane.sessions()]
    plane.routes(port, [])
    plane.release(port, "leaves", 1.5)
    eventually(lambda: 0 < plane.counters(port).active < 20)
    left = [session.id for session in plane.sessions()]
    assert left == ids[-len(left) :]
    pairs[-1][0].sendall(b"undisturbed")
    assert receive_exactly(pairs[-1][1], 11) == b"undisturbed"
    plane.await_end(port, Reason.DRAINED, 20)


def test_B05_a_backend_that_comes_back_keeps_its_new_sessions(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    routes = [Route("b1", address_of(backend))]
    plane.routes(port, routes)
    old = plane.session(port, backend)
    plane.await_open(port)
    plane.routes(port, [])
    plane.release(port, "b1", 0.2)
    plane.routes(port, routes)
    new = plane.session(port, backend)
    assert ends(old[0]) == "reset"
    plane.await_end(port, Reason.DRAINED)
    new[0].sendall(b"here")
    assert receive_exactly(new[1], 4) == b"here"


def test_B05_keep_means_as_long_as_they_like(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    plane.routes(port, [])
    plane.release(port, "b1", None)
    near.sendall(b"still here")
    assert receive_exactly(far, 10) == b"still here"
    assert plane.counters(port).active_by_backend == {"b1": 1}
    near.close()
    assert receive_all(far) == b""


def test_B05_a_udp_flow_whose_backend_is_cut_ends_at_once(plane: RunningPlane) -> None:
    backend, client = plane.datagrams(), plane.datagrams()
    port = plane.open("udp")
    plane.backends(port, [address_of(backend)])
    client.sendto(b"x", ("127.0.0.1", port))
    backend.recv(10)
    plane.routes(port, [])
    plane.release(port, "b1", 0)
    assert plane.closed(port) == {Reason.BACKEND_REMOVED: 1}


def test_a_closed_port_resets_its_sessions_and_is_free_at_once(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    other, *neighbours = plane.pair()
    plane.close_port(port)
    assert ends(near) == ends(far) == "reset"
    assert plane.sessions(service_id=str(port)) == []
    assert plane.counters(port).opened == 0
    with pytest.raises(ConnectionRefusedError):
        plane.client(port)
    plane.open(port=port)
    neighbours[0].sendall(b"undisturbed")
    assert receive_exactly(neighbours[1], 11) == b"undisturbed"
    assert plane.counters(other).active == 1


def test_an_end_of_listening_leaves_sessions_and_flows(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    backend, client = plane.datagrams(), plane.datagrams()
    udp = plane.open("both")
    plane.backends(udp, [address_of(backend)])
    plane.call(plane.plane.stop_listening)
    for number in (port, udp):
        with pytest.raises(ConnectionRefusedError):
            plane.client(number)
    near.sendall(b"go on")
    assert receive_exactly(far, 5) == b"go on"
    client.sendto(b"you too", ("127.0.0.1", udp))
    assert backend.recv(10) == b"you too"
    plane.close_port(port, Reason.SHUTDOWN)  # closing what listens no more is no trouble
    plane.close_port(udp, Reason.SHUTDOWN)
    assert ends(near) == "reset"


def test_a_service_without_a_port_is_left_alone(plane: RunningPlane) -> None:
    nobody = 1
    plane.close_port(nobody)
    plane.release(nobody, "b1", 0)
    plane.set_policy(nobody)
    plane.call(lambda: plane.plane.set_backends("1", [Route("b1", Address("127.0.0.1", 9))]))
    assert plane.counters(nobody).opened == 0
    assert plane.call(lambda: plane.plane.active("1")) == {}


def test_a_session_is_shown_as_it_is(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    near.sendall(b"12345")
    assert receive_exactly(far, 5) == b"12345"
    far.sendall(b"123")
    assert receive_exactly(near, 3) == b"123"
    eventually(lambda: plane.sessions()[0].bytes_out == 3)
    (view,) = plane.sessions()
    assert view.service_id == str(port)
    assert (view.protocol, view.state, view.backend_id) == (Protocol.TCP, "open", "b1")
    assert view.client == address_of(near)
    assert view.backend == address_of(far)
    assert (view.bytes_in, view.bytes_out) == (5, 3)
    assert view.age >= 0
    reset(near)
    eventually(lambda: plane.counters(port).active == 0)
    counters = plane.counters(port)
    assert (counters.opened, counters.bytes_in, counters.bytes_out) == (1, 5, 3)
