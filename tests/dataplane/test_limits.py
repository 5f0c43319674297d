"""What happens when there is no more: sessions of a service, descriptors of the node, descriptors of the process."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from harbor.dataplane.budget import RESERVE, Descriptors, raise_limit
from harbor.dataplane.reactor import PIECE
from harbor.dataplane.sockets import local_port_range
from harbor.model import Drop, Reason
from support.plane import Planes, RunningPlane
from support.sockets import address_of, ends, free_port, is_silent, receive_exactly, reset
from support.waiting import eventually


def test_a_service_takes_so_many_sessions_and_no_more(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(max_sessions=2)
    plane.backends(port, [address_of(backend)])
    pairs = [plane.session(port, backend) for _ in range(2)]
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_SERVICE)
    reset(pairs[0][0])
    eventually(lambda: plane.counters(port).active == 1)
    near, far = plane.session(port, backend)
    far.sendall(b"room again")
    assert receive_exactly(near, 10) == b"room again"
    assert plane.counters(port).opened == 4


def test_J01_accepting_pauses_when_descriptors_are_used_up_and_resumes(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(6))
    backend = plane.listening()
    port, other = plane.open(), plane.open()
    for number in (port, other):
        plane.backends(number, [address_of(backend)])
    pairs = [plane.session(port, backend) for _ in range(3)]
    assert plane.plane.descriptors.used == 6
    waiting = [plane.client(port), plane.client(other), plane.client(other)]
    eventually(lambda: plane.plane.paused == 2)
    for near, far in pairs:  # those that live notice nothing
        near.sendall(b"ping")
        assert receive_exactly(far, 4) == b"ping"
    assert all(is_silent(client) for client in waiting)  # not accepted and closed: they wait
    assert plane.plane.session_count() == 3
    for near, _ in pairs:
        reset(near)
    for client in waiting:
        client.sendall(b"at last")
    for _ in waiting:
        assert receive_exactly(plane.keep(backend.accept()[0]), 7) == b"at last"
    for client in waiting:
        reset(client)
    eventually(lambda: plane.plane.paused == 0)
    assert Reason.LIMIT_NODE not in plane.closed(port)


def test_J01_a_port_may_be_closed_while_it_waits(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(2))
    backend = plane.listening()
    port, other = plane.open(), plane.open()
    for number in (port, other):
        plane.backends(number, [address_of(backend)])
    near, _ = plane.session(port, backend)
    plane.client(other)
    eventually(lambda: plane.plane.paused == 1)
    plane.close_port(other)
    reset(near)
    eventually(lambda: plane.plane.paused == 0)
    near, far = plane.session(port, backend)
    far.sendall(b"x")
    assert receive_exactly(near, 1) == b"x"


def test_J01_lingering_clients_stay_in_the_budget(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(2))
    port, near, far = plane.pair()
    far.sendall(b"answer")
    far.close()
    eventually(lambda: plane.sessions()[0].state == "half_closed")
    for _ in range(2):
        near.sendall(b"more than the backend wants")
    plane.await_end(port, Reason.BACKEND_CLOSED)
    assert plane.plane.descriptors.used == 1
    assert receive_exactly(near, 6) == b"answer"
    near.close()
    eventually(lambda: plane.plane.descriptors.used == 0)


def test_J01_without_a_descriptor_to_accept_with_clients_wait(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    client = plane.keep(socket.socket())
    client.settimeout(10)
    with only_descriptors(0):
        client.connect(("127.0.0.1", port))
        eventually(lambda: plane.plane.paused == 1)
    far = plane.keep(backend.accept()[0])
    far.sendall(b"at last")
    assert receive_exactly(client, 7) == b"at last"
    assert plane.plane.paused == 0
    assert plane.plane.descriptors.used == 2


def test_J01_without_a_descriptor_to_dial_with_no_backend_is_blamed(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    client = plane.keep(socket.socket())
    client.settimeout(10)
    with only_descriptors(1):
        client.connect(("127.0.0.1", port))
        assert ends(client) == "end"
    plane.await_end(port, Reason.LIMIT_NODE)
    assert plane.observer.failures == []


def test_J01_without_a_descriptor_for_a_flow_its_datagram_is_dropped_and_counted(plane: RunningPlane) -> None:
    backend, client = plane.datagrams(), plane.datagrams()
    port = plane.open("udp")
    plane.backends(port, [address_of(backend)])
    with only_descriptors(0):
        client.sendto(b"lost", ("127.0.0.1", port))
        eventually(lambda: plane.counters(port).dropped == {Drop.LIMIT_NODE: 1})
    client.sendto(b"kept", ("127.0.0.1", port))
    assert backend.recv(100) == b"kept"
    assert plane.observer.failures == []
    assert plane.plane.descriptors.used == 1


def test_J08_without_a_source_port_to_dial_from_the_client_is_told_and_no_backend_is_blamed(planes: Planes) -> None:
    low = free_port()
    plane = planes(source_ports=local_port_range(low, low))  # one session at a time with each backend
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    assert ends(plane.client(port)) == "end"
    eventually(lambda: plane.closed(port) == {Reason.CONNECT_FAILED: 1}, what="the end is counted")
    far.sendall(b"undisturbed")
    assert receive_exactly(near, 11) == b"undisturbed"
    reset(near)
    eventually(lambda: plane.counters(port).active == 0)
    near, far = plane.session(port, backend)
    far.sendall(b"again")
    assert receive_exactly(near, 5) == b"again"
    assert plane.observer.failures == []


def test_J04_readers_that_stop_cost_no_more_than_their_buffers(planes: Planes) -> None:
    plane, count = planes(), 1000
    backend = plane.listening(backlog=1024)
    backend.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    readers, senders = [], []
    for _ in range(count):
        near, far = plane.session(port, backend, receive_buffer=4096)
        far.setblocking(False)
        readers.append(near)
        senders.append(far)
    sent = [0] * count

    def are_stuck() -> bool:
        """Whether nobody takes anything any more."""
        moved = False
        for number, far in enumerate(senders):
            try:
                while True:
                    sent[number] += far.send(bytes(PIECE))
                    moved = True
            except BlockingIOError:
                continue
        return not moved and plane.call(lambda: plane.plane.reactor.held) > 0

    eventually(lambda: are_stuck() and are_stuck(), 60, "all are stuck")
    assert plane.call(lambda: plane.plane.reactor.held) <= count * PIECE
    for near in readers:
        near.close()
    eventually(lambda: plane.counters(port).active == 0)
    assert plane.call(lambda: plane.plane.reactor.held) == 0


def test_flows_do_not_open_where_connections_hold_every_descriptor(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(2))
    _, near, far = plane.pair()
    receiver, client = plane.datagrams(), plane.datagrams()
    udp = plane.open("udp")
    plane.backends(udp, [address_of(receiver)])
    client.sendto(b"lost", ("127.0.0.1", udp))
    eventually(lambda: plane.counters(udp).dropped == {Drop.LIMIT_NODE: 1})
    near.sendall(b"undisturbed")
    assert receive_exactly(far, 11) == b"undisturbed"


def test_a_backlog_of_many_clients_is_accepted_whole(plane: RunningPlane) -> None:
    port = plane.open()
    clients = []

    def crowd() -> None:  # all wait before the first is accepted
        clients.extend(plane.client(port) for _ in range(300))

    plane.call(crowd)
    for client in clients:
        assert ends(client) == "end"
    plane.await_end(port, Reason.NO_BACKEND, 300)


class TestDescriptors:
    def test_it_gives_no_more_than_it_has(self) -> None:
        descriptors = Descriptors(3)
        assert descriptors.take(2)
        assert not descriptors.take(2)
        assert descriptors.take(1)
        descriptors.give(3)
        assert descriptors.take(3)

    def test_who_waits_is_called_once_and_may_wait_again(self) -> None:
        descriptors = Descriptors(1)
        assert descriptors.take(1)
        called = []

        def resume() -> None:
            called.append(descriptors.used)
            descriptors.when_free(resume)

        descriptors.when_free(resume)
        descriptors.give(1)
        assert called == [0]
        assert repr(descriptors) == "<Descriptors 0 of 1, 1 waiting>"

    def test_the_process_keeps_a_reserve(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert Descriptors.of_process().limit == max(soft - RESERVE, soft // 2)

    def test_the_soft_limit_is_raised_to_the_hard_one(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
            assert raise_limit() == before[1]
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def only_descriptors(count: int) -> Iterator[None]:
    """For a moment the process may open only so many more descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.dup(0) for _ in range(count + 1)]  # the kernel always gives the lowest free number
    for fd in spare:
        os.close(fd)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1], limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
