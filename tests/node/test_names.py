"""Backends that are registered by name: the name is followed, and never leads anywhere forbidden."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from harbor.errors import HarborError
from harbor.node import names
from harbor.sources.dns import LookupFailed, Resolver
from support.port_block import port_block
from support.running_node import MakeBackend, RunningNode, Start
from support.waiting import eventually


class Zone:
    """A resolver that knows what the test says. ``asked`` counts lookups by name."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {f"{name}.test": addresses for name, addresses in names.items()}
        self.asked: dict[str, int] = {}

    async def addresses(self, name: str) -> list[str]:
        self.asked[name] = self.asked.get(name, 0) + 1
        if name not in self.names:
            raise LookupFailed(f"{name}: no such name")
        return self.names[name]

    def await_lookups(self, name: str, count: int = 2) -> None:
        """Wait until the name was looked up so many times more; with two, one began after this."""
        before = self.asked.get(name, 0)
        eventually(lambda: self.asked.get(name, 0) >= before + count, what=f"lookups of {name}")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "REFRESH", 0.03)
    monkeypatch.setattr(names, "RETRY", 0.03)


@pytest.fixture
def zone() -> Zone:
    return Zone(app=["127.0.0.2"], metadata=["169.254.169.254"], mixed=["169.254.169.254", "127.0.0.3"])


@pytest.fixture
def node(start: Start, zone: Zone) -> RunningNode:
    node = start(resolver=zone)
    node.create("web")
    return node


@pytest.fixture
def app(backend: MakeBackend) -> Iterator[int]:
    """The port on which 127.0.0.2 and 127.0.0.3 have a backend each."""
    with port_block(1) as (port,):
        backend("two", host="127.0.0.2", port=port)
        backend("three", host="127.0.0.3", port=port)
        yield port


def test_a_name_is_resolved_at_registration_and_followed(node: RunningNode, zone: Zone, app: int) -> None:
    node.put("web", "b", ("app.test", app))
    assert node.backends("web") == {"b": "up"}
    assert node.exchange("web") == b"two"
    zone.names["app.test"] = ["127.0.0.3"]
    eventually(lambda: node.exchange("web") == b"three")
    del zone.names["app.test"]
    zone.await_lookups("app.test")
    assert node.exchange("web") == b"three"


def test_an_address_that_the_name_still_has_is_kept(node: RunningNode, zone: Zone, app: int) -> None:
    node.put("web", "b", ("app.test", app))
    zone.names["app.test"] = ["127.0.0.3", "127.0.0.2"]
    zone.await_lookups("app.test")
    assert node.exchange("web") == b"two"


def test_K05_a_name_that_later_points_somewhere_forbidden_keeps_its_last_good_address(
    node: RunningNode, zone: Zone, app: int
) -> None:
    node.put("web", "b", ("app.test", app))
    for forbidden in (["169.254.169.254"], ["0.0.0.0"], ["::ffff:10.0.0.1"], ["10.0.0.1"]):
        zone.names["app.test"] = forbidden
        zone.await_lookups("app.test")
        assert node.exchange("web") == b"two"
    assert node.backends("web") == {"b": "up"}


def test_K05_a_name_may_not_lead_to_the_nodes_own_ports(node: RunningNode, zone: Zone, ports: range) -> None:
    zone.names["app.test"] = ["127.0.0.1"]
    with pytest.raises(HarborError) as refused:
        node.put("web", "b", ("app.test", node.port("web")))
    assert refused.value.code == "backend_is_harbor"


def test_K04_a_name_with_none_but_forbidden_addresses_is_refused(node: RunningNode, app: int) -> None:
    with pytest.raises(HarborError) as refused:
        node.put("web", "b", ("metadata.test", app))
    assert refused.value.code == "backend_not_allowed"
    assert node.backends("web") == {}


def test_K04_of_several_addresses_an_allowed_one_is_taken(node: RunningNode, app: int) -> None:
    node.put("web", "b", ("mixed.test", app))
    assert node.exchange("web") == b"three"


def test_H09_a_name_without_an_address_is_starting_until_it_has_one(node: RunningNode, zone: Zone, app: int) -> None:
    node.put("web", "b", ("late.test", app))
    assert node.backends("web") == {"b": "starting"}
    zone.names["late.test"] = ["127.0.0.2"]
    node.await_backends("web", {"b": "up"})
    assert node.exchange("web") == b"two"


def test_a_name_is_looked_up_at_once_after_a_restart(
    start: Start, node: RunningNode, zone: Zone, app: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.put("web", "b", ("app.test", app))
    node.vanish()
    monkeypatch.setattr(names, "RETRY", 3600.0)
    monkeypatch.setattr(names, "REFRESH", 3600.0)
    node = start(resolver=zone)
    node.await_backends("web", {"b": "up"})
    # Nor does one that comes later wait for the others' time.
    zone.names["new.test"] = ["127.0.0.3"]
    monkeypatch.setattr(names, "RETRY", 0.03)
    node.put("web", "c", ("unknown.test", app))
    zone.names["unknown.test"] = ["127.0.0.3"]
    node.await_backends("web", {"b": "up", "c": "up"})


def test_an_instance_that_registers_by_number_is_not_moved_by_the_name_it_had(
    node: RunningNode, zone: Zone, app: int
) -> None:
    node.put("web", "b", ("app.test", app))
    node.put("web", "named", ("mixed.test", app))
    node.remove("web", "named")
    node.put("web", "b", ("127.0.0.2", app))
    zone.names["app.test"] = ["127.0.0.3"]
    node.put("web", "other", ("mixed.test", app))
    zone.await_lookups("mixed.test", 4)
    node.remove("web", "other")
    assert {node.exchange("web") for _ in range(3)} == {b"two"}


def test_names_of_a_deleted_service_are_looked_up_no_more(node: RunningNode, zone: Zone, app: int) -> None:
    node.create("kept")
    node.put("web", "b", ("app.test", app))
    node.put("kept", "b", ("mixed.test", app))
    node.delete("web")
    zone.await_lookups("mixed.test")  # one that was under way has ended by then
    before = zone.asked["app.test"]
    zone.await_lookups("mixed.test", 4)
    assert zone.asked["app.test"] == before


async def test_H09_a_name_that_nobody_has_is_a_failed_lookup() -> None:
    resolver = Resolver()
    for name in ("no-such-host.invalid", "a" * 64 + ".invalid", "."):
        with pytest.raises(LookupFailed, match=f"^{re.escape(name)}: ."):
            await resolver.addresses(name)


async def test_names_are_resolved_to_numeric_addresses() -> None:
    assert set(await Resolver().addresses("localhost")) <= {"127.0.0.1", "::1"}
