"""Sockets as relays want them, what the kernel says of them, and who holds a port."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from harbor.dataplane.sockets import (
    Liveness,
    bind_tcp,
    bind_udp,
    is_local,
    is_wildcard,
    kernel_drops,
    local_port_range,
    plain_address,
    source_port_range,
)
from harbor.dataplane.squatter import find_squatter
from harbor.errors import PortTaken
from harbor.model import Address, Protocol
from support.port_block import port_block
from support.sockets import address_of, connected, datagrams, is_silent, listening, on_free_port
from support.squatter import squatter
from support.waiting import eventually


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (("127.0.0.1", 80), Address("127.0.0.1", 80)),
        (("::ffff:127.0.0.1", 80, 0, 0), Address("127.0.0.1", 80)),
        (("::1", 80, 0, 0), Address("::1", 80)),
        (("fe80::1%eth0", 80, 0, 2), Address("fe80::1%eth0", 80)),
    ],
)
def test_addresses_are_written_as_people_write_them(given: tuple[object, ...], plain: Address) -> None:
    assert plain_address(given) == plain


def test_what_is_a_wildcard_and_what_is_local() -> None:
    assert [is_wildcard(host) for host in ("0.0.0.0", "::", "127.0.0.1", "::1")] == [True, True, False, False]
    assert [is_local(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "203.0.113.7")] == [True, True, True, False]


def test_a_range_of_source_ports_is_read_as_it_was_written() -> None:
    assert source_port_range(local_port_range(1024, 65_535)) == range(1024, 65_536)
    lowest, highest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert source_port_range(None) == range(int(lowest), int(highest) + 1)
    with listening() as listener, connected(address_of(listener)) as client:
        assert client.getsockname()[1] in source_port_range(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_bound_once(host: str) -> None:
    with on_free_port(lambda port: bind_tcp(host, port, Liveness())) as tcp:
        port = address_of(tcp).port
        with pytest.raises(PortTaken, match=re.escape(f"TCP port {port} on {host} is in use")):
            bind_tcp(host, port, Liveness())
    with on_free_port(lambda port: bind_udp(host, port)) as udp:
        with pytest.raises(PortTaken, match="UDP port"):
            bind_udp(host, address_of(udp).port)
        assert not udp.getblocking()
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 200_000  # more than the default


def test_the_ipv6_wildcard_takes_ipv4_too_and_another_ipv6_address_does_not() -> None:
    with on_free_port(lambda port: bind_tcp("::", port, Liveness())) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    with on_free_port(lambda port: bind_udp("::1", port)) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_C13_J13_what_the_kernel_drops_is_counted() -> None:
    with datagrams() as receiver, datagrams() as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(50):
            sender.sendto(bytes(1000), address_of(receiver))
        received = 0
        while not is_silent(receiver):
            received += len(receiver.recv(2000)) // 1000
        assert 0 < received < 50
        assert kernel_drops(receiver) == 50 - received


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_G05_who_holds_a_port_is_named(kind: str) -> None:
    with port_block(1) as (port,):
        with squatter(port, kind) as pid:
            command = Path(f"/proc/{pid}/comm").read_text().strip()
            for protocol in (Protocol(kind), Protocol.BOTH):
                assert find_squatter(port, protocol) == f"pid {pid} ({command})"
            assert find_squatter(port, Protocol.UDP if kind == "tcp" else Protocol.TCP) is None
        eventually(lambda: find_squatter(port, Protocol(kind)) is None)


def test_G06_a_mere_source_port_has_a_holder_too() -> None:
    with listening() as listener, connected(address_of(listener)) as client:
        said = find_squatter(address_of(client).port, Protocol.TCP)
        assert said is not None
        assert said.startswith(f"pid {os.getpid()} (")


def test_G05_a_holder_that_cannot_be_seen_is_described(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    row = "   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1234        0 99 1"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address ...\n{row}\n")
    said = find_squatter(20_000, Protocol.TCP, tmp_path)
    assert said == "a socket of uid 1234 whose process is not visible to this user"
    assert find_squatter(20_001, Protocol.TCP, tmp_path) is None
