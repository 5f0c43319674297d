"""Services that are leased for a time: they end by themselves, with what they hold, and nothing makes them forget."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harbor.errors import HarborError
from harbor.model import Address
from harbor.store import Store
from support.faulty_store import FaultyStore
from support.port_block import open_ports
from support.running_node import MakeBackend, RunningNode, Start
from support.sockets import connected, ends
from support.waiting import eventually

Ending = Callable[[RunningNode], None]


def is_gone(node: RunningNode, name: str) -> bool:
    return name not in node.services()


def change(node: RunningNode, name: str, **changes: object) -> float | None:
    """Change the policy; returns when the service ends now."""
    return node.wait(node.node.update_service(name, changes, actor="test")).service.expires_at


def test_a_service_ends_when_its_time_is_over_and_leaves_a_line(
    node: RunningNode, backend: MakeBackend, ports: range
) -> None:
    made = node.create("debug", expires=0.5)
    assert 0 < made["expires_at"] - time.time() <= 0.5
    node.create("stays")
    node.put("debug", "b", backend("hello").address)
    node.wait(node.node.bind_service("debug", "app", actor="test"))
    client = connected(Address("127.0.0.1", made["port"]))
    assert client.recv(10) == b"hello"
    eventually(lambda: is_gone(node, "debug"))
    assert ends(client) == "reset"
    client.close()
    assert list(open_ports(ports)) == [node.services()["stays"].service.port]
    assert node.events("service.deleted") == [f"debug expired and gave back port {made['port']}"]
    events = node.call(lambda: node.node.events.recent(0, 100))
    assert [event.actor for event in events if event.kind == "service.deleted"] == ["node"]
    assert len(node.events("app.unbound")) == 1
    with pytest.raises(ConnectionRefusedError):
        connected(Address("127.0.0.1", made["port"]))


def test_it_is_put_off_and_put_away_by_another_time(node: RunningNode) -> None:
    first = node.create("debug", expires=0.4)["expires_at"]
    assert (change(node, "debug", expires=3600) or 0) > first + 3000
    node.create("other", expires=0.4)
    assert change(node, "other", max_sessions=7) is not None  # whatever else changes, the end stays
    eventually(lambda: is_gone(node, "other"))
    assert change(node, "debug", expires=None) is None
    assert "expires_at" not in node.services()["debug"].as_json()


@pytest.mark.parametrize("wrong", [-1, "1h", 10**12])
def test_a_time_that_is_none_is_refused(node: RunningNode, wrong: object) -> None:
    with pytest.raises(HarborError, match="expires"):
        node.create("debug", expires=wrong)
    assert node.services() == {}


@pytest.mark.parametrize("end", [RunningNode.close, RunningNode.vanish], ids=["stopped", "killed"])
def test_G12_the_end_survives_a_restart_and_who_is_overdue_does_not_open_again(
    start: Start, end: Ending, ports: range
) -> None:
    node = start()
    soon = node.create("soon", expires=0.5)["expires_at"]
    node.create("later", expires=3600)
    at = node.services()["later"].service.expires_at
    end(node)
    eventually(lambda: time.time() > soon)
    node = start()
    assert len(open_ports(ports)) == 1
    eventually(lambda: is_gone(node, "soon"))
    assert node.services()["later"].service.expires_at == at
    assert len(node.events("service.deleted")) == 1


def test_when_the_disk_fails_it_ends_once_that_works_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harbor.node.lifetimes.RETRY", 0.1)
    stores: list[FaultyStore] = []

    def faulty(store: Store) -> Store:
        stores.append(FaultyStore(store))
        return stores[0]

    node = start(store=faulty)
    node.create("debug", expires=0.3)
    stores[0].broken = True
    eventually(lambda: stores[0].failure)
    assert not is_gone(node, "debug")
    stores[0].broken = False
    eventually(lambda: is_gone(node, "debug"))
