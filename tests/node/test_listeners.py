"""A port that cannot be opened makes its service degraded, says who has it, heals by itself, and stops nothing else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harbor.errors import HarborError
from harbor.model import ServiceView, Status
from support.port_block import open_ports, port_block
from support.running_node import MakeBackend, RunningNode, Start
from support.sockets import listening, reset
from support.squatter import squatter
from support.waiting import eventually


def degraded(node: RunningNode) -> dict[str, str | None]:
    return {name: view.reason for name, view in node.services().items() if view.status is Status.DEGRADED}


def refused(node: RunningNode, name: str, port: int) -> str:
    with pytest.raises(HarborError) as error:
        node.create(name, port=port)
    return error.value.code


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_G05_a_squatted_port_is_named_kept_and_opened_again_when_the_squatter_leaves(
    start: Start, ports: range, backend: MakeBackend, kind: str
) -> None:
    node = start()
    port = node.create("both-x")["port"]
    node.create("other")
    address = backend("hello").address
    node.put("both-x", "b", address)
    node.put("other", "b", address)
    node.vanish()
    with squatter(port, kind) as pid:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        node = start()
        eventually(lambda: f"pid {pid} ({comm})" in (degraded(node)["both-x"] or ""), what="the squatter is named")
        assert degraded(node).keys() == {"both-x"}
        assert f"{kind.upper()} port {port} on 127.0.0.1 is in use" in (degraded(node)["both-x"] or "")
        assert node.exchange("other") == b"hello"
        assert refused(node, "thief", port) == "port_leased"
        assert node.call(node.node.describe)["degraded"] == [{"name": "both-x", "reason": degraded(node)["both-x"]}]
        # What is asked of a degraded service is done, and holds when it heals.
        node.wait(node.node.update_service("both-x", {"max_sessions": 1}, actor="test"))
        assert len(open_ports(ports)[port]) == 1  # the squatter's half: both are opened or neither
    eventually(lambda: degraded(node) == {}, what="it healed")
    assert open_ports(ports)[port] == {"tcp", "udp"}
    assert node.exchange("both-x") == b"hello"
    assert node.node._plane._ports[node.service("both-x").service.id].opening.port == port
    assert [kind for kind in ("service.degraded", "service.healed") if len(node.events(kind)) != 1] == []


def test_G06_a_port_that_is_the_source_of_a_connection_heals_when_that_ends(start: Start, ports: range) -> None:
    node = start()
    port = node.create("web")["port"]
    node.close()
    with listening() as somebody, socket.socket() as client:
        client.bind(("127.0.0.1", port))
        client.connect(somebody.getsockname())
        accepted, _ = somebody.accept()
        with accepted:
            node = start()
            eventually(lambda: "pid" in (degraded(node).get("web") or ""))
            assert "is in use" in (degraded(node)["web"] or "")
            # And no other service gets such a port by chance.
            assert {node.create(f"s{n}")["port"] for n in range(len(ports) - 1)} == {*ports} - {port}
        reset(client)  # an orderly end would hold the port for the minute of TIME_WAIT
    eventually(lambda: degraded(node) == {})


def test_a_degraded_service_can_be_deleted_and_does_not_come_back(start: Start, ports: range) -> None:
    node = start()
    port = node.create("web")["port"]
    node.close()
    with listening(port=port):
        node = start(quarantine=0)
        assert degraded(node).keys() == {"web"}
        node.delete("web")
        assert node.services() == {}
    assert node.create("next", port=port)["port"] == port
    assert open_ports(ports) == {port: {"tcp"}}


def test_a_degraded_service_stays_so_over_a_restart_and_keeps_its_backends(start: Start, backend: MakeBackend) -> None:
    node = start()
    port = node.create("web")["port"]
    node.close()
    with listening(port=port):
        node = start()
        node.put("web", "b", backend("hello").address)
        node.vanish()
        node = start()
        assert degraded(node).keys() == {"web"}
    eventually(lambda: degraded(node) == {})
    assert node.exchange("web") == b"hello"


def test_I09_one_of_a_hundred_listeners_fails_at_start_and_the_others_serve(start: Start, backend: MakeBackend) -> None:
    address = backend("hello").address
    with port_block(100) as block:
        node = start(block)
        for n in range(100):
            node.create(f"s{n}")
        node.put("s0", "b", address)
        node.put("s99", "b", address)
        squatted = node.port("s42")
        node.close()
        with listening(port=squatted):
            node = start(block)
            views: list[ServiceView] = node.call(node.node.services)
            assert [view.service.name for view in views if view.status is Status.DEGRADED] == ["s42"]
            assert len(node.events("service.degraded")) == 1
            assert open_ports(block).keys() == set(block)
            assert node.exchange("s0") == node.exchange("s99") == b"hello"
        node.close()


def test_G09_a_range_that_shrinks_keeps_what_is_leased_and_gives_no_more_outside(
    start: Start, ports: range, backend: MakeBackend
) -> None:
    outside, inside = ports[0], ports[-1]
    node = start()
    node.create("outside", port=outside)
    node.create("inside", port=inside)
    node.put("outside", "b", backend("hello").address)
    node.close()
    node = start(ports[-2:])
    assert node.exchange("outside") == b"hello"
    (warning,) = node.call(node.node.ports).warnings
    assert warning.startswith(f"service outside keeps port {outside}")
    assert node.call(node.node.describe)["warnings"] == [warning]
    assert node.create("new")["port"] == ports[-2]
    for name, port in (("pinned", ports[1]), ("pinned", outside)):
        assert refused(node, name, port) == "port_out_of_range"
    node.delete("outside")
    assert refused(node, "pinned", outside) == "port_out_of_range"
    assert node.call(node.node.ports).warnings == ()
    view = node.call(node.node.ports)
    assert (view.total, view.free) == (2, 0)
