"""UDP: a flow per client, each on the head of the queue, datagrams whole or counted."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from ipaddress import ip_address

import pytest

from harbor.dataplane.budget import Descriptors
from harbor.dataplane.sockets import IP_PKTINFO, local_port_range
from harbor.model import Address, Drop, Reason, Route, SessionQuery
from support.plane import Planes, Reacting, RunningPlane
from support.sockets import address_of, is_silent
from support.waiting import eventually

LOCAL = "127.0.0.1"


def udp_pair(plane: RunningPlane, host: str = LOCAL, **policy: object) -> tuple[int, Address, socket.socket]:
    """A UDP port with one backend: its number, where clients send, and the backend's socket."""
    backend = plane.datagrams(host)
    port = plane.open("udp", host=host, **policy)
    plane.backends(port, [address_of(backend)])
    return port, Address(host, port), backend


def ask(client: socket.socket, address: Address, backend: socket.socket, text: bytes = b"hello") -> tuple[str, int]:
    """One datagram from the client to the backend; returns the flow's address as the backend sees it."""
    client.sendto(text, address)
    data, flow = backend.recvfrom(65_535)
    assert data == text
    return flow


def answer(backend: socket.socket, flow: tuple[str, int], client: socket.socket, text: bytes = b"reply") -> None:
    """One datagram back; the client sees it come from where it sent to."""
    backend.sendto(text, flow)
    assert client.recv(65_535) == text


def await_drops(plane: RunningPlane, port: int, drop: Drop, count: int) -> None:
    """Wait for so many drops of this kind, and no others."""
    eventually(lambda: plane.counters(port).dropped.get(drop, 0) >= count)
    assert dict(plane.counters(port).dropped) == {drop: count}


def test_C01_replies_go_to_the_client_that_asked(plane: RunningPlane, host: str) -> None:
    port, address, backend = udp_pair(plane, host)
    clients = [plane.datagrams(host) for _ in range(2)]
    flows = [ask(client, address, backend, b"from %d" % number) for number, client in enumerate(clients)]
    assert flows[0] != flows[1]
    for number in (1, 0):
        backend.sendto(b"to %d" % number, flows[number])
    for number, client in enumerate(clients):
        assert client.recvfrom(100) == (b"to %d" % number, (*address, 0, 0)[: len(client.getsockname())])
    assert is_silent(clients[0])
    assert is_silent(clients[1])
    # A flow stays on its socket.
    assert ask(clients[0], address, backend) == flows[0]
    counters = plane.counters(port)
    assert (counters.active, counters.datagrams_in, counters.datagrams_out) == (2, 3, 2)
    assert [view.state for view in plane.sessions()] == ["answered", "answered"]
    assert [view.client for view in plane.sessions()] == [address_of(client) for client in clients]


def test_C02_an_idle_flow_ends_and_the_next_datagram_begins_another(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane, udp_timeout=0.2)
    client = plane.datagrams()
    before = ask(client, address, backend)
    answer(backend, before, client)
    plane.await_end(port, Reason.IDLE_TIMEOUT)
    assert plane.plane.descriptors.used == 0
    after = ask(client, address, backend)
    assert plane.counters(port).opened == 2
    answer(backend, after, client)
    backend.sendto(b"to the flow that ended", before)
    assert is_silent(client) or before == after


def test_C02_a_flow_that_moves_in_either_direction_stays(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane, udp_timeout=0.4)
    asking, listening, idle = (plane.datagrams() for _ in range(3))
    ask(asking, address, backend)
    flow = ask(listening, address, backend)
    ask(idle, address, backend)
    while plane.counters(port).closed.get(Reason.IDLE_TIMEOUT, 0) < 1:
        ask(asking, address, backend)
        answer(backend, flow, listening)
    assert {view.client for view in plane.sessions()} == {address_of(asking), address_of(listening)}


def test_C03_zero_length_datagrams_pass_both_ways(plane: RunningPlane, host: str) -> None:
    port, address, backend = udp_pair(plane, host)
    client = plane.datagrams(host)
    flow = ask(client, address, backend, b"")
    answer(backend, flow, client, b"")
    assert plane.counters(port).datagrams_in == plane.counters(port).datagrams_out == 1


@pytest.mark.parametrize("listen", [LOCAL, "0.0.0.0"])
def test_C04_the_largest_datagrams_pass_whole(plane: RunningPlane, listen: str) -> None:
    backend = plane.datagrams()
    port = plane.open("udp", host=listen)
    plane.backends(port, [address_of(backend)])
    client = plane.datagrams()
    largest = bytes(range(256)) * 256
    flow = ask(client, Address(LOCAL, port), backend, largest[:65_507])
    answer(backend, flow, client, largest[1:65_508])
    assert plane.counters(port).bytes_in == plane.counters(port).bytes_out == 65_507


def test_C04_what_is_too_large_for_the_path_is_counted_and_never_cut(plane: RunningPlane) -> None:
    """IPv6 carries 20 bytes more than IPv4 does."""
    backend = plane.datagrams()
    port = plane.open("udp", host="::1")
    plane.backends(port, [address_of(backend)])
    client = plane.datagrams("::1")
    client.sendto(bytes(65_520), ("::1", port))
    await_drops(plane, port, Drop.OVERSIZE, 1)
    assert is_silent(backend)
    ask(client, Address("::1", port), backend, b"smaller")


def test_C05_after_a_refusal_the_next_datagram_goes_to_the_next_backend(planes: Planes, host: str) -> None:
    observer = Reacting()
    plane = planes(observer=observer)
    first, second = plane.datagrams(host), plane.datagrams(host)
    port = plane.open("udp", host=host)
    plane.backends(port, [address_of(first), address_of(second)])
    client, address = plane.datagrams(host), Address(host, port)
    answer(first, ask(client, address, first), client)
    first.close()
    client.sendto(b"into the void", address)
    eventually(lambda: observer.failed() == ["b1"])
    assert "Connection refused" in observer.failures[0].detail
    answer(second, ask(client, address, second), client)
    assert plane.closed(port) == {Reason.PROMOTED: 1}
    assert plane.counters(port).dropped == {Drop.BACKEND_REFUSED: 1}
    assert [view.backend_id for view in plane.sessions()] == ["b2"]


def test_C05_a_refusal_found_while_sending_costs_only_the_datagram_before(planes: Planes) -> None:
    observer = Reacting()
    plane = planes(observer=observer)
    first, second = plane.datagrams(), plane.datagrams()
    port = plane.open("udp")
    plane.backends(port, [address_of(first), address_of(second)])
    client, address = plane.datagrams(), Address(LOCAL, port)
    ask(client, address, first)
    first.close()

    def both() -> None:  # the port's socket has news first: the refusal of "lost" is met when "kept" is sent
        client.sendto(b"lost", address)
        client.sendto(b"kept", address)

    plane.call(both)
    assert second.recv(100) == b"kept"
    assert observer.failed() == ["b1"]


def test_C05_the_only_backend_that_refused_is_tried_again_with_every_datagram(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane)
    where = address_of(backend)
    backend.close()
    client = plane.datagrams()
    for count in (1, 2):
        client.sendto(b"anybody?", address)
        eventually(lambda: len(plane.observer.failures) == count)  # noqa: B023 - called at once
    again = plane.datagrams(port=where.port)
    answer(again, ask(client, address, again), client)
    assert plane.counters(port).opened == 1


def test_C05_answers_that_came_before_the_refusal_still_arrive(plane: RunningPlane) -> None:
    _, address, backend = udp_pair(plane)
    client = plane.datagrams()
    flow = ask(client, address, backend)

    def all_at_once() -> None:
        backend.sendto(b"last words", flow)
        backend.close()

    plane.call(all_at_once)
    assert client.recv(100) == b"last words"


def test_C06_a_backend_that_is_taken_out_hands_over_its_flows_on_their_next_datagram(plane: RunningPlane) -> None:
    first, second = plane.datagrams(), plane.datagrams()
    port = plane.open("udp")
    routes = [Route("b1", address_of(first)), Route("b2", address_of(second))]
    plane.routes(port, routes)
    client, address = plane.datagrams(), Address(LOCAL, port)
    flow = ask(client, address, first)
    answer(first, flow, client)
    plane.routes(port, routes[1:])
    answer(first, flow, client, b"still from the first")  # nothing has moved yet
    assert plane.closed(port) == {}
    answer(second, ask(client, address, second), client)
    assert plane.closed(port) == {Reason.PROMOTED: 1}
    assert plane.counters(port).active_by_backend["b2"] == 1
    assert [view.state for view in plane.sessions()] == ["answered"]


def test_C06_a_flow_whose_last_backend_is_gone_was_not_promoted(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane)
    client = plane.datagrams()
    ask(client, address, backend)
    plane.backends(port, [])
    client.sendto(b"anybody?", address)
    await_drops(plane, port, Drop.NO_BACKEND, 1)
    assert plane.closed(port) == {Reason.NO_BACKEND: 1}


def test_C07_a_backend_that_returns_at_the_end_of_the_queue_changes_nothing(plane: RunningPlane) -> None:
    first, second = plane.datagrams(), plane.datagrams()
    port = plane.open("udp")
    one, two = Route("b1", address_of(first)), Route("b2", address_of(second))
    client, address = plane.datagrams(), Address(LOCAL, port)
    plane.routes(port, [one, two])
    ask(client, address, first)
    plane.routes(port, [Route("b1", one.address, up=False), two])
    flow = ask(client, address, second)
    plane.routes(port, [two, one])
    for _ in range(3):
        assert ask(client, address, second) == flow
    assert is_silent(first)
    # A flow is never split: when the queue does change, all that follows goes to the one that is first now.
    plane.routes(port, [one, two])
    assert len({ask(client, address, first) for _ in range(3)}) == 1
    assert is_silent(second)


def test_C08_forged_sources_do_not_push_out_flows_that_were_answered(planes: Planes) -> None:
    limit = 300
    plane = planes(descriptors=Descriptors(limit))
    port, address, backend = udp_pair(plane)
    honest = [plane.datagrams() for _ in range(50)]
    flows = []
    for client in honest:
        flows.append(ask(client, address, backend))
        answer(backend, flows[-1], client)
    forger = plane.datagrams("0.0.0.0")
    memory = []
    for batch in range(20):
        for number in range(batch * 5_000, (batch + 1) * 5_000):
            source = (0x7F000002 + number).to_bytes(4, "big")
            forger.sendmsg([b"x"], [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4s", 0, source, b""))], 0, address)
        eventually(lambda: _taken(plane, port) >= len(honest) + (batch + 1) * 5_000)  # noqa: B023 - called at once
        assert len(plane.sessions()) <= limit
        memory.append(_resident())
    counters = plane.counters(port)
    assert counters.opened + counters.dropped.get(Drop.RECEIVE_QUEUE, 0) == 100_000 + len(honest)
    assert counters.opened > 50_000
    assert counters.closed == {Reason.EVICTED: counters.opened - limit}
    assert memory[-1] - memory[1] < 4 << 20
    assert [view.state for view in plane.sessions()].count("answered") == len(honest)
    assert [view.client for view in plane.sessions()][: len(honest)] == [address_of(client) for client in honest]
    _drain(backend)
    for client, flow in zip(honest, flows, strict=True):
        answer(backend, flow, client, b"you are still here")
        client.sendto(b"so are you", address)
        assert backend.recvfrom(100) == (b"so are you", flow)


def test_C08_a_flood_on_one_port_leaves_the_flows_of_another(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(40))
    flooded, address, backend = udp_pair(plane)
    _, quiet_address, quiet_backend = udp_pair(plane)
    client = plane.datagrams()
    flow = ask(client, quiet_address, quiet_backend)  # never answered, and older than all that follow
    for number in range(200):
        with plane.datagrams(str(ip_address("127.0.0.2") + number)) as forged:
            ask(forged, address, backend)
    assert ask(client, quiet_address, quiet_backend) == flow
    assert plane.counters(flooded).opened == 200


def test_C08_a_port_that_comes_late_gets_its_share_of_a_full_table(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(10))
    flooded, address, backend = udp_pair(plane)
    late, late_address, late_backend = udp_pair(plane)
    for _ in range(20):
        ask(plane.datagrams(), address, backend)
    for _ in range(4):
        ask(plane.datagrams(), late_address, late_backend)
    assert plane.counters(late).active == 4
    assert plane.counters(flooded).active == 6


def test_C08_a_service_may_limit_its_flows(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane, max_sessions=3)
    clients = [plane.datagrams() for _ in range(4)]
    answer(backend, ask(clients[0], address, backend), clients[0])
    for client in clients[1:]:
        ask(client, address, backend)
    assert [view.client for view in plane.sessions()] == [address_of(clients[number]) for number in (0, 2, 3)]
    assert plane.closed(port) == {Reason.EVICTED: 1}


def test_C09_a_reply_for_a_flow_that_ended_is_dropped_and_counted(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane)
    client = plane.datagrams()
    flow = ask(client, address, backend)

    plane.call(lambda: (backend.sendto(b"late", flow), backend.sendto(b"", flow), _kill_all(plane)))
    assert plane.counters(port).dropped == {Drop.LATE_REPLY: 2}
    assert is_silent(client)
    assert plane.closed(port) == {Reason.KILLED: 1}
    backend.sendto(b"much later", flow)
    with pytest.raises(ConnectionRefusedError):  # nobody has that address any more
        _send_until_refused(backend, flow)


def test_C09_a_late_reply_does_not_touch_the_datagram_that_is_on_its_way(plane: RunningPlane) -> None:
    """The flow is handed over, with a reply of the old backend unread, while the client's datagram is in the buffer."""
    first, second = plane.datagrams(), plane.datagrams()
    port = plane.open("udp")
    plane.routes(port, [Route("b1", address_of(first))])
    client, address = plane.datagrams(), Address(LOCAL, port)
    flow = ask(client, address, first)

    def story() -> None:
        plane.plane.set_backends(str(port), [Route("b2", address_of(second))])
        client.sendto(b"question", address)
        first.sendto(b"XXXXXXXX", flow)

    plane.call(story)
    assert second.recv(100) == b"question"
    assert plane.counters(port).dropped == {Drop.LATE_REPLY: 1}


def test_C10_only_the_backend_itself_can_answer(plane: RunningPlane, host: str) -> None:
    port, address, backend = udp_pair(plane, host)
    client, stranger = plane.datagrams(host), plane.datagrams(host)
    flow = ask(client, address, backend)
    stranger.sendto(b"forged", flow)
    answer(backend, flow, client, b"genuine")
    assert is_silent(client)
    assert plane.counters(port).datagrams_out == 1


@pytest.mark.parametrize(("listen", "addresses"), [
    ("0.0.0.0", ("127.0.0.2", "127.0.0.3")),
    ("::", ("127.0.0.2", "127.0.0.3", "::1")),
])  # fmt: skip
def test_C11_replies_leave_from_the_address_that_the_client_used(
    plane: RunningPlane, listen: str, addresses: tuple[str, ...]
) -> None:
    backend = plane.datagrams()
    port = plane.open("udp", host=listen)
    plane.backends(port, [address_of(backend)])
    clients = {family: plane.datagrams(host) for family, host in ((4, LOCAL), (6, "::1"))}
    flows = {}
    for address in addresses:  # one client socket for all: each address it talks to is a flow of its own
        client = clients[ip_address(address).version]
        client.sendto(b"to " + address.encode(), (address, port))
        data, flows[address] = backend.recvfrom(100)
        assert data == b"to " + address.encode()
    assert len(set(flows.values())) == len(addresses)
    for address in reversed(addresses):
        client = clients[ip_address(address).version]
        backend.sendto(b"from " + address.encode(), flows[address])
        data, source = client.recvfrom(100)
        assert (data, source[:2]) == (b"from " + address.encode(), (address, port))
    assert {view.client for view in plane.sessions()} == {address_of(clients[ip_address(a).version]) for a in addresses}


def test_C12_without_a_backend_nothing_comes_back(plane: RunningPlane, host: str) -> None:
    port = plane.open("udp", host=host)
    client = plane.datagrams(host)
    for _ in range(3):
        client.sendto(b"anybody?", (host, port))
    await_drops(plane, port, Drop.NO_BACKEND, 3)
    assert is_silent(client)
    assert plane.counters(port).opened == 0


def test_C13_J13_of_a_burst_every_datagram_is_forwarded_or_counted(plane: RunningPlane) -> None:
    port, address, backend = udp_pair(plane)
    backend.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE, or what an ordinary user gets
    client = plane.datagrams()
    payload = bytes(1200)  # 20,000 of these are more than the port's receive buffer takes

    def burst() -> None:
        for _ in range(20_000):
            client.sendto(payload, address)

    plane.call(burst)  # on the loop's own thread: not one is received meanwhile
    eventually(lambda: _taken_datagrams(plane, port) >= 20_000)
    counters = plane.counters(port)
    assert counters.datagrams_in + sum(counters.dropped.values()) == 20_000
    assert counters.dropped[Drop.RECEIVE_QUEUE] > 0
    assert counters.datagrams_in > 1000
    assert counters.opened == 1


def test_C13_a_burst_does_not_hold_up_the_others(plane: RunningPlane) -> None:
    """Between two handfuls of datagrams of one port, other ports get their turn."""
    port, address, backend = udp_pair(plane)
    _, other_address, other = udp_pair(plane)
    client, neighbour = plane.datagrams(), plane.datagrams()

    def burst() -> None:
        for _ in range(2_000):
            client.sendto(b"x", address)
        neighbour.sendto(b"me too", other_address)

    plane.call(burst)
    other.recv(100)
    assert plane.counters(port).datagrams_in <= 2_000
    eventually(lambda: plane.counters(port).datagrams_in + _kernel_loss(plane, port) == 2_000)
    assert backend.recv(100) == b"x"


def test_C15_a_closed_port_closes_its_flows(plane: RunningPlane) -> None:
    _, other_address, other = udp_pair(plane)
    port, address, backend = udp_pair(plane)
    clients = [plane.datagrams() for _ in range(20)]
    for client in clients:
        answer(backend, ask(client, address, backend), client)
    stays = ask(clients[0], other_address, other)
    plane.close_port(port)
    assert plane.plane.descriptors.used == 1
    assert plane.sessions(service_id=str(port)) == []
    with pytest.raises(ConnectionRefusedError):
        _send_until_refused(plane.datagrams(), address)
    assert ask(clients[0], other_address, other) == stays
    plane.open("udp", port=port)  # the number is free again at once


def test_the_same_client_on_two_ports_is_two_flows(plane: RunningPlane) -> None:
    _, one, backend_one = udp_pair(plane)
    _, two, backend_two = udp_pair(plane)
    client = plane.datagrams()
    flow_one, flow_two = ask(client, one, backend_one), ask(client, two, backend_two)
    backend_one.sendto(b"one", flow_one)
    assert client.recvfrom(100) == (b"one", one)
    backend_two.sendto(b"two", flow_two)
    assert client.recvfrom(100) == (b"two", two)


def test_trouble_of_this_machine_is_not_blamed_on_the_backend(planes: Planes) -> None:
    """Two source ports and three flows to one backend: the third finds no port to leave from."""
    start = next(port for port in itertools.count(42_000, 2) if _free(port) and _free(port + 1))
    plane = planes(source_ports=local_port_range(start, start + 1))
    port, address, backend = udp_pair(plane)
    clients = [plane.datagrams() for _ in range(3)]
    for client in clients[:2]:
        ask(client, address, backend)
    clients[2].sendto(b"no way out", address)
    eventually(lambda: sum(plane.counters(port).dropped.values()) == 1)
    assert plane.observer.failures == []
    assert plane.plane.descriptors.used == 2


def test_udp_flood_leaves_room_for_tcp(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(20))
    port, address, backend = udp_pair(plane)
    for _ in range(30):
        ask(plane.datagrams(), address, backend)
    acceptor = plane.listening()
    tcp = plane.open()
    plane.backends(tcp, [address_of(acceptor)])
    near, far = plane.session(tcp, acceptor)
    near.sendall(b"through")
    assert far.recv(100) == b"through"
    assert plane.counters(port).active == 18


def test_answered_flows_do_not_give_way_to_tcp(planes: Planes) -> None:
    plane = planes(descriptors=Descriptors(4))
    port, address, backend = udp_pair(plane, udp_timeout=0.5)
    for _ in range(4):
        client = plane.datagrams()
        answer(backend, ask(client, address, backend), client)
    acceptor = plane.listening()
    tcp = plane.open()
    plane.backends(tcp, [address_of(acceptor)])
    plane.client(tcp)
    eventually(lambda: plane.plane.paused == 1)
    assert plane.counters(port).active == 4
    acceptor.accept()[0].close()  # once they are idle, the client that waited is served
    assert plane.closed(port) == {Reason.IDLE_TIMEOUT: 4}


def _kill_all(plane: RunningPlane) -> None:
    assert plane.plane.kill(SessionQuery()) == 1


def _send_until_refused(sock: socket.socket, where: tuple[str, int]) -> None:
    sock.settimeout(0.01)
    sock.connect(where)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        sock.send(b"?")
        try:
            sock.recv(1)
        except TimeoutError:
            continue


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOCAL, port))
        except OSError:
            return False
    return True


def _taken(plane: RunningPlane, port: int) -> int:
    return plane.counters(port).opened + _kernel_loss(plane, port)


def _taken_datagrams(plane: RunningPlane, port: int) -> int:
    counters = plane.counters(port)
    return counters.datagrams_in + sum(counters.dropped.values())


def _kernel_loss(plane: RunningPlane, port: int) -> int:
    return plane.counters(port).dropped.get(Drop.RECEIVE_QUEUE, 0)


def _drain(sock: socket.socket) -> None:
    while not is_silent(sock):
        sock.recv(65_535)


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
