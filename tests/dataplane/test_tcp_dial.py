"""How a TCP session finds its backend: in turn, each once, within one budget, and without a word to the client."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections import Counter

import pytest

from harbor.dataplane.sockets import IP_LOCAL_PORT_RANGE, local_port_range
from harbor.model import Address, Reason, Route
from support.backends import greeting
from support.plane import Planes, Reacting, RunningPlane
from support.sockets import (
    address_of,
    ends,
    free_port,
    is_silent,
    receive_all,
    receive_exactly,
    reset,
)
from support.waiting import eventually


def who(plane: RunningPlane, port: int, host: str = "127.0.0.1") -> str:
    """The name by which the backend greets a new client."""
    with plane.client(port, host) as client:
        return receive_exactly(client, 2).decode()


def named(plane: RunningPlane, count: int) -> list[Address]:
    return [plane.backend(greeting(f"b{number}".encode())).address for number in range(1, count + 1)]


def unused(host: str = "127.0.0.1") -> Address:
    """An address that refuses."""
    return Address(host, free_port(host))


def black_hole(plane: RunningPlane, host: str = "127.0.0.1") -> Address:
    """An address that never answers a SYN: its accept queue is full."""
    listener = plane.listening(host, backlog=0)
    for _ in range(2):
        filler = plane.keep(socket.socket(listener.family, socket.SOCK_STREAM))
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    eventually(lambda: _established(listener))
    return address_of(listener)


def test_B01_thirty_connections_over_two_backends_are_fifteen_each(plane: RunningPlane) -> None:
    port = plane.open()
    plane.backends(port, named(plane, 2))
    assert Counter(who(plane, port) for _ in range(30)) == {"b1": 15, "b2": 15}


def test_B02_four_backends_take_strict_turns(plane: RunningPlane) -> None:
    port = plane.open()
    plane.backends(port, named(plane, 4))
    assert [who(plane, port) for _ in range(9)] == ["b1", "b2", "b3", "b4", "b1", "b2", "b3", "b4", "b1"]


def test_B03_one_dead_of_three_costs_no_client_anything(planes: Planes) -> None:
    observer = Reacting()
    plane = planes(observer=observer)
    port = plane.open()
    alive = named(plane, 2)
    plane.backends(port, [alive[0], unused(), alive[1]])
    assert Counter(who(plane, port) for _ in range(30)) == {"b1": 15, "b2": 15}
    assert observer.failed() == ["b2"]
    assert "Connection refused" in observer.failures[0].detail
    assert str(observer.failures[0].address) in observer.failures[0].detail


def test_B03_a_dead_backend_that_stays_listed_costs_no_client_anything(plane: RunningPlane) -> None:
    port = plane.open()
    alive = named(plane, 2)
    plane.backends(port, [alive[0], unused(), alive[1]])
    assert Counter(who(plane, port) for _ in range(30)) == {"b1": 15, "b2": 15}


def test_B04_a_backend_that_recovers_takes_its_turns_again(planes: Planes) -> None:
    observer = Reacting()
    plane = planes(observer=observer)
    port = plane.open()
    address = unused()
    plane.backends(port, [address, *named(plane, 1)])
    assert [who(plane, port) for _ in range(4)] == ["b1"] * 4  # the one that lives says b1
    assert observer.failed() == ["b1"]
    plane.backend(greeting(b"b0"), port=address.port)
    plane.call(lambda: observer.set_up(str(port), "b1", up=True))
    assert Counter(who(plane, port) for _ in range(10)) == {"b0": 5, "b1": 5}


def test_B04_when_nobody_is_up_all_are_tried(plane: RunningPlane) -> None:
    port = plane.open()
    plane.backends(port, [unused(), *named(plane, 1)], up=[False, False])
    assert [who(plane, port) for _ in range(3)] == ["b1"] * 3


def test_B05_a_removed_backend_keeps_its_sessions_and_gets_no_new_ones(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.routes(port, [Route("old", address_of(backend))])
    near, far = plane.session(port, backend)
    plane.await_open(port)
    plane.routes(port, [Route("new", named(plane, 1)[0])])
    assert [who(plane, port) for _ in range(3)] == ["b1"] * 3
    eventually(lambda: plane.counters(port).active_by_backend == {"new": 0, "old": 1})
    near.sendall(b"still here?")
    assert receive_exactly(far, 11) == b"still here?"
    near.close()
    assert receive_all(far) == b""
    far.close()
    eventually(lambda: plane.counters(port).active == 0)


def test_B06_changes_under_load_break_no_session_and_skew_no_round(plane: RunningPlane) -> None:
    port = plane.open()
    steady, coming = named(plane, 2), plane.backend(greeting(b"b3")).address
    plane.backends(port, steady)
    got: list[str] = []
    for with_third in itertools.islice(itertools.cycle([True, False]), 40):
        plane.backends(port, [*steady, coming] if with_third else steady)
        got += [who(plane, port) for _ in range(5)]
    assert len(got) == 200
    counts = Counter(got)
    assert abs(counts["b1"] - counts["b2"]) <= 40  # at most one per change
    assert counts["b3"] <= counts["b1"]
    plane.backends(port, steady)
    assert {a == b for a, b in itertools.pairwise(who(plane, port) for _ in range(10))} == {False}


def test_B09_a_full_backend_overflows_to_the_others_and_then_refuses(plane: RunningPlane) -> None:
    first, second = plane.listening(), plane.listening()
    port = plane.open(max_sessions_per_backend=1)
    plane.backends(port, [address_of(first), address_of(second)])
    one = plane.session(port, first)
    plane.session(port, second)
    plane.await_open(port, 2)
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_BACKEND)
    # The slot is freed exactly once: one goes, one may come, and no more.
    reset(one[0])
    eventually(lambda: plane.counters(port).active == 1)
    plane.session(port, first)
    plane.await_open(port, 2)
    assert ends(plane.client(port)) == "end"
    assert plane.closed(port) == {Reason.LIMIT_BACKEND: 2, Reason.CLIENT_RESET: 1}
    assert plane.counters(port).active_by_backend == {"b1": 1, "b2": 1}


def test_B09_dials_under_way_count_against_the_limit(plane: RunningPlane) -> None:
    port = plane.open(max_sessions_per_backend=1, connect_timeout=30)
    plane.backends(port, [black_hole(plane)])
    waiting = plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_BACKEND)
    reset(waiting)


def test_B10_without_a_backend_a_client_is_closed_and_counted(plane: RunningPlane, host: str) -> None:
    port = plane.open(host=host)
    for _ in range(3):
        assert ends(plane.client(port, host)) == "end"
    plane.await_end(port, Reason.NO_BACKEND, 3)
    assert plane.counters(port).opened == 3


def test_A09_refused_dials_go_on_in_order_and_the_client_sees_nothing_partial(planes: Planes) -> None:
    observer = Reacting()
    plane = planes(observer=observer)
    port = plane.open()
    plane.backends(port, [unused(), unused(), *named(plane, 1)])
    client = plane.client(port)
    client.sendall(b"early words")
    assert receive_exactly(client, 2 + 11) == b"b1early words"
    assert observer.failed() == ["b1", "b2"]


def test_A09_words_and_end_of_a_client_that_does_not_wait_arrive(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [unused(), address_of(backend)])
    near = plane.client(port)

    def all_at_once() -> None:
        near.sendall(b"request")
        near.shutdown(socket.SHUT_WR)

    plane.call(all_at_once)
    far = plane.keep(backend.accept()[0])
    assert receive_all(far) == b"request"
    far.sendall(b"answer")
    far.close()
    assert receive_all(near) == b"answer"
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_A10_when_all_refuse_the_client_is_closed_and_each_was_tried_once(plane: RunningPlane, host: str) -> None:
    port = plane.open(host=host)
    plane.backends(port, [unused(host) for _ in range(3)])
    assert ends(plane.client(port, host)) == "end"
    plane.await_end(port, Reason.CONNECT_REFUSED)
    assert plane.observer.failed() == ["b1", "b2", "b3"]


def test_A11_J07_a_backend_that_never_answers_costs_its_share_and_the_next_is_taken(
    plane: RunningPlane, host: str
) -> None:
    port = plane.open(host=host, connect_timeout=1)
    plane.backends(port, [black_hole(plane, host), plane.backend(greeting(b"b2"), host).address])
    started = time.monotonic()
    assert receive_exactly(plane.client(port, host), 2) == b"b2"
    assert time.monotonic() - started >= 0.5  # half of the budget, for there were two
    assert plane.observer.failed() == ["b1"]


def test_A11_when_nobody_answers_the_budget_is_all_that_is_spent(plane: RunningPlane) -> None:
    port = plane.open(connect_timeout=0.5)
    plane.backends(port, [black_hole(plane), black_hole(plane)])
    client = plane.client(port)
    assert plane.sessions()[0].state == "connecting"
    assert ends(client) == "end"
    plane.await_end(port, Reason.CONNECT_TIMEOUT)
    assert plane.observer.failed() == ["b1", "b2"]


def test_A12_a_client_that_resets_while_its_backend_is_dialled_ends_the_dial(plane: RunningPlane) -> None:
    port = plane.open(connect_timeout=60)
    plane.backends(port, [black_hole(plane)])
    client = plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    assert plane.counters(port).active_by_backend == {"b1": 1}
    reset(client)
    plane.await_end(port, Reason.CLIENT_RESET)
    assert len(plane.plane.dialling) == 0
    assert plane.plane.descriptors.used == 0
    assert plane.counters(port).active_by_backend == {"b1": 0}
    assert plane.observer.failures == []


def test_A12_a_silent_client_that_leaves_ends_the_dial_and_blames_no_backend(plane: RunningPlane) -> None:
    port = plane.open(connect_timeout=60)
    plane.backends(port, [black_hole(plane), *named(plane, 1)])
    client = plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    client.close()
    plane.await_end(port, Reason.CLIENT_RESET)
    assert len(plane.plane.dialling) == 0
    assert plane.observer.failures == []


def test_A12_a_client_that_spoke_and_ended_is_still_dialled_for(plane: RunningPlane) -> None:
    port = plane.open(connect_timeout=1)
    backend = plane.listening()
    plane.backends(port, [black_hole(plane), address_of(backend)])
    near = plane.client(port)
    near.sendall(b"one way")
    near.shutdown(socket.SHUT_WR)
    assert receive_all(plane.keep(backend.accept()[0])) == b"one way"


def test_A18_a_port_that_is_its_own_backend_ends_with_its_limit(plane: RunningPlane) -> None:
    port = plane.open(max_sessions=20)
    plane.backends(port, [Address("127.0.0.1", port)])
    with plane.client(port) as client:
        assert ends(client) == "end"
    eventually(lambda: plane.counters(port).active == 0)
    assert plane.closed(port)[Reason.LIMIT_SERVICE] >= 1
    assert plane.plane.descriptors.used == 0


def test_A18_a_dial_that_reached_itself_is_a_refusal(planes: Planes) -> None:
    """The kernel may choose the backend's own port as the source port: without a listener both ends are then one."""
    number = free_port()
    plane = planes(source_ports=local_port_range(number, number))
    port = plane.open()
    plane.backends(port, [Address("127.0.0.1", number)])
    client = plane.client(port)
    assert ends(client) == "end"
    plane.await_end(port, Reason.CONNECT_REFUSED)
    assert plane.observer.failed() == ["b1"]
    plane.listening(port=number)  # and the port is free for the backend to come back


@pytest.mark.parametrize(("near_host", "far_host"), [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_A21_families_may_differ_between_client_and_backend(plane: RunningPlane, near_host: str, far_host: str) -> None:
    backend = plane.listening(far_host)
    port = plane.open(host=near_host)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend, host=near_host)
    for _ in range(3):  # it stays open between exchanges
        near.sendall(b"ping")
        assert receive_exactly(far, 4) == b"ping"
        far.sendall(b"pong")
        assert receive_exactly(near, 4) == b"pong"
    view = plane.sessions()[0]
    assert view.client == Address(near_host, near.getsockname()[1])
    assert view.backend == address_of(backend)


def test_a_dual_stack_port_serves_both_families_and_shows_ipv4_clients_as_such(plane: RunningPlane) -> None:
    port = plane.open(host="::")
    plane.backends(port, named(plane, 1))
    clients = [plane.client(port, host) for host in ("127.0.0.1", "::1")]
    assert [receive_exactly(client, 2) for client in clients] == [b"b1", b"b1"]
    assert [view.client for view in plane.sessions()] == [
        Address(client.getsockname()[0], client.getsockname()[1]) for client in clients
    ]
    assert len(plane.sessions(client="127.0.0.0/8")) == 1
    assert plane.kill(client="::1") == 1
    assert ends(clients[1]) == "reset"
    assert is_silent(clients[0])


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_backend_sockets_keep_out_of_the_ports_that_are_leased(planes: Planes, family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, local_port_range(41_000, 41_009))  # it exists here
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    plane = planes(source_ports=local_port_range(41_000, 41_999))
    backend, receiver = plane.listening(host), plane.datagrams(host)
    port, udp = plane.open(), plane.open("udp")
    plane.backends(port, [address_of(backend)])
    plane.backends(udp, [address_of(receiver)])
    sender = plane.datagrams()
    for _ in range(5):
        _, far = plane.session(port, backend)
        assert 41_000 <= far.getpeername()[1] <= 41_999
    sender.sendto(b"hello", ("127.0.0.1", udp))
    assert 41_000 <= receiver.recvfrom(100)[1][1] <= 41_999


def test_a_dial_to_a_backend_that_is_cut_goes_on_to_the_next(plane: RunningPlane) -> None:
    port = plane.open(connect_timeout=60)
    plane.routes(port, [Route("old", black_hole(plane))])
    client = plane.client(port)
    eventually(lambda: len(plane.plane.dialling) == 1)
    plane.routes(port, [Route("new", named(plane, 1)[0])])
    plane.release(port, "old", within=0)
    assert receive_exactly(client, 2) == b"b1"
    assert plane.observer.failures == []


def test_a_port_may_be_closed_while_a_failed_dial_is_told(planes: Planes) -> None:
    class Closing(Reacting):
        """Closes the port as soon as one of its backends fails."""

        def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
            super().backend_failed(service_id, backend_id, address, detail)
            assert self.plane is not None
            self.plane.close_port(service_id, Reason.SERVICE_DELETED)

    observer = Closing()
    plane = planes(observer=observer)
    for first in (unused(), black_hole(plane)):
        port = plane.open(connect_timeout=0.3)
        plane.backends(port, [first, *named(plane, 1)])
        with contextlib.suppress(ConnectionResetError):  # even before connect() has returned
            ends(plane.client(port))
        eventually(lambda: not plane.call(lambda: plane.plane.is_bound(str(port))))  # noqa: B023 - called at once
    assert observer.failed() == ["b1", "b1"]


def _established(listener: socket.socket) -> bool:
    """Whether one connection fills the accept queue of ``listener``, so that a further SYN goes unanswered."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    queued = int.from_bytes(info[24:28], "little")  # tcpi_unacked: of a listener, its accept queue
    return queued >= 1
