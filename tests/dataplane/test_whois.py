"""Whose connection a backend sees, by the address of its peer."""

from __future__ import annotations

import socket

from harbor.dataplane.whois import PIECE
from harbor.model import Address, SessionQuery, SessionView
from support.plane import RunningPlane
from support.sockets import address_of
from support.waiting import eventually


def whois(plane: RunningPlane, local: Address, port: int | None = None) -> list[SessionView]:
    query = SessionQuery(service_id=None if port is None else str(port))
    return plane.call(lambda: [view for view in plane.plane.whois(local, query) if view is not None])


def peer_of(sock: socket.socket) -> Address:
    return Address(*sock.getpeername()[:2])


def test_a_connection_leads_to_its_client(plane: RunningPlane, host: str) -> None:
    backend = plane.listening(host)
    port = plane.open(host=host)
    plane.backends(port, [address_of(backend)])
    for near, far in [plane.session(port, backend, host=host) for _ in range(3)]:
        (view,) = whois(plane, peer_of(far))
        assert (view.client, view.service_id) == (address_of(near), str(port))
        assert [view.client for view in whois(plane, peer_of(far), port)] == [address_of(near)]
        assert whois(plane, address_of(near)) == []


def test_a_flow_leads_to_its_client(plane: RunningPlane, host: str) -> None:
    backend = plane.datagrams(host)
    port = plane.open("udp", host=host)
    plane.backends(port, [address_of(backend)])
    client = plane.datagrams(host)
    client.sendto(b"x", (host, port))
    _, flow = backend.recvfrom(10)
    (view,) = whois(plane, Address(*flow[:2]))
    assert view.client == address_of(client)
    assert [view.protocol for view in whois(plane, Address(*flow[:2]), port)] == ["udp"]


def test_a_session_that_ended_leads_nowhere(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    local = peer_of(far)
    assert len(whois(plane, local)) == 1
    near.close()
    far.close()
    plane.await_active(port, 0)
    assert whois(plane, local) == []


def test_a_dial_under_way_counts_as_well(plane: RunningPlane) -> None:
    """A backend may ask before this side has learned that it accepted."""
    full = plane.listening(backlog=0)
    for _ in range(2):
        filler = plane.keep(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    port = plane.open()
    plane.backends(port, [address_of(full)])
    client = plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    (local,) = plane.call(lambda: [Address(*dial.attempt.getsockname()) for dial in plane.plane.dialling])
    (view,) = whois(plane, local)
    assert (view.client, view.state) == (address_of(client), "connecting")


def test_the_search_gives_way_after_each_piece(plane: RunningPlane) -> None:
    backend = plane.datagrams()
    port = plane.open("udp")
    plane.backends(port, [address_of(backend)])
    for _ in range(PIECE + 1):
        plane.datagrams().sendto(b"x", ("127.0.0.1", port))
    plane.await_active(port, PIECE + 1)
    nobody = Address("127.0.0.1", 1)
    assert plane.call(lambda: list(plane.plane.whois(nobody, SessionQuery()))) == [None]


def test_sessions_may_end_while_the_search_gives_way(plane: RunningPlane) -> None:
    backend = plane.datagrams()
    port = plane.open("udp")
    plane.backends(port, [address_of(backend)])
    for _ in range(2 * PIECE):
        plane.datagrams().sendto(b"x", ("127.0.0.1", port))
    plane.await_active(port, 2 * PIECE)
    search = plane.call(lambda: plane.plane.whois(Address("127.0.0.1", 1), SessionQuery()))
    assert plane.call(lambda: next(search)) is None
    plane.close_port(port)
    assert plane.call(lambda: list(search)) == [None]
