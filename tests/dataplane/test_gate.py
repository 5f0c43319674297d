"""Who gets a session, by address, by how many it has, and by how fast it comes; and how fast datagrams may come."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from harbor.model import Address, Drop, Protocol, Reason
from harbor.policy.proxy_header import write_v1, write_v2
from support.backends import echo
from support.certificates import issue, terms
from support.plane import RunningPlane
from support.sockets import address_of, ends, receive_all, receive_exactly, reset
from support.waiting import eventually

ONE = {"rate": 0.001, "burst": 1}
MANY = {"rate": 1000, "burst": 1000}


def served(plane: RunningPlane, port: int, source: str | None = None) -> socket.socket:
    """A client that has a session."""
    client = plane.client(port, source=source)
    client.sendall(b"ping")
    assert receive_exactly(client, 4) == b"ping"
    return client


def echoing(plane: RunningPlane, **policy: object) -> int:
    port = plane.open(**policy)
    plane.backends(port, [plane.backend(echo).address])
    return port


def shaken(plane: RunningPlane, port: int) -> ssl.SSLSocket:
    """A client that has shaken hands, and does not care with whom."""
    return encrypted(plane, plane.client(port))


def encrypted(plane: RunningPlane, raw: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_socket(raw)
    plane.keep(client)
    return client


def test_J03_a_source_has_so_many_sessions_and_others_theirs(plane: RunningPlane) -> None:
    port = echoing(plane, max_sessions_per_source=2)
    mine = [served(plane, port) for _ in range(2)]
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_SOURCE)
    served(plane, port, source="127.0.0.2")
    reset(mine[0])
    plane.await_active(port, 2)
    served(plane, port)
    assert ends(plane.client(port)) == "end"


def test_J03_the_limit_counts_those_who_were_there_before_it_and_cuts_nobody(plane: RunningPlane) -> None:
    port = echoing(plane)
    mine = [served(plane, port) for _ in range(3)]
    plane.set_policy(port, max_sessions_per_source=3)
    assert ends(plane.client(port)) == "end"
    plane.set_policy(port, max_sessions_per_source=1)
    for client in mine:
        client.sendall(b"ping")
        assert receive_exactly(client, 4) == b"ping"
    plane.set_policy(port)
    served(plane, port)


def test_J03_who_waits_is_counted_too(plane: RunningPlane) -> None:
    port = echoing(plane, max_sessions=1, max_sessions_per_source=2, queue={"size": 9, "timeout": 600})
    served(plane, port)
    plane.client(port)
    eventually(lambda: plane.counters(port).active == 2)
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_SOURCE)


def test_sessions_of_one_source_come_no_faster_than_they_may(plane: RunningPlane) -> None:
    port = echoing(plane, sessions_per_second_per_source={"rate": 0.001, "burst": 2})
    for _ in range(2):
        served(plane, port)
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_RATE)
    served(plane, port, source="127.0.0.2")
    plane.set_policy(port, sessions_per_second_per_source=MANY)
    served(plane, port)


def test_sessions_of_a_service_come_no_faster_than_they_may(plane: RunningPlane) -> None:
    port = echoing(plane, sessions_per_second={"rate": 0.001, "burst": 2})
    served(plane, port)
    served(plane, port, source="127.0.0.2")
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_RATE)


def test_who_is_denied_never_reaches_a_backend(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(deny=["127.0.0.2"])
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    assert ends(plane.client(port, source="127.0.0.2")) == "end"
    plane.await_end(port, Reason.ACL_DENIED)
    plane.set_policy(port, allow=["127.0.0.2"])
    assert ends(plane.client(port)) == "end"
    near.sendall(b"stays")  # who has a session keeps it
    assert receive_exactly(far, 5) == b"stays"
    plane.session(port, backend, source="127.0.0.2")


def test_clients_over_ipv4_are_known_by_it_on_a_port_for_both(plane: RunningPlane) -> None:
    port = plane.open(host="::", allow=["127.0.0.0/8"])
    plane.backends(port, [plane.backend(echo).address])
    served(plane, port)
    assert ends(plane.client(port, host="::1")) == "end"
    plane.await_end(port, Reason.ACL_DENIED)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"max_sessions_per_source": 1}, b"Your address has as many connections"),
        ({"sessions_per_second": ONE}, b"Connections come too fast"),
    ],
)
def test_in_http_a_page_says_why(plane: RunningPlane, policy: dict[str, object], words: bytes) -> None:
    backend = plane.listening()
    port = plane.open(http=True, **policy)
    plane.backends(port, [address_of(backend)])
    plane.session(port, backend)
    page = receive_all(plane.client(port))
    assert page.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert words in page


def test_in_http_over_tls_the_page_comes_after_the_handshake_but_who_is_denied_gets_none(
    plane: RunningPlane, tmp_path: Path
) -> None:
    port = plane.open(tls=terms(issue(tmp_path, "harbor.test")), http=True, sessions_per_second=ONE, deny=["127.0.0.2"])
    plane.backends(port, [plane.backend(echo).address])
    assert ends(plane.client(port, source="127.0.0.2")) == "end"
    plane.await_end(port, Reason.ACL_DENIED)
    first, second = shaken(plane, port), shaken(plane, port)
    assert receive_all(second).startswith(b"HTTP/1.1 429 ")
    first.close()
    second.close()


def test_over_tls_who_comes_too_fast_does_not_even_shake_hands(plane: RunningPlane, tmp_path: Path) -> None:
    port = plane.open(tls=terms(issue(tmp_path, "harbor.test")), sessions_per_second=ONE)
    plane.backends(port, [plane.backend(echo).address])
    first = shaken(plane, port)
    first.sendall(b"ping")
    assert receive_exactly(first, 4) == b"ping"
    assert ends(plane.client(port)) == "end"
    plane.await_end(port, Reason.LIMIT_RATE)
    first.close()


@pytest.mark.parametrize("over_tls", [False, True])
def test_behind_a_proxy_it_is_the_client_that_counts(plane: RunningPlane, tmp_path: Path, over_tls: bool) -> None:
    tls = terms(issue(tmp_path, "harbor.test")) if over_tls else None
    port = plane.open(tls=tls, accept_proxy=["127.0.0.1"], deny=["192.0.2.66"], max_sessions_per_source=1)
    plane.backends(port, [plane.backend(echo).address])

    def client(host: str) -> socket.socket:
        raw = plane.client(port)
        raw.sendall(write_v1(Address(host, 50_000), Address("198.51.100.1", 443)))
        return raw

    def talks(host: str) -> None:
        near = encrypted(plane, client(host)) if over_tls else client(host)
        near.sendall(b"ping")
        assert receive_exactly(near, 4) == b"ping"

    talks("192.0.2.1")
    talks("192.0.2.2")
    assert ends(client("192.0.2.66")) == "end"
    plane.await_end(port, Reason.ACL_DENIED)
    assert ends(client("192.0.2.1")) == "end"
    assert plane.closed(port) == {Reason.ACL_DENIED: 1, Reason.LIMIT_SOURCE: 1}


class TestDatagrams:
    def answered(self, plane: RunningPlane, port: int, client: socket.socket, backend: socket.socket) -> None:
        client.sendto(b"ping", ("127.0.0.1", port))
        data, place = backend.recvfrom(100)
        backend.sendto(data, place)
        assert client.recv(100) == b"ping"

    def test_a_datagram_of_who_is_denied_begins_no_flow_but_a_flow_that_lives_goes_on(
        self, plane: RunningPlane
    ) -> None:
        backend, client, denied = plane.datagrams(), plane.datagrams(), plane.datagrams("127.0.0.2")
        port = plane.open("udp", deny=["127.0.0.2"])
        plane.backends(port, [address_of(backend)])
        denied.sendto(b"no", ("127.0.0.1", port))
        eventually(lambda: plane.counters(port).dropped == {Drop.ACL_DENIED: 1})
        self.answered(plane, port, client, backend)
        plane.set_policy(port, deny=["127.0.0.0/8"])
        self.answered(plane, port, client, backend)
        other = plane.datagrams()
        other.sendto(b"no", ("127.0.0.1", port))
        eventually(lambda: plane.counters(port).dropped == {Drop.ACL_DENIED: 2})
        assert plane.counters(port).opened == 1

    def test_C08_a_source_with_too_many_flows_gives_up_one_of_its_own(self, plane: RunningPlane) -> None:
        backend, neighbour = plane.datagrams(), plane.datagrams("127.0.0.2")
        port = plane.open("udp", max_sessions_per_source=2)
        plane.backends(port, [address_of(backend)])
        self.answered(plane, port, neighbour, backend)
        known, *others = (plane.datagrams() for _ in range(5))
        self.answered(plane, port, known, backend)
        for number, other in enumerate(others):
            other.sendto(b"x", ("127.0.0.1", port))
            assert backend.recv(100) == b"x"
            assert plane.counters(port).active == 3, number
        assert plane.closed(port) == {Reason.EVICTED: 3}
        self.answered(plane, port, known, backend)  # who was answered stays
        self.answered(plane, port, neighbour, backend)
        assert plane.counters(port).opened == 6

    def test_flows_begin_no_faster_than_they_may(self, plane: RunningPlane) -> None:
        backend, first, second = plane.datagrams(), plane.datagrams(), plane.datagrams()
        port = plane.open("udp", sessions_per_second_per_source=ONE)
        plane.backends(port, [address_of(backend)])
        self.answered(plane, port, first, backend)
        second.sendto(b"no", ("127.0.0.1", port))
        eventually(lambda: plane.counters(port).dropped == {Drop.LIMIT_RATE: 1})
        self.answered(plane, port, first, backend)

    def test_a_flow_that_moves_to_another_backend_is_no_new_one(self, plane: RunningPlane) -> None:
        backends, client = [plane.datagrams(), plane.datagrams()], plane.datagrams()
        port = plane.open("udp", sessions_per_second=ONE, max_sessions_per_source=1)
        for backend in backends:
            plane.backends(port, [address_of(backend)])
            self.answered(plane, port, client, backend)
        assert plane.closed(port) == {Reason.PROMOTED: 1}
        assert plane.counters(port).dropped == {}

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    def test_datagrams_beyond_the_rate_of_their_source_are_dropped_and_counted(
        self, plane: RunningPlane, host: str
    ) -> None:
        backend, greedy, other = plane.datagrams(), plane.datagrams(), plane.datagrams("127.0.0.2")
        port = plane.open("udp", host=host, packets_per_second_per_source={"rate": 0.001, "burst": 3})
        plane.backends(port, [address_of(backend)])
        for number in range(10):
            greedy.sendto(bytes([number]), ("127.0.0.1", port))
        other.sendto(b"other", ("127.0.0.1", port))
        assert [backend.recv(100) for _ in range(4)] == [b"\0", b"\1", b"\2", b"other"]
        assert plane.counters(port).dropped == {Drop.LIMIT_PACKETS: 7}
        plane.set_policy(port)
        greedy.sendto(b"free", ("127.0.0.1", port))
        assert backend.recv(100) == b"free"

    def test_bytes_beyond_the_rate_of_their_source_are_dropped_and_counted(self, plane: RunningPlane) -> None:
        backend, client = plane.datagrams(), plane.datagrams()
        port = plane.open("udp", bytes_per_second_per_source={"rate": 1})
        plane.backends(port, [address_of(backend)])
        for size in (40_000, 30_000, 20_000):
            client.sendto(bytes(size), ("127.0.0.1", port))
        assert [len(backend.recv(70_000)) for _ in range(2)] == [40_000, 20_000]
        assert plane.counters(port).dropped == {Drop.LIMIT_BYTES: 1}

    def test_behind_a_proxy_each_client_has_a_share_of_its_own(self, plane: RunningPlane) -> None:
        backend, proxy, other = plane.datagrams(), plane.datagrams(), plane.datagrams()
        port = plane.open("udp", accept_proxy=["127.0.0.1"], packets_per_second_per_source=ONE)
        plane.backends(port, [address_of(backend)])
        for sender, host in ((proxy, "192.0.2.1"), (other, "192.0.2.2")):
            header = write_v2(Address(host, 50_000), Address("198.51.100.1", 443), Protocol.UDP)
            for text in (b"first", b"second"):
                sender.sendto(header + text, ("127.0.0.1", port))
        assert [backend.recv(100) for _ in range(2)] == [b"first", b"first"]
        eventually(lambda: plane.counters(port).dropped == {Drop.LIMIT_PACKETS: 2})
