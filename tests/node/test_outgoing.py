"""The node's own connections keep out of the ports that it leases."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from harbor.config import check, parse
from harbor.daemon import machine
from harbor.model import Address
from support.datagram_backend import DatagramBackend
from support.running_node import RunningNode, config_text
from support.sockets import connected, datagrams, listening


def ephemeral() -> tuple[int, int]:
    found = machine.ephemeral_ports()
    assert found is not None
    return found


def test_G08_overlaps_are_warned_of(tmp_path: Path) -> None:
    low, high = ephemeral()
    config = parse(config_text(tmp_path, range(low - 10, low + 11)), "test.yml")
    (warning,) = check(config, local_port_range=(low, high), lowest_port=machine.lowest_port())
    assert f"{low - 10}-{low + 10} overlaps the kernel's ephemeral ports {low}-{high}" in warning
    with RunningNode(config, warnings=(warning,)) as node:
        assert node.call(node.node.ports).warnings == (warning,)
        assert node.call(node.node.describe)["warnings"] == [warning]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_G08_connections_to_backends_leave_from_ports_beside_the_range(tmp_path: Path, host: str) -> None:
    low, high = ephemeral()
    last = high - 500
    # All but the last 500 ephemeral ports: an ordinary connection would nearly always take one of them.
    config = parse(config_text(tmp_path / "state", range(low, last + 1)), "test.yml")
    source_ports = machine.source_ports(config, (low, high))
    assert source_ports is not None, "this kernel is older than 6.3"
    sources = []
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(RunningNode(config, source_ports=source_ports))
        backend = stack.enter_context(listening(host))
        udp = stack.enter_context(contextlib.closing(DatagramBackend("u", host)))
        node.create("web")
        node.create("udp-x")
        node.put("web", "b", backend.getsockname()[:2])
        node.put("udp-x", "b", udp.address)
        for _ in range(40):
            stack.enter_context(connected(Address("127.0.0.1", node.port("web"))))
            conn, address = backend.accept()
            stack.enter_context(conn)
            sources.append(address[1])
            client = stack.enter_context(datagrams())
            client.sendto(b"x", ("127.0.0.1", node.port("udp-x")))
            assert client.recv(10) == b"u:x"
        sources += [address.port for address in udp.clients]
    assert len(sources) == 80
    assert [port for port in sources if not last < port <= high] == []


def test_source_ports_are_left_alone_where_they_cannot_meet_the_range(tmp_path: Path) -> None:
    apart = parse(config_text(tmp_path, range(20_000, 20_010)), "test.yml")
    assert machine.source_ports(apart, (32_768, 60_999)) is None
    assert machine.source_ports(apart, None) is None
    assert machine.source_ports(apart, (20_000, 20_009)) is None  # no other port is left


def test_a_kernel_that_cannot_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overlapping = parse(config_text(tmp_path, range(40_000, 40_010)), "test.yml")
    assert machine.source_ports(overlapping, (32_768, 60_999)) is not None
    monkeypatch.setattr(machine, "IP_LOCAL_PORT_RANGE", 0x7FFF)  # an option that no kernel knows
    assert machine.source_ports(overlapping, (32_768, 60_999)) is None


def test_the_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = ephemeral()
    assert Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split() == [str(low), str(high)]
    with socket.socket() as sock:
        lowest = machine.lowest_port()
        if lowest > 1:
            with pytest.raises(PermissionError):
                sock.bind(("127.0.0.1", lowest - 1))
