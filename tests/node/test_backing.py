"""Backends register, renew, drain, leave and die: what becomes of their place in the queue and of their sessions."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from harbor.errors import HarborError
from harbor.model import Address
from support.running_node import MakeBackend, MakeDatagramBackend, RunningNode
from support.sockets import connected, datagrams, ends, free_port
from support.waiting import eventually


@pytest.fixture
def client(node: RunningNode) -> Iterator[socket.socket]:
    """A UDP client, which keeps its address."""
    with datagrams() as sock:
        yield sock


def told(client: socket.socket, port: int, data: bytes = b"who") -> bytes:
    """Who answers this client."""
    client.sendto(data, ("127.0.0.1", port))
    return client.recv(1 << 16).partition(b":")[0]


def code_of(node: RunningNode, name: str, backend_id: str, address: tuple[str, int], **more: object) -> str:
    with pytest.raises(HarborError) as refused:
        node.put(name, backend_id, address, **more)
    return refused.value.code


# -- Registration -----------------------------------------------------------------------------------------------------


def test_H01_registering_twice_is_once_and_a_new_address_is_a_new_instance_at_the_end(
    node: RunningNode, backend: MakeBackend
) -> None:
    node.create("web")
    first, second, third = backend("first"), backend("second"), backend("third")
    node.put("web", "a", first.address)
    node.put("web", "b", second.address)
    node.put("web", "a", first.address)
    assert node.backends("web") == {"a": "up", "b": "up"}
    assert [node.exchange("web") for _ in range(4)] == [b"first", b"second", b"first", b"second"]
    node.put("web", "a", third.address)
    node.await_backends("web", {"b": "up", "a": "up"})
    assert {node.exchange("web") for _ in range(4)} == {b"second", b"third"}
    for unknown in ("nobody", "a.b"):
        with pytest.raises(HarborError) as refused:
            node.remove("web", unknown)
        assert refused.value.code == "backend_not_found"
    assert node.events("backend.registered") == [
        f"web: backend {name} at 127.0.0.1 port {at.address.port}"
        for name, at in (("a", first), ("b", second), ("a", third))
    ]


def test_what_cannot_be_a_backend_is_refused_and_changes_nothing(node: RunningNode) -> None:
    node.create("web")
    assert code_of(node, "web", "b", ("10.0.0.1", 80)) == "backend_not_allowed"
    assert code_of(node, "web", "b", ("169.254.169.254", 80)) == "backend_not_allowed"
    assert code_of(node, "web", "b", ("2130706433", 80)) == "host_invalid"
    assert code_of(node, "web", "b", ("127.0.0.1", 0)) == "port_invalid"
    assert code_of(node, "web", "../b", ("127.0.0.1", 80)) == "name_invalid"
    assert code_of(node, "web", "b", ("127.0.0.1", 80), ttl=0) == "ttl_invalid"
    assert code_of(node, "web", "b", ("127.0.0.1", 80), ttl=float("nan")) == "ttl_invalid"
    assert code_of(node, "web", "b", ("127.0.0.1", 80), instance="a\nb") == "instance_invalid"
    assert code_of(node, "web", "b", ("127.0.0.1", 80), weight=0) == "weight_invalid"
    assert code_of(node, "nowhere", "b", ("127.0.0.1", 80)) == "service_not_found"
    assert node.backends("web") == {}


def test_a_backend_that_refuses_is_down_and_the_next_one_serves(node: RunningNode, backend: MakeBackend) -> None:
    node.create("web")
    node.put("web", "dead", ("127.0.0.1", free_port()))
    node.put("web", "alive", backend("alive").address)
    assert [node.exchange("web") for _ in range(6)] == [b"alive"] * 6
    assert node.backends("web") == {"dead": "down", "alive": "up"}
    assert "Connection refused" in (node.backend("web", "dead").last_failure or "")


def test_a_weight_changes_without_a_new_instance_and_a_heartbeat_keeps_it(
    node: RunningNode, backend: MakeBackend
) -> None:
    node.create("web")
    first, second = backend("first"), backend("second")
    node.put("web", "a", first.address, weight=3)
    node.put("web", "b", second.address)
    assert Counter(node.exchange("web") for _ in range(8)) == {b"first": 6, b"second": 2}
    since = node.backend("web", "a").since
    node.put("web", "a", first.address, ttl=60)
    assert node.backend("web", "a").weight == 3
    node.put("web", "b", second.address, weight=3)
    assert Counter(node.exchange("web") for _ in range(8)) == {b"first": 4, b"second": 4}
    assert abs(node.backend("web", "a").since - since) < 1


# -- Leases -----------------------------------------------------------------------------------------------------------


def test_H02_a_lease_that_is_renewed_lasts_and_one_that_is_not_ends(node: RunningNode, backend: MakeBackend) -> None:
    node.create("web")
    kept, left = backend("kept").address, backend("left").address
    node.put("web", "left", left, ttl=0.5)
    seen = 0

    def renewed() -> bool:
        nonlocal seen
        node.put("web", "kept", kept, ttl=1.0)
        seen += 1
        return "left" not in node.backends("web")

    eventually(renewed, what="the lease of the one that is not renewed ran out")
    assert node.backends("web") == {"kept": "up"}
    assert seen > 1
    assert {node.exchange("web") for _ in range(4)} == {b"kept"}
    assert [event for event in node.events("backend.draining") if "lease of 0.5 s ran out" in event]
    assert not [event for event in node.events("backend.up") if "kept" in event]  # it never was anything else


def test_C06_when_the_primary_dies_silently_its_lease_moves_live_flows_on_their_next_datagram(
    node: RunningNode, datagram_backend: MakeDatagramBackend, client: socket.socket
) -> None:
    node.create("udp-dns")
    first, second = datagram_backend("first"), datagram_backend("second")
    node.put("udp-dns", "a", first.address, ttl=0.5)
    node.put("udp-dns", "b", second.address)
    port = node.port("udp-dns")
    assert told(client, port) == b"first"
    first.mute()
    eventually(lambda: node.backends("udp-dns")["a"] != "up", what="the lease ran out")
    assert told(client, port) == b"second"
    assert told(client, port) == b"second"
    eventually(lambda: node.closed("udp-dns") == {"promoted": 1})
    assert node.events("backend.promoted") == ["udp-dns: b takes the datagrams now, a did before"]


def test_the_next_udp_backend_is_promoted_when_nobody_listens_at_the_first_and_who_returns_joins_the_end(
    node: RunningNode, datagram_backend: MakeDatagramBackend, client: socket.socket
) -> None:
    node.create("udp-dns", fail_timeout=0.3)
    first, second = datagram_backend("first"), datagram_backend("second")
    node.put("udp-dns", "a", first.address)
    node.put("udp-dns", "b", second.address)
    port = node.port("udp-dns")
    assert told(client, port) == b"first"
    first.close()
    client.settimeout(0.2)

    def promoted() -> bool:
        try:
            return told(client, port) == b"second"
        except TimeoutError:  # the datagram that ICMP answered is lost
            return False

    eventually(promoted)
    datagram_backend("first", port=first.address.port)
    node.await_backends("udp-dns", {"b": "up", "a": "up"})
    assert told(client, port) == b"second"
    node.remove("udp-dns", "b")
    assert told(client, port) == b"first"


# -- Removal ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "expired"])
@pytest.mark.parametrize(("policy", "end"), [("drain", "drained"), ("cut", "backend_removed"), ("keep", None)])
def test_B05_sessions_of_a_backend_that_goes_end_as_the_policy_says(
    node: RunningNode, backend: MakeBackend, policy: str, end: str | None, how: str
) -> None:
    node.create("web", removal=policy, drain_timeout=1.0)
    node.put("web", "a", backend("old").address, ttl=0.3 if how == "expired" else None)
    with connected(Address("127.0.0.1", node.port("web"))) as live:
        assert live.recv(3) == b"old"
        node.put("web", "b", backend("new").address)
        if how == "removed":
            node.remove("web", "a")
        eventually(lambda: node.backends("web").get("a") != "up")
        assert {node.exchange("web") for _ in range(4)} == {b"new"}
        if policy != "cut":
            live.sendall(b"still here")
            assert live.recv(100) == b"still here"
        if end is None:
            eventually(lambda: node.backends("web") == {"b": "up"})
            live.sendall(b"and here")
            assert live.recv(100) == b"and here"
            assert "drained" not in node.closed("web")
        else:
            assert ends(live) == "reset"
            assert node.closed("web")[end] == 1
    node.await_backends("web", {"b": "up"})


def test_a_drained_backend_is_gone_when_its_last_session_ends(node: RunningNode, backend: MakeBackend) -> None:
    node.create("web")
    node.put("web", "a", backend("old").address)
    with connected(Address("127.0.0.1", node.port("web"))) as live:
        assert live.recv(3) == b"old"
        node.drain("web", "a")
        node.drain("web", "a")
        assert node.backends("web") == {"a": "draining"}
        with connected(Address("127.0.0.1", node.port("web"))) as late:
            assert late.recv(1) == b""
        live.sendall(b"bye")
        assert live.recv(3) == b"bye"
    node.await_backends("web", {})
    assert len(node.events("backend.drain")) == 1


def test_a_drained_backend_that_goes_on_renewing_its_lease_stays_draining(
    node: RunningNode, backend: MakeBackend
) -> None:
    node.create("web")
    address = backend("old").address
    node.put("web", "a", address, ttl=0.6)
    node.drain("web", "a")
    for _ in range(3):
        before = node.backend("web", "a").expires_in or 0.0
        eventually(lambda: (node.backend("web", "a").expires_in or 0.0) < before - 0.05)  # noqa: B023
        assert node.put("web", "a", address, ttl=0.6).state == "draining"
    node.await_backends("web", {})  # and goes when it no longer does


def test_a_backend_that_registers_while_its_predecessor_drains_serves_at_once(
    node: RunningNode, backend: MakeBackend
) -> None:
    node.create("web")
    node.put("web", "a", backend("old").address)
    with connected(Address("127.0.0.1", node.port("web"))) as live:
        assert live.recv(3) == b"old"
        node.remove("web", "a")
        assert node.backends("web") == {"a": "draining"}
        node.put("web", "a", backend("new").address)
        assert node.backends("web") == {"a": "up"}
        assert node.exchange("web") == b"new"
        live.sendall(b"bye")
        assert live.recv(3) == b"bye"
