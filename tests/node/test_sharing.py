"""Ports that services share: who may have one with whom, what becomes of it when they come, change, go and return."""

from __future__ import annotations

import concurrent.futures
import socket
from collections.abc import Callable
from typing import Any

import pytest

from harbor.errors import HarborError, StoreFailed
from harbor.model import Address, Exposure, Protocol, ServiceWish, Status, Tls
from support.client_hello import hello, message, records
from support.faulty_store import FaultyStore
from support.port_block import open_ports
from support.running_node import MakeBackend, RunningNode, Start
from support.sockets import connected, receive_all, receive_exactly
from support.waiting import eventually

Ending = Callable[[RunningNode], None]
UNKNOWN = bytes.fromhex("15030100020270")


@pytest.fixture(params=[RunningNode.close, RunningNode.vanish], ids=["stopped", "killed"])
def end(request: pytest.FixtureRequest) -> Ending:
    found: Ending = request.param
    return found


def asked(node: RunningNode, port: int, name: str) -> bytes:
    """What a client gets that asks for this name: a backend's greeting, or an alert."""
    with connected(Address("127.0.0.1", port)) as client:
        client.sendall(records(message(hello(name))))
        answer = client.recv(1)
        return answer + (receive_all(client) if answer == UNKNOWN[:1] else receive_exactly(client, 3))


def site(node: RunningNode, backend: MakeBackend, name: str, port: int | None, *names: str) -> int:
    """A service whose backend greets with the first four letters of its name; returns the port."""
    made = node.share(name, port, *names)
    node.put(name, "b", backend(name).address)
    return int(made["port"])


def refusal(change: Callable[[], Any]) -> str:
    with pytest.raises(HarborError) as refused:
        change()
    return f"{refused.value.code}: {refused.value}"


@pytest.fixture
def shared(node: RunningNode, backend: MakeBackend, ports: range) -> int:
    """A port that two services have."""
    site(node, backend, "shop", ports[3], "shop.test")
    return site(node, backend, "blog", ports[3], "blog.test", "*.blog.test")


def test_services_that_take_different_names_have_one_port(node: RunningNode, shared: int, ports: range) -> None:
    assert asked(node, shared, "shop.test") == b"shop"
    assert asked(node, shared, "x.blog.test") == b"blog"
    assert asked(node, shared, "stranger.test") == UNKNOWN
    assert node.service("shop").as_json()["server_names"] == ["shop.test"]
    assert open_ports(ports) == {shared: {"tcp"}}
    view = node.call(node.node.ports)
    assert view.used == {shared: ["blog", "shop"]}
    assert view.free == len(ports) - 1
    assert node.events("service.created")[1] == f"blog leases tcp port {shared}, which it shares with shop"


def test_names_are_kept_as_they_are_compared(node: RunningNode) -> None:
    made = node.share("shop", None, "Shop.Test.", "shop.test", "*.SHOP.test")
    assert made["server_names"] == ["shop.test", "*.shop.test"]


def test_each_has_an_internal_port_counters_and_sessions_of_its_own(node: RunningNode, shared: int) -> None:
    shop, blog = node.service("shop"), node.service("blog")
    assert {shop.service.int_port, blog.service.int_port} == {4100, 4101}
    with connected(Address("127.0.0.1", shared)) as client:
        client.sendall(records(message(hello("shop.test"))))
        assert receive_exactly(client, 4) == b"shop"
        assert [session.server_name for session in node.sessions("shop")] == ["shop.test"]
        assert node.sessions("blog") == []
    eventually(lambda: node.closed("shop"))
    assert node.closed("blog") == {}


@pytest.mark.parametrize(
    ("names", "code", "holder"),
    [
        (("shop.test",), "server_name_taken", "shop"),
        (("own.test", "SHOP.test"), "server_name_taken", "shop"),
        (("*.blog.test",), "server_name_taken", "blog"),
    ],
)
def test_a_name_has_one_owner_and_a_refusal_says_who(
    node: RunningNode, shared: int, ports: range, names: tuple[str, ...], code: str, holder: str
) -> None:
    said = refusal(lambda: node.share("more", shared, *names))
    assert said.startswith(f"{code}: on port {shared} service {holder} takes")
    assert node.call(node.node.ports).used == {shared: ["blog", "shop"]}
    assert asked(node, shared, "shop.test") == b"shop"


def test_one_service_may_take_the_rest_and_no_second(node: RunningNode, backend: MakeBackend, shared: int) -> None:
    site(node, backend, "rest", shared)
    assert asked(node, shared, "stranger.test") == b"rest"
    assert refusal(lambda: node.share("more", shared)).startswith(
        f"server_name_taken: on port {shared} service rest takes whatever no other service takes"
    )


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"protocol": Protocol.UDP},
        {"protocol": Protocol.BOTH},
        {"tls": Tls.NODE},
        {"tls": Tls.OFF},
        {"protocol": Protocol.BOTH, "tls": Tls.PASSTHROUGH},
        {"tls": Tls.PASSTHROUGH, "exposure": Exposure.PUBLIC},
        {"tls": Tls.PASSTHROUGH, "origin": {"platform": "osb", "instance_id": "one"}},
    ],
)
def test_services_of_another_kind_are_refused_on_a_shared_port(
    node: RunningNode, shared: int, wish: dict[str, Any]
) -> None:
    made = ServiceWish("other", port=shared, **wish)
    said = refusal(lambda: node.wait(node.node.create_service(made, actor="test")))
    assert said.startswith("port_leased: ")
    assert asked(node, shared, "shop.test") == b"shop"


@pytest.mark.parametrize("wish", [{"protocol": Protocol.BOTH, "tls": Tls.PASSTHROUGH}, {"tls": Tls.OFF}])
def test_no_service_joins_the_port_of_another_kind(node: RunningNode, wish: dict[str, Any]) -> None:
    made = ServiceWish("other", **wish)
    port = node.wait(node.node.create_service(made, actor="test"))[0]["port"]
    said = refusal(lambda: node.share("shop", port, "shop.test"))
    assert said.startswith(f"port_leased: port {port} is leased to service other, which cannot share it")


@pytest.mark.parametrize("wish", [{"tls": Tls.OFF}, {"tls": Tls.NODE}, {"tls": Tls.PASSTHROUGH, "protocol": "both"}])
def test_names_are_for_services_that_can_share(node: RunningNode, wish: dict[str, Any]) -> None:
    wish = {**wish, "protocol": Protocol(wish["protocol"]) if "protocol" in wish else None}
    made = ServiceWish("other", server_names=["a.test"], **wish)
    assert refusal(lambda: node.wait(node.node.create_service(made, actor="test"))).startswith("server_names_invalid")
    node.create("plain")
    assert refusal(lambda: node.update("plain", server_names=["a.test"])).startswith("server_names_invalid")


def test_who_joins_gets_the_exposure_of_the_port(start: Start, ports: range) -> None:
    node = start(extra='node: {ext_host: "192.0.2.10"}\nlisten: {public: 127.0.0.1}')
    assert node.share("a", ports[0], "a.test", exposure=Exposure.PRIVATE)["exposure"] == "private"
    assert node.share("b", ports[0], "b.test")["exposure"] == "private"


def test_a_passthrough_service_alone_is_a_plain_forward(node: RunningNode, backend: MakeBackend) -> None:
    site(node, backend, "ssh-like", None)
    assert node.exchange("ssh-like") == b"ssh-like"  # the backend speaks first, and nobody waits for a ClientHello


def test_a_service_with_names_takes_no_others_even_alone(node: RunningNode, backend: MakeBackend) -> None:
    port = site(node, backend, "shop", None, "shop.test")
    assert asked(node, port, "shop.test") == b"shop"
    assert asked(node, port, "other.test") == UNKNOWN


def test_F12_a_port_of_a_local_backend_and_one_that_rests_cannot_be_shared_either(
    node: RunningNode, backend: MakeBackend, ports: range
) -> None:
    node.share("a", ports[0], "a.test")
    node.put("a", "b", ("127.0.0.1", ports[1]))
    assert refusal(lambda: node.share("b", ports[1], "b.test")).startswith("port_taken")
    node.delete("a")
    assert refusal(lambda: node.share("b", ports[0], "b.test")).startswith("port_resting")


# -- Names change ------------------------------------------------------------------------------------------------------


def test_names_change_live_and_stay_changed(start: Start, backend: MakeBackend, end: Ending, ports: range) -> None:
    node = start()
    port = site(node, backend, "shop", ports[0], "shop.test")
    site(node, backend, "blog", port, "blog.test")
    with connected(Address("127.0.0.1", port)) as client:
        client.sendall(records(message(hello("shop.test"))))
        assert receive_exactly(client, 4) == b"shop"
        assert node.update("shop", server_names=["store.test"])["server_names"] == ["store.test"]
        client.sendall(b"!")  # a session that lives goes on
        assert receive_exactly(client, 1) == b"\x16"
    assert asked(node, port, "store.test") == b"shop"
    assert asked(node, port, "shop.test") == UNKNOWN
    assert refusal(lambda: node.update("shop", server_names=["blog.test"])).startswith("server_name_taken")
    assert node.update("shop", server_names=None)["server_names"] == []
    assert asked(node, port, "shop.test") == b"shop"
    assert refusal(lambda: node.update("blog", server_names=None)).startswith("server_name_taken")
    end(node)
    node = start()
    assert asked(node, port, "shop.test") == b"shop"
    assert asked(node, port, "blog.test") == b"blog"


def test_a_change_of_policy_leaves_the_names(node: RunningNode, shared: int) -> None:
    assert node.update("shop", idle_timeout=60)["server_names"] == ["shop.test"]
    assert asked(node, shared, "shop.test") == b"shop"


@pytest.mark.parametrize(
    "names",
    [
        *(["a b"], ["*"], ["*.*.test"], ["a.*.test"], ["192.0.2.1"], ["::1"], ["bücher.test"], [""], ["a" * 64]),
        *(["a..test"], [".test"], ["a\0.test"], ["../etc/passwd"], ["x." * 127 + "test"], ["-a.test"], [7], "a.test"),
        [f"n{n}.test" for n in range(101)],
    ],
)
def test_K06_what_is_no_server_name_is_refused(node: RunningNode, shared: int, names: Any) -> None:
    assert refusal(lambda: node.update("shop", server_names=names)).startswith("server_names_invalid: server_names: ")
    assert node.service("shop").service.server_names == ("shop.test",)


# -- They go and return ------------------------------------------------------------------------------------------------


def test_the_port_rests_when_the_last_has_gone(start: Start, backend: MakeBackend, end: Ending, ports: range) -> None:
    node = start()
    port = site(node, backend, "shop", ports[0], "shop.test")
    site(node, backend, "blog", port, "blog.test")
    node.delete("shop")
    assert asked(node, port, "blog.test") == b"blog"
    assert asked(node, port, "shop.test") == UNKNOWN
    assert node.call(node.node.ports).resting == {}
    site(node, backend, "shop", port, "shop.test")  # no rest before it can be joined again
    assert asked(node, port, "shop.test") == b"shop"
    node.delete("blog")
    node.delete("shop")
    assert node.call(node.node.ports).resting.keys() == {port}
    assert open_ports(ports) == {}
    assert node.events("service.deleted") == [
        f"shop gave back port {port}, which stays with blog",
        f"blog gave back port {port}, which stays with shop",
        f"shop gave back port {port}",
    ]
    end(node)
    node = start()
    assert node.call(node.node.ports).resting.keys() == {port}


def test_a_restart_restores_a_shared_port(start: Start, backend: MakeBackend, end: Ending, ports: range) -> None:
    node = start()
    port = site(node, backend, "shop", ports[0], "shop.test")
    site(node, backend, "blog", port, "*.blog.test")
    site(node, backend, "rest", port)
    before = {name: view.service for name, view in node.services().items()}
    end(node)
    node = start()
    assert {name: view.service for name, view in node.services().items()} == before
    for name, greeting in (("shop.test", b"shop"), ("a.blog.test", b"blog"), ("other.test", b"rest")):
        assert asked(node, port, name) == greeting
    node.delete("rest")
    node.delete("shop")
    assert node.call(node.node.ports).resting == {}
    node.delete("blog")
    assert node.call(node.node.ports).resting.keys() == {port}


def test_a_shared_port_that_is_squatted_heals_for_all(start: Start, backend: MakeBackend, ports: range) -> None:
    node = start()
    port = site(node, backend, "shop", ports[0], "shop.test")
    site(node, backend, "blog", port, "blog.test")
    node.close()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        node = start()
        for name in ("shop", "blog"):
            assert node.service(name).status is Status.DEGRADED
            assert f"TCP port {port}" in (node.service(name).reason or "")
        assert refusal(lambda: node.share("more", port, "more.test")).startswith("port_taken")
        node.delete("shop")  # one that never got its port
    eventually(lambda: node.service("blog").status is Status.READY)
    assert asked(node, port, "blog.test") == b"blog"


def test_who_joins_a_squatted_port_once_it_is_free_brings_the_others_back(start: Start, ports: range) -> None:
    node = start()
    node.share("shop", ports[0], "shop.test")
    node.close()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", ports[0]))
        squatter.listen()
        node = start()
    node.share("blog", ports[0], "blog.test")
    eventually(lambda: node.service("shop").status is Status.READY, within=5)


# -- At the same time, and with a store that fails ---------------------------------------------------------------------


def test_F01_the_same_name_on_the_same_port_at_once_has_one_owner(node: RunningNode, ports: range) -> None:
    wishes = [
        ServiceWish(f"s{n}", port=ports[0], tls=Tls.PASSTHROUGH, server_names=[f"n{n % 5}.test"]) for n in range(20)
    ]
    begun = [node.begin(node.node.create_service(wish, actor="test")) for wish in wishes]
    outcomes = [future.exception() for future in begun]
    assert [getattr(outcome, "code", None) for outcome in outcomes].count(None) == 5
    assert {outcome.code for outcome in outcomes if isinstance(outcome, HarborError)} == {"server_name_taken"}
    names = [name for view in node.services().values() for name in view.service.server_names]
    assert sorted(names) == [f"n{n}.test" for n in range(5)]


def test_F03_all_leave_at_once_and_the_port_rests_once(node: RunningNode, ports: range) -> None:
    names = [f"s{n}" for n in range(6)]
    for name in names:
        node.share(name, ports[0], f"{name}.test")
    begun = [node.begin(node.node.delete_service(name, actor="test")) for name in names]
    concurrent.futures.wait(begun)
    assert [future.exception() for future in begun] == [None] * 6
    view = node.call(node.node.ports)
    assert (view.used, view.resting.keys(), view.free) == ({}, {ports[0]}, len(ports) - 1)


def test_G10_what_cannot_be_written_has_not_happened(start: Start, backend: MakeBackend, ports: range) -> None:
    stores: list[FaultyStore] = []

    def faulty(store: Any) -> FaultyStore:
        stores.append(FaultyStore(store))
        return stores[-1]

    node = start(store=faulty)
    port = site(node, backend, "shop", ports[0], "shop.test")
    stores[0].broken = True
    for change in (
        lambda: node.share("blog", port, "blog.test"),
        lambda: node.update("shop", server_names=["store.test"]),
        lambda: node.delete("shop"),
    ):
        with pytest.raises(StoreFailed):
            change()
    stores[0].broken = False
    assert asked(node, port, "shop.test") == b"shop"
    assert asked(node, port, "store.test") == asked(node, port, "blog.test") == UNKNOWN
    view = node.call(node.node.ports)
    assert (view.used, view.free) == ({port: ["shop"]}, len(ports) - 1)
    site(node, backend, "blog", port, "blog.test")
    assert asked(node, port, "blog.test") == b"blog"
