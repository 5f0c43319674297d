"""TCP clients that wait for a service that is full: in order, each once, and no longer than they may."""

from __future__ import annotations

import select
import socket
import ssl
from pathlib import Path

import pytest

from harbor.model import Address, Reason
from support.backends import echo
from support.certificates import issue, terms
from support.plane import RunningPlane
from support.sockets import address_of, ends, free_port, is_silent, receive_all, receive_exactly, reset
from support.waiting import eventually

FULL = {"max_sessions": 1}
BUSY = {"max_sessions_per_backend": 1}
LONG = {"size": 100, "timeout": 600}


def waiting(plane: RunningPlane, port: int, count: int) -> None:
    eventually(lambda: [one.state for one in plane.sessions(service_id=str(port))].count("waiting") == count)


def line_of(plane: RunningPlane, port: int, count: int) -> list[socket.socket]:
    """So many clients, who wait in this order."""
    clients = []
    for number in range(count):
        client = plane.client(port)
        client.sendall(bytes([number]))
        clients.append(client)
        waiting(plane, port, number + 1)
    return clients


def shaken(plane: RunningPlane, port: int) -> ssl.SSLSocket:
    """A client that has shaken hands, and does not care with whom."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_socket(plane.client(port))
    plane.keep(client)
    return client


@pytest.mark.parametrize("limit", [FULL, BUSY], ids=["service", "backend"])
def test_B09_who_waits_gets_its_turn_in_order_when_a_place_is_free(plane: RunningPlane, limit: dict[str, int]) -> None:
    backend = plane.listening()
    port = plane.open(queue=LONG, **limit)
    plane.backends(port, [address_of(backend)])
    near, _ = plane.session(port, backend)
    for number, client in enumerate(line_of(plane, port, 4)):
        assert is_silent(client)
        reset(near)  # one place
        far = plane.keep(backend.accept()[0])
        assert receive_exactly(far, 1) == bytes([number])
        far.sendall(b"your turn")
        assert receive_exactly(client, 9) == b"your turn"
        waiting(plane, port, 3 - number)  # one only
        near = client
    reset(near)
    plane.await_end(port, Reason.CLIENT_RESET, 5)


@pytest.mark.parametrize("limit", [FULL, BUSY], ids=["service", "backend"])
def test_B09_in_a_crowd_each_is_served_once_and_never_more_than_may_be(
    plane: RunningPlane, limit: dict[str, int]
) -> None:
    backends = [plane.backend(echo) for _ in range(2)]
    limits = {name: count * (2 if name == "max_sessions" else 1) for name, count in limit.items()}
    port = plane.open(queue=LONG, **limits)
    plane.backends(port, [backend.address for backend in backends])
    clients = [plane.client(port) for _ in range(60)]
    for client in clients:
        client.sendall(b"!")
    while clients:
        served, _, _ = select.select(clients, [], [], 10)
        views = plane.sessions(service_id=str(port))
        assert 0 < len(served) <= 2
        assert [view.state for view in views].count("waiting") >= len(views) - 2
        for client in served:
            assert receive_exactly(client, 1) == b"!"
            clients.remove(client)
            client.close()
    plane.await_active(port, 0)
    assert sum(backend.accepted for backend in backends) == 60
    assert sum(plane.closed(port).values()) == 60


def test_who_finds_the_line_full_is_refused(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(queue={"size": 2, "timeout": 600}, **FULL)
    busy = plane.open(queue={"size": 1, "timeout": 600}, **BUSY)
    for number in (port, busy):
        plane.backends(number, [address_of(backend)])
        plane.session(number, backend)
    line_of(plane, port, 2)
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_SERVICE)
    line_of(plane, busy, 1)
    assert ends(plane.client(busy)) == "end"
    plane.await_end(busy, Reason.LIMIT_BACKEND)


def test_who_has_waited_too_long_is_told_so(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(queue={"size": 5, "timeout": 0.2}, **FULL)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.QUEUE_TIMEOUT)
    near.sendall(b"undisturbed")
    assert receive_exactly(far, 11) == b"undisturbed"


def test_a_page_says_what_became_of_the_wait(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(queue={"size": 1, "timeout": 0.3}, http=True, **FULL)
    plane.backends(port, [address_of(backend)])
    plane.session(port, backend)
    first, second = plane.client(port), plane.client(port)
    answers = [receive_all(second), receive_all(first)]
    assert all(answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") for answer in answers)
    assert b"as many connections as it may have" in answers[0]
    assert b"stayed busy for as long as a connection may wait" in answers[1]
    assert plane.closed(port) == {Reason.LIMIT_SERVICE: 1, Reason.QUEUE_TIMEOUT: 1}


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["end", "reset"])
def test_A12_who_leaves_while_it_waits_frees_its_place(plane: RunningPlane, leave: object) -> None:
    backend = plane.listening()
    port = plane.open(queue={"size": 1, "timeout": 600}, **FULL)
    plane.backends(port, [address_of(backend)])
    near, _ = plane.session(port, backend)
    impatient = plane.client(port)
    waiting(plane, port, 1)
    assert callable(leave)
    leave(impatient)
    plane.await_end(port, Reason.CLIENT_RESET)
    patient = plane.client(port)
    patient.sendall(b"!")
    patient.shutdown(socket.SHUT_WR)  # has said all, and waits for an answer
    waiting(plane, port, 1)
    reset(near)
    far = plane.keep(backend.accept()[0])
    assert receive_all(far) == b"!"
    far.sendall(b"served")
    assert receive_exactly(patient, 6) == b"served"


def test_A12_in_http_who_has_ended_waits_for_nothing(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(queue=LONG, http=True, **FULL)
    plane.backends(port, [address_of(backend)])
    plane.session(port, backend)
    client = plane.client(port)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    waiting(plane, port, 1)
    client.close()
    plane.await_end(port, Reason.CLIENT_RESET)


def test_over_tls_one_waits_after_the_handshake(plane: RunningPlane, tmp_path: Path) -> None:
    backend = plane.backend(echo)
    port = plane.open(tls=terms(issue(tmp_path, "harbor.test")), queue=LONG, **FULL)
    plane.backends(port, [backend.address])
    first = shaken(plane, port)
    first.sendall(b"1")
    assert receive_exactly(first, 1) == b"1"
    second = shaken(plane, port)
    second.sendall(b"2")
    waiting(plane, port, 1)
    first.close()
    assert receive_exactly(second, 1) == b"2"
    second.close()


def test_the_line_follows_the_policy_and_the_backends(plane: RunningPlane) -> None:
    backends = [plane.backend(echo) for _ in range(3)]
    port = plane.open(queue=LONG, **BUSY)
    plane.backends(port, [backends[0].address])
    first = plane.client(port)
    plane.await_open(port)
    second, third, fourth = line_of(plane, port, 3)
    plane.backends(port, [backend.address for backend in backends[:2]])  # one comes
    assert receive_exactly(second, 1) == b"\0"
    waiting(plane, port, 2)
    plane.set_policy(port, **BUSY)  # no line any more: who stands in it stays, others do not
    assert ends(plane.client(port)) == "end"
    waiting(plane, port, 2)
    plane.set_policy(port, max_sessions_per_backend=2)
    assert receive_exactly(third, 1) == b"\1"
    assert receive_exactly(fourth, 1) == b"\2"
    first.sendall(b"alive")
    assert receive_exactly(first, 5) == b"alive"


def test_while_there_is_no_backend_those_who_wait_go_on_waiting(plane: RunningPlane) -> None:
    backends = [plane.backend(echo) for _ in range(2)]
    port = plane.open(queue=LONG, **BUSY)
    plane.backends(port, [backends[0].address])
    first = plane.client(port)
    plane.await_open(port)
    (second,) = line_of(plane, port, 1)
    plane.backends(port, [])
    reset(first)
    plane.await_end(port, Reason.CLIENT_RESET)
    assert is_silent(second)
    plane.backends(port, [backends[1].address])
    assert receive_exactly(second, 1) == b"\0"


def test_who_meets_a_dead_backend_while_the_others_are_full_may_wait_too(plane: RunningPlane) -> None:
    backend = plane.backend(echo)
    dead = Address("127.0.0.1", free_port())
    port = plane.open(queue=LONG, **BUSY)
    plane.backends(port, [backend.address, dead])
    first = plane.client(port)
    plane.await_open(port)
    second = plane.client(port)
    second.sendall(b"2")
    waiting(plane, port, 1)
    reset(first)
    assert receive_exactly(second, 1) == b"2"


def test_those_who_wait_end_with_their_service(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(queue=LONG, **FULL)
    plane.backends(port, [address_of(backend)])
    plane.session(port, backend)
    clients = line_of(plane, port, 3)
    assert plane.kill(session_id=plane.sessions()[-1].id) == 1
    assert ends(clients[-1]) == "reset"
    plane.close_port(port)
    assert [ends(client) for client in clients[:2]] == ["reset", "reset"]
    backend.settimeout(0.1)
    with pytest.raises(TimeoutError):
        backend.accept()  # nobody's turn came by that


def test_J02_twice_as_many_idle_clients_as_a_service_takes_leave_the_others_alone(plane: RunningPlane) -> None:
    backend = plane.backend(echo)
    crowded, other = plane.open(max_sessions=50, queue={"size": 50, "timeout": 600}), plane.open()
    for port in (crowded, other):
        plane.backends(port, [backend.address])
    for _ in range(150):
        plane.client(crowded)
    eventually(lambda: plane.closed(crowded) == {Reason.LIMIT_SERVICE: 50})
    waiting(plane, crowded, 50)
    for _ in range(20):
        with plane.client(other) as client:
            client.sendall(b"ping")
            assert receive_exactly(client, 4) == b"ping"
    eventually(lambda: plane.plane.descriptors.used == 2 * 100)
