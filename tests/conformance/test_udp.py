"""UDP: datagrams, the flows that they make up, and backends that are not there."""

from __future__ import annotations

import socket

import pytest

from conformance.differences import NO_UDP, differs
from conformance.proxy import Proxy
from harbor.model import Address
from support.sockets import address_of, is_silent
from support.waiting import eventually

udp = differs(haproxy=NO_UDP)


@pytest.fixture
def backend(proxy: Proxy) -> socket.socket:
    return proxy.datagrams()


def answered(client: socket.socket, port: Address, backend: socket.socket, said: bytes) -> Address:
    """Have a datagram answered; returns from where the backend got it."""
    client.sendto(said, port)
    data, flow = backend.recvfrom(1 << 16)
    assert data == said
    backend.sendto(b"re: " + said[:100], flow)
    assert client.recvfrom(1 << 16) == (b"re: " + said[:100], port)
    return Address(*flow[:2])


@udp
def test_C01_each_client_gets_its_own_answers(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True)
    clients = [proxy.datagrams() for _ in range(5)]
    flows = []
    for number, client in enumerate(clients):
        client.sendto(b"%d" % number, port)
        flows.append(backend.recvfrom(100))
    for said, flow in reversed(flows):
        backend.sendto(b"re: " + said, flow)
    assert [client.recvfrom(100) for client in clients] == [(b"re: %d" % n, port) for n in range(5)]


@udp
def test_C01_datagrams_of_one_client_are_one_flow(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True)
    client = proxy.datagrams()
    assert len({answered(client, port, backend, b"%d" % number) for number in range(5)}) == 1


def is_bound(address: Address) -> bool:
    """Whether some socket of this machine has this UDP port."""
    with open("/proc/net/udp") as table:
        return any(line.split()[1].endswith(f":{address.port:04X}") for line in table)


@udp
def test_C02_a_flow_that_was_silent_for_too_long_is_forgotten(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True, udp_timeout=0.3)
    client = proxy.datagrams()
    first = answered(client, port, backend, b"one")
    eventually(lambda: not is_bound(first), proxy.patience, "the flow is gone")
    answered(client, port, backend, b"two")


@udp
def test_C03_empty_datagrams_pass_both_ways(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True)
    client = proxy.datagrams()
    client.sendto(b"", port)
    data, flow = backend.recvfrom(100)
    assert data == b""
    backend.sendto(b"", flow)
    assert client.recvfrom(100) == (b"", port)


@udp
@pytest.mark.parametrize("size", [1, 1472, 9000, 65_507])
def test_C04_datagrams_of_every_size_pass_whole(proxy: Proxy, backend: socket.socket, size: int) -> None:
    port = proxy.open(address_of(backend), udp=True)
    client = proxy.datagrams()
    said = (bytes(range(256)) * 256)[:size]
    client.sendto(said, port)
    data, flow = backend.recvfrom(1 << 16)
    assert data == said
    backend.sendto(said, flow)
    assert client.recvfrom(1 << 16) == (said, port)


@udp
def test_C04_each_datagram_stays_one(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True)
    client = proxy.datagrams()
    sent = [bytes([number]) * number for number in range(1, 60)]
    for said in sent:
        client.sendto(said, port)
    assert [backend.recv(100) for _ in sent] == sent


@udp
def test_a_flow_ends_with_the_answers_that_a_question_has(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True, udp_responses=2)
    client = proxy.datagrams()
    client.sendto(b"question", port)
    flow = backend.recvfrom(100)[1]
    for said in (b"one", b"two"):
        backend.sendto(said, flow)
        assert client.recv(100) == said
    client.sendto(b"another", port)
    assert backend.recvfrom(100)[1] != flow


def sharing(proxy: Proxy, address: Address) -> socket.socket:
    """A backend whose port another one may have as well."""
    sock = proxy.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    return sock


def taken(proxy: Proxy) -> socket.socket:
    """A port at which datagrams are refused: its socket hears nobody but one who says nothing."""
    sock = sharing(proxy, Address("127.0.0.1", 0))
    sock.connect(address_of(proxy.datagrams()))
    return sock


def arrives(client: socket.socket, port: Address, backend: socket.socket) -> bool:
    """Whether the backend hears from the client, who tries it once more."""
    client.sendto(b"hello", port)
    backend.settimeout(0.05)
    try:
        return backend.recv(100) == b"hello"
    except TimeoutError:
        return False


@udp
def test_C05_where_a_backend_is_not_there_the_next_one_gets_what_follows(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(taken(proxy)), address_of(backend), udp=True)
    client = proxy.datagrams()
    eventually(lambda: arrives(client, port, backend), proxy.patience, "the second backend has it")


@udp
def test_C05_a_backend_that_comes_back_is_found_by_the_next_datagram(proxy: Proxy) -> None:
    dead = taken(proxy)
    port = proxy.open(address_of(dead), udp=True)
    client = proxy.datagrams()
    client.sendto(b"lost", port)
    back = sharing(proxy, address_of(dead))
    dead.close()
    eventually(lambda: arrives(client, port, back), proxy.patience, "it has it")


@udp
def test_C10_nobody_but_the_backend_can_answer(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True)
    client, other = proxy.datagrams(), proxy.datagrams()
    client.sendto(b"question", port)
    flow = backend.recvfrom(100)[1]
    other.sendto(b"forged", flow)
    backend.sendto(b"answer", flow)
    assert client.recvfrom(100) == (b"answer", port)
    assert is_silent(client)


@udp
@pytest.mark.parametrize(("near", "far"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("::1", "::1")])
def test_A21_clients_and_backends_of_flows_may_be_of_different_families(proxy: Proxy, near: str, far: str) -> None:
    backend = proxy.datagrams(far)
    port = proxy.open(address_of(backend), udp=True, host=near)
    client = proxy.datagrams(near)
    client.sendto(b"question", port)
    data, flow = backend.recvfrom(100)
    assert data == b"question"
    backend.sendto(b"answer", flow)
    data, sender = client.recvfrom(100)
    assert (data, Address(*sender[:2])) == (b"answer", port)


@udp
def test_a_client_that_is_denied_is_not_heard(proxy: Proxy, backend: socket.socket) -> None:
    port = proxy.open(address_of(backend), udp=True, deny=("127.0.0.8/29",))
    proxy.datagrams("127.0.0.9").sendto(b"denied", port)
    proxy.datagrams("127.0.0.7").sendto(b"not denied", port)
    assert backend.recv(100) == b"not denied"
