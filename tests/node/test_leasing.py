"""Ports are leased once, to one service, and given back; what cannot be had is refused and leaves nothing behind."""

from __future__ import annotations

import concurrent.futures
import socket
from collections import Counter

import pytest

from harbor.errors import HarborError, NotFound, PortTaken
from harbor.model import Address, Exposure, ServiceWish
from support.faulty_store import FaultyStore
from support.port_block import open_ports
from support.running_node import MakeBackend, RunningNode, Start
from support.sockets import connected, ends, listening, receive_all
from support.waiting import eventually


def refusal(node: RunningNode, name: str, **wish: object) -> str:
    """The code with which a service is refused; nothing may have changed."""
    before = (node.services().keys(), open_ports(node_ports(node)), node.call(node.node.ports).free)
    with pytest.raises(HarborError) as refused:
        node.create(name, **wish)  # type: ignore[arg-type]
    assert (node.services().keys(), open_ports(node_ports(node)), node.call(node.node.ports).free) == before
    return refused.value.code


def node_ports(node: RunningNode) -> range:
    ((low, high),) = node.config.ports.spans
    return range(low, high + 1)


# -- Create -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "protocol", "opened"),
    [("web", None, {"tcp"}), ("udp-dns", None, {"udp"}), ("both-dns", None, {"tcp", "udp"}), ("udp-x", "tcp", {"tcp"})],
)
def test_a_service_gets_a_port_of_the_range_that_is_really_open(
    node: RunningNode, ports: range, name: str, protocol: str | None, opened: set[str]
) -> None:
    body = node.create(name, protocol)
    assert body["port"] in ports
    assert body["status"] == "ready"
    assert open_ports(ports) == {body["port"]: opened}


def test_internal_ports_begin_at_4100_and_the_lowest_free_one_comes_next(node: RunningNode) -> None:
    assert [node.create(name)["int_port"] for name in ("a", "b", "c")] == [4100, 4101, 4102]
    node.delete("b")
    assert node.create("d")["int_port"] == 4101


def test_a_refused_service_leaves_no_internal_port_behind(start: Start, ports: range) -> None:
    node = start(ports[:1])
    node.create("only")
    for _ in range(3):
        assert refusal(node, "more") == "ports_exhausted"
    node.delete("only")
    node.close()
    assert start(quarantine=0).create("next")["int_port"] == 4100


def test_G01_200_concurrent_creates_share_50_ports_and_150_are_told_why(node: RunningNode, ports: range) -> None:
    begun = [node.begin(node.node.create_service(ServiceWish(f"s{n}"), actor="test")) for n in range(200)]
    outcomes = [future.exception() or future.result()[0]["port"] for future in begun]
    leased = [outcome for outcome in outcomes if isinstance(outcome, int)]
    refused = [outcome.code for outcome in outcomes if isinstance(outcome, HarborError)]
    assert sorted(leased) == list(ports)
    assert refused == ["ports_exhausted"] * 150
    assert len(node.services()) == 50


def test_F01_the_same_name_at_once_leases_one_port(node: RunningNode, ports: range) -> None:
    begun = [node.begin(node.node.create_service(ServiceWish("same"), actor="test")) for _ in range(50)]
    outcomes = Counter(getattr(future.exception(), "code", "leased") for future in begun)
    assert outcomes == {"leased": 1, "service_exists": 49}
    assert len(open_ports(ports)) == 1


def test_F01_the_same_key_at_once_is_answered_with_one_port(node: RunningNode, ports: range) -> None:
    begun = [
        node.begin(node.node.create_service(ServiceWish("same"), actor="test", key="k", fingerprint="f"))
        for _ in range(50)
    ]
    answers = [future.result() for future in begun]
    assert sum(made for _, made in answers) == 1
    assert len({body["port"] for body, _ in answers}) == 1
    assert len(open_ports(ports)) == 1


def test_F02_a_key_does_not_answer_another_request(node: RunningNode) -> None:
    node.create("first", key="k")
    assert refusal(node, "second", key="k") == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("port", "code"),
    [
        (0, "port_invalid"),
        (-1, "port_invalid"),
        (65536, "port_invalid"),
        ("80", "port_invalid"),
        (True, "port_invalid"),
        (22, "port_out_of_range"),
    ],
)
def test_F12_a_pinned_port_that_cannot_be_leased_is_refused(node: RunningNode, port: object, code: str) -> None:
    assert refusal(node, "pinned", port=port) == code


def test_F12_a_pinned_port_that_is_taken_is_refused_with_who_has_it(start: Start, ports: range) -> None:
    node = start()
    node.create("first", port=ports[0])
    assert refusal(node, "second", port=ports[0]) == "port_leased"
    node.delete("first")
    assert refusal(node, "second", port=ports[0]) == "port_resting"
    with listening(port=ports[1]), pytest.raises(PortTaken, match=r"in use .*: pid [0-9]+ \(.+\)"):
        node.create("second", port=ports[1])
    assert node.create("second", port=ports[1])["port"] == ports[1]


def test_both_halves_of_a_port_are_leased_or_neither(node: RunningNode, ports: range) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("127.0.0.1", ports[0]))
        assert refusal(node, "both-x", port=ports[0]) == "port_taken"
        assert node.create("tcp-x", port=ports[0])["port"] == ports[0]


def test_a_range_that_squatters_hold_is_exhausted(start: Start, ports: range) -> None:
    node = start(ports[:3])
    squatters = [listening(port=port) for port in ports[:3]]
    assert refusal(node, "none-left") == "ports_exhausted"
    squatters[1].close()
    assert node.create("one-left")["port"] == ports[1]
    for squatter in squatters:
        squatter.close()


# -- Delete -----------------------------------------------------------------------------------------------------------


def test_F03_a_port_is_freed_once_however_often_it_is_asked(node: RunningNode, ports: range) -> None:
    node.create("gone")
    begun = [node.begin(node.node.delete_service("gone", actor="test")) for _ in range(20)]
    outcomes = [future.exception() for future in begun]
    assert outcomes.count(None) == 1
    assert all(isinstance(outcome, NotFound) for outcome in outcomes if outcome is not None)
    view = node.call(node.node.ports)
    assert (view.free, len(view.resting), view.used) == (len(ports) - 1, 1, {})
    assert open_ports(ports) == {}


def test_deleting_a_service_ends_its_sessions(node: RunningNode, backend: MakeBackend) -> None:
    node.create("web")
    node.put("web", "b1", backend("hello").address)
    with connected(Address("127.0.0.1", node.port("web"))) as client:
        assert client.recv(5) == b"hello"
        node.delete("web")
        assert ends(client) == "reset"


def test_a_service_that_is_deleted_while_it_is_renewed_stays_deleted(node: RunningNode, backend: MakeBackend) -> None:
    node.create("web")
    address = backend().address
    begun: list[concurrent.futures.Future[object]] = []
    for n in range(20):
        if n == 10:
            begun.append(node.begin(node.node.delete_service("web", actor="test")))
        change = node.node.put_backend("web", f"b{n}", host=address.host, port=address.port, ttl=30, actor="test")
        begun.append(node.begin(change))
    codes = Counter(getattr(future.exception(), "code", "done") for future in begun)
    assert codes.keys() == {"done", "service_not_found"}
    assert node.services() == {}


# -- Rest -------------------------------------------------------------------------------------------------------------


def test_G07_a_released_port_rests_and_goes_on_resting_after_a_restart(start: Start, ports: range) -> None:
    node = start(ports[:2])
    first = node.create("first")["port"]
    node.delete("first")
    second = node.create("second")["port"]
    assert {first, second} == set(ports[:2])
    assert refusal(node, "third") == "ports_exhausted"
    assert refusal(node, "third", port=first) == "port_resting"
    node.vanish()
    node = start(ports[:2])
    assert refusal(node, "third") == "ports_exhausted"
    assert list(node.call(node.node.ports).resting) == [first]


def test_G07_a_port_that_has_rested_is_leased_again(start: Start, ports: range) -> None:
    node = start(ports[:1], quarantine=0.3)
    node.create("first")
    node.delete("first")
    assert refusal(node, "early") == "ports_exhausted"

    def leased() -> bool:
        try:
            node.create("second")
        except HarborError:
            return False
        return True

    eventually(leased, what="the port has rested")
    assert node.call(node.node.ports).resting == {}
    node.close()
    assert start(ports[:1]).call(lambda: None) is None  # what is leased does not rest, whatever was stored


# -- A18 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode", "works"),
    [
        ("web", "v1", True),
        ("web", "v2", True),
        ("web", "v2-every", True),
        ("web", "simple", False),
        ("udp-dns", "v1", False),
        ("udp-dns", "v2", True),
        ("udp-dns", "simple", True),
        ("both-dns", "v1", False),
        ("both-dns", "v2-every", True),
        ("both-dns", "simple", False),
    ],
)
def test_a_form_of_header_that_a_protocol_does_not_have_is_refused(
    node: RunningNode, name: str, mode: str, works: bool
) -> None:
    if works:
        node.create(name, proxy_protocol=mode)
        assert node.service(name).policy.proxy_protocol == mode
    else:
        assert refusal(node, name, proxy_protocol=mode) == "policy_invalid"
        node.create(name)
        with pytest.raises(HarborError) as refused:
            node.wait(node.node.update_service(name, {"proxy_protocol": mode}, actor="test"))
        assert refused.value.code == "policy_invalid"
        assert node.service(name).policy.proxy_protocol == "off"


def test_a_long_list_is_kept_whole_and_told_in_short(node: RunningNode) -> None:
    node.create("one")
    networks = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000)]
    node.wait(node.node.update_service("one", {"deny": networks}, actor="test"))
    assert node.service("one").policy.deny == tuple(networks)
    told = node.call(lambda: node.node.events.recent(0))[-1]
    assert told.message == "one: deny=(10000 entries)"
    assert told.details["deny"] == [*networks[:20], "and 9980 more"]


def test_A18_a_port_of_the_node_itself_is_no_backend(node: RunningNode) -> None:
    node.create("one")
    node.create("two")
    for name in ("one", "two"):
        with pytest.raises(HarborError) as refused:
            node.put(name, "b1", ("127.0.0.1", node.port("one")))
        assert refused.value.code == "backend_is_harbor"
        assert node.backends(name) == {}


def test_A18_the_api_is_no_backend(node: RunningNode) -> None:
    node.create("one")
    node.node.api_addresses.add(Address("127.0.0.1", 7070))
    with pytest.raises(HarborError) as refused:
        node.put("one", "b1", ("127.0.0.1", 7070))
    assert refused.value.code == "backend_is_api"


def test_A18_no_service_gets_the_port_of_a_backend_on_this_machine(start: Start, ports: range) -> None:
    node = start(ports[:2])
    node.create("one", port=ports[0])
    # Nobody listens there yet, so only the node's memory keeps it from leasing the port and feeding itself.
    node.put("one", "b1", ("127.0.0.1", ports[1]))
    assert refusal(node, "two") == "ports_exhausted"
    assert refusal(node, "two", port=ports[1]) == "port_taken"
    node.remove("one", "b1")
    eventually(lambda: node.backends("one") == {})
    assert node.create("two")["port"] == ports[1]


# -- G10 at the node: the store refuses -------------------------------------------------------------------------------


def test_G10_what_cannot_be_written_has_not_happened(start: Start, ports: range, backend: MakeBackend) -> None:
    stores: list[FaultyStore] = []
    node = start(ports[:3], store=lambda store: stores.append(FaultyStore(store)) or stores[0])
    store = stores[0]
    node.create("old")
    echo = backend().address
    node.put("old", "b1", echo)
    store.broken = True
    assert refusal(node, "new") == "store_failed"
    assert refusal(node, "new", port=next(port for port in ports[:3] if port != node.port("old"))) == "store_failed"
    for change in (
        node.node.delete_service("old", actor="test"),
        node.node.update_service("old", {"max_sessions": 1}, actor="test"),
        node.node.put_backend("old", "b2", host=echo.host, port=echo.port, actor="test"),
        node.node.remove_backend("old", "b1", actor="test"),
        node.node.drain_backend("old", "b1", actor="test"),
    ):
        with pytest.raises(HarborError) as refused:
            node.wait(change)
        assert refused.value.code == "store_failed"
    assert node.backends("old") == {"b1": "up"}
    assert node.service("old").policy.max_sessions == 10_000
    assert node.exchange("old", b"ping") == b"ping"
    assert node.call(node.node.problems) == ["the state cannot be written: the disk is on fire"]
    assert open_ports(ports) == {node.port("old"): {"tcp"}}
    store.broken = False
    assert node.create("new")["int_port"] == 4101
    assert node.call(node.node.problems) == []
    assert {node.create("newer")["port"], node.port("new"), node.port("old")} == set(ports[:3])


def test_a_reply_is_not_remembered_without_its_commit(start: Start) -> None:
    stores: list[FaultyStore] = []
    node = start(store=lambda store: stores.append(FaultyStore(store)) or stores[0])
    stores[0].broken = True
    assert refusal(node, "web", key="k") == "store_failed"
    stores[0].broken = False
    assert node.create("web", key="k")["port"] == node.port("web")


# -- Stop -------------------------------------------------------------------------------------------------------------


def test_a_node_that_stops_finishes_the_changes_under_way_and_begins_no_others(start: Start, ports: range) -> None:
    stores: list[FaultyStore] = []
    node = start(store=lambda store: stores.append(FaultyStore(store)) or stores[0])
    stores[0].hold()
    creating = node.begin(node.node.create_service(ServiceWish("under-way"), actor="test"))
    eventually(lambda: stores[0].held == 1)
    stopping = node.stopping()
    eventually(lambda: node.node.problems() == ["the node is stopping"])
    with pytest.raises(HarborError) as refused:
        node.create("late")
    assert refused.value.code == "node_stopping"
    assert not stopping.done()
    stores[0].let_go()
    port = creating.result(10)[0]["port"]
    stopping.result(10)
    assert open_ports(ports) == {}
    node.close()
    assert start().port("under-way") == port


def test_a_client_that_comes_between_bind_and_commit_waits_and_is_served(start: Start) -> None:
    stores: list[FaultyStore] = []
    node = start(store=lambda store: stores.append(FaultyStore(store)) or stores[0])
    stores[0].hold()
    creating = node.begin(node.node.create_service(ServiceWish("web"), actor="test"))
    eventually(lambda: stores[0].held == 1)
    (port,) = open_ports(node_ports(node))
    with connected(Address("127.0.0.1", port)) as client:
        stores[0].let_go()
        creating.result(10)
        assert receive_all(client) == b""  # no backend yet
    assert node.closed("web") == {"no_backend": 1}


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "a/b", "/etc/passwd", "a\0b", "..", ".hidden", "a\\b"])
def test_K06_a_name_that_looks_like_a_path_is_refused(node: RunningNode, name: str) -> None:
    assert refusal(node, name) == "name_invalid"


def test_K06_a_name_is_never_part_of_a_path(node: RunningNode, backend: MakeBackend) -> None:
    state = node.config.state_dir
    before = sorted(path.relative_to(state) for path in state.rglob("*"))
    node.create("etc..passwd")
    node.put("etc..passwd", "b..key", backend("b").address, instance="../../tmp/x")
    assert node.exchange("etc..passwd") == b"b"
    assert sorted(path.relative_to(state) for path in state.rglob("*")) == before


def test_what_a_platform_says_of_a_service_changes_with_the_policy_and_survives_a_restart(start: Start) -> None:
    node = start()
    asked = {"platform": "osb", "instance_id": "i"}
    wish = ServiceWish("a", plan="tcp", exposure=Exposure.PRIVATE, origin={**asked, "parameters": {}})
    node.wait(node.node.create_service(wish, actor="test", noted={"for": "somebody"}))
    origin = {**asked, "parameters": {"idle_timeout": 9}}
    change = node.node.update_service(
        "a", {"idle_timeout": 9}, actor="test", plan="https", origin=origin, noted={"for": "somebody else"}
    )
    assert node.wait(change).service.plan == "https"
    told = [event.details for event in node.call(lambda: node.node.events.recent(0))]
    assert [details["for"] for details in told] == ["somebody", "somebody else"]
    assert told[1]["plan"] == "https"
    node.close()
    again = start().service("a")
    assert (again.service.plan, again.service.origin, again.policy.idle_timeout) == ("https", origin, 9)
    assert (again.service.protocol.value, again.service.tls.value) == ("tcp", "off")
