"""A node that starts again, after an orderly stop or after none, is the node that it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from harbor.config import parse
from harbor.errors import StateUnusable
from support.datagram_backend import DatagramBackend
from support.port_block import open_ports
from support.running_node import MakeBackend, MakeDatagramBackend, RunningNode, Start, config_text
from support.sockets import datagrams
from support.waiting import eventually

Ending = Callable[[RunningNode], None]


@pytest.fixture(params=[RunningNode.close, RunningNode.vanish], ids=["stopped", "killed"])
def end(request: pytest.FixtureRequest) -> Ending:
    ending: Ending = request.param
    return ending


def stored(node: RunningNode) -> list[str]:
    """The backends on disk, in queue order."""
    return [saved.backend.id for saved in node.store.load().backends]


def test_services_keep_ports_internal_ports_ids_and_policies(start: Start, end: Ending, ports: range) -> None:
    node = start()
    for name in ("web", "udp-dns", "both-dns", "gone"):
        node.create(name, max_sessions=7)
    node.delete("gone")
    node.wait(node.node.update_service("web", {"drain_timeout": 3, "removal": "cut"}, actor="test"))
    before = node.services()
    opened = open_ports(ports)
    end(node)
    assert open_ports(ports) == {}
    node = start()
    after = node.services()
    assert {name: view.service for name, view in after.items()} == {name: view.service for name, view in before.items()}
    assert {name: view.policy for name, view in after.items()} == {name: view.policy for name, view in before.items()}
    assert open_ports(ports) == opened
    assert len(opened) == 3


def test_the_queue_keeps_its_order_and_the_udp_primary_its_place(
    start: Start, end: Ending, datagram_backend: MakeDatagramBackend
) -> None:
    node = start()
    node.create("udp-dns")
    for name in ("c", "a", "b"):
        node.put("udp-dns", name, datagram_backend(name).address)
    assert list(node.backends("udp-dns")) == ["c", "a", "b"]
    end(node)
    node = start()
    assert list(node.backends("udp-dns").items()) == [("c", "up"), ("a", "up"), ("b", "up")]
    assert node.ask("udp-dns") == b"c:ping"


def lose_the_primary(node: RunningNode, datagram_backend: MakeDatagramBackend, **policy: float) -> DatagramBackend:
    """``udp-dns`` with the backends first and second, of which the first does not answer and is down."""
    node.create("udp-dns", **policy)
    first = datagram_backend("first")
    node.put("udp-dns", "first", first.address)
    node.put("udp-dns", "second", datagram_backend("second").address)
    first.close()
    with datagrams() as client:

        def refused() -> bool:
            client.sendto(b"is anybody there?", ("127.0.0.1", node.port("udp-dns")))
            return node.backends("udp-dns")["first"] == "down"

        eventually(refused)
    return first


def test_the_queue_keeps_the_order_that_a_promotion_gave_it(
    start: Start, end: Ending, datagram_backend: MakeDatagramBackend
) -> None:
    node = start()
    first = lose_the_primary(node, datagram_backend, fail_timeout=0.3)
    datagram_backend("first", port=first.address.port)
    node.await_backends("udp-dns", {"second": "up", "first": "up"})
    eventually(lambda: stored(node) == ["second", "first"], what="the new order is on disk")
    end(node)
    node = start()
    assert list(node.backends("udp-dns")) == ["second", "first"]
    assert node.ask("udp-dns") == b"second:ping"


def test_a_promoted_backend_stays_primary_over_a_restart_while_the_first_is_down(
    start: Start, end: Ending, datagram_backend: MakeDatagramBackend
) -> None:
    node = start()
    lose_the_primary(node, datagram_backend)
    eventually(lambda: stored(node) == ["second", "first"], what="the new order is on disk")
    end(node)
    assert start().ask("udp-dns") == b"second:ping"


def test_a_lease_gets_one_fresh_ttl_and_no_more(start: Start, end: Ending, backend: MakeBackend) -> None:
    node = start()
    node.create("web")
    node.put("web", "leased", backend("leased").address, ttl=1.0)
    node.put("web", "lasting", backend("lasting").address)
    eventually(lambda: (node.backend("web", "leased").expires_in or 0) < 0.5)
    end(node)
    node = start()
    # It had less than half of it left.
    assert (node.backend("web", "leased").expires_in or 0) > 0.5
    assert {node.exchange("web") for _ in range(4)} == {b"leased", b"lasting"}
    node.await_backends("web", {"lasting": "up"})
    eventually(lambda: stored(node) == ["lasting"])
    end(node)
    assert list(start().backends("web")) == ["lasting"]


def test_a_drained_backend_that_renews_its_lease_is_still_draining(
    start: Start, end: Ending, backend: MakeBackend
) -> None:
    node = start()
    node.create("web")
    address = backend("b").address
    node.put("web", "b", address, ttl=30)
    node.drain("web", "b")
    end(node)
    node = start()
    assert node.backends("web") == {"b": "draining"}
    assert node.put("web", "b", address, ttl=30).state == "draining"


def test_a_drained_backend_without_a_lease_is_gone_soon(start: Start, end: Ending, backend: MakeBackend) -> None:
    node = start()
    node.create("web")
    node.put("web", "b", backend("b").address)
    node.wait(node.node.drain_backend("web", "b", actor="test"))
    end(node)
    node = start()
    node.await_backends("web", {})
    eventually(lambda: stored(node) == [], what="it is gone from disk too")


def test_a_repeated_request_is_answered_as_the_first_time(start: Start, end: Ending) -> None:
    node = start()
    body = node.create("web", key="k")
    end(node)
    node = start()
    assert node.create("web", key="k") == body
    assert list(node.services()) == ["web"]


def test_the_event_feed_goes_on_where_it_was(start: Start, end: Ending) -> None:
    node = start()
    node.create("web")
    node.delete("web")
    end(node)
    node = start()
    node.create("next")
    events = node.call(lambda: node.node.events.recent(0, 100))
    assert [(event.kind, event.actor) for event in events] == [
        ("service.created", "test"),
        ("service.deleted", "test"),
        ("service.created", "test"),
    ]
    assert [event.id for event in events] == sorted({event.id for event in events})


def test_a_backend_that_the_configuration_allows_no_more_gets_no_traffic(
    start: Start, backend: MakeBackend, ports: range
) -> None:
    node = start()
    node.create("web")
    allowed = backend("allowed", host="127.0.0.2").address
    node.put("web", "a", backend("forbidden").address)
    node.put("web", "b", allowed)
    node.close()
    text = config_text(node.config.state_dir, ports).replace("127.0.0.0/8", "127.0.0.2/32")
    with RunningNode(parse(text, "test.yml")) as node:
        assert node.backends("web") == {"a": "starting", "b": "up"}
        assert {node.exchange("web") for _ in range(4)} == {b"allowed"}
        assert "127.0.0.1" in node.events("backend.refused")[0]


def test_a_start_that_fails_says_why_and_leaves_no_port_open(start: Start, ports: range) -> None:
    node = start()
    node.create("web")
    node.create("udp-x")
    node.close()
    with closing(sqlite3.connect(node.store.path)) as connection:
        connection.execute("UPDATE services SET int_port = 'four thousand'")
        connection.commit()
    with pytest.raises(StateUnusable, match="table services"):
        start()
    assert open_ports(ports) == {}
