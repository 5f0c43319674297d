"""Who may come in, and who the backend is told the client is."""

from __future__ import annotations

import socket
from typing import Final

import pytest

from conformance.differences import differs
from conformance.proxy import Proxy
from harbor.model import Address, Protocol
from harbor.policy.proxy_header import write_v1, write_v2
from support.backends import greeting
from support.sockets import address_of, ends, receive_all, receive_exactly

CLIENT, SERVER = Address("192.0.2.7", 50000), Address("198.51.100.1", 443)
PAYLOAD: Final = b"\r\n" + bytes(range(256)) * 16
HEADERS: Final = {"v1": write_v1(CLIENT, SERVER), "v2": write_v2(CLIENT, SERVER, Protocol.TCP)}
headers = pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)


def gets_in(proxy: Proxy, port: Address, source: str) -> bool:
    """Whether a client from there is greeted; who is not must be let go."""
    return told(proxy, port, source) == b"hello"


def told(proxy: Proxy, port: Address, source: str, said: bytes = b"") -> bytes:
    """What a client from there is greeted with that says this. A reset may be there before it has connected."""
    try:
        client = proxy.client(port, source)
        client.sendall(said)
        return receive_exactly(client, 5)
    except ConnectionError:
        return b""


def test_who_is_denied_is_let_go_and_no_backend_hears_of_it(proxy: Proxy) -> None:
    backend = proxy.backend(greeting(b"hello"))
    port = proxy.open(backend.address, deny=("127.0.0.8/29",))
    assert [gets_in(proxy, port, source) for source in ("127.0.0.7", "127.0.0.16")] == [True, True]
    before = backend.accepted
    assert [gets_in(proxy, port, source) for source in ("127.0.0.8", "127.0.0.15")] == [False, False]
    assert backend.accepted == before


def test_where_some_are_allowed_all_others_are_let_go(proxy: Proxy) -> None:
    backend = proxy.backend(greeting(b"hello"))
    port = proxy.open(backend.address, allow=("127.0.0.8/29", "127.0.1.1/32"))
    wanted = {"127.0.0.7": False, "127.0.0.8": True, "127.0.0.15": True, "127.0.1.1": True, "127.0.1.2": False}
    assert {source: gets_in(proxy, port, source) for source in wanted} == wanted
    assert backend.accepted == 3


def test_a_network_that_is_denied_within_one_that_is_allowed_is_let_go(proxy: Proxy) -> None:
    port = proxy.open(proxy.backend(greeting(b"hello")).address, allow=("127.0.0.0/24",), deny=("127.0.0.8/29",))
    wanted = {"127.0.0.7": True, "127.0.0.9": False, "127.0.1.1": False}
    assert {source: gets_in(proxy, port, source) for source in wanted} == wanted


def test_E17_a_backend_is_told_of_its_client_by_PROXY_v1_before_anything_else(proxy: Proxy) -> None:
    backend = proxy.listening()
    port = proxy.open(address_of(backend), proxy_protocol="v1")
    near = proxy.client(port, "127.0.0.9")
    near.sendall(b"hello")
    wanted = write_v1(address_of(near), port) + b"hello"
    assert receive_exactly(proxy.accepted(backend), len(wanted)) == wanted


@differs(nginx="writes v1 only")
def test_E17_a_backend_is_told_of_its_client_by_PROXY_v2_before_anything_else(proxy: Proxy) -> None:
    backend = proxy.listening()
    port = proxy.open(address_of(backend), proxy_protocol="v2")
    near = proxy.client(port, "127.0.0.9")
    near.sendall(b"hello")
    wanted = write_v2(address_of(near), port, Protocol.TCP) + b"hello"
    assert receive_exactly(proxy.accepted(backend), len(wanted)) == wanted


def test_E17_a_backend_is_told_before_its_client_has_said_anything(proxy: Proxy) -> None:
    backend = proxy.listening()
    port = proxy.open(address_of(backend), proxy_protocol="v1")
    near = proxy.client(port)
    far = proxy.accepted(backend)
    wanted = write_v1(address_of(near), port)
    assert receive_exactly(far, len(wanted)) == wanted
    far.sendall(b"220 ready")
    assert receive_exactly(near, 9) == b"220 ready"


def heard(proxy: Proxy, header: bytes) -> tuple[list[bytes], bytes]:
    """Which words a backend is told with PROXY v1, and what follows, where a client began with this header."""
    backend = proxy.listening()
    port = proxy.open(address_of(backend), accept_proxy=("127.0.0.0/8",), proxy_protocol="v1")
    near = proxy.client(port)
    near.sendall(header + PAYLOAD)
    near.shutdown(socket.SHUT_WR)
    line, _, rest = receive_all(proxy.accepted(backend)).partition(b"\r\n")
    return line.split(), rest


@headers
def test_E01_a_PROXY_header_says_who_the_client_is(proxy: Proxy, header: bytes) -> None:
    words, rest = heard(proxy, header)
    assert (words[2], words[4]) == (b"192.0.2.7", b"50000")
    assert rest == PAYLOAD


@differs(nginx="tells backends of its own address instead")
@headers
def test_E17_a_PROXY_header_says_which_address_the_client_came_to(proxy: Proxy, header: bytes) -> None:
    assert heard(proxy, header) == (HEADERS["v1"].split(), PAYLOAD)


def test_E10_a_proxy_that_speaks_for_itself_is_the_client(proxy: Proxy) -> None:
    backend = proxy.listening()
    port = proxy.open(address_of(backend), accept_proxy=("127.0.0.0/8",), proxy_protocol="v1")
    near = proxy.client(port)
    near.sendall(b"PROXY UNKNOWN\r\nhello")
    wanted = write_v1(address_of(near), port) + b"hello"
    assert receive_exactly(proxy.accepted(backend), len(wanted)) == wanted


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 192.0.2.7\r\n", b"PROXY " + b"1" * 200])
def test_E16_who_begins_without_a_proper_PROXY_header_is_let_go(proxy: Proxy, said: bytes) -> None:
    backend = proxy.backend()
    client = proxy.client(proxy.open(backend.address, accept_proxy=("127.0.0.0/8",)))
    client.sendall(said)
    assert ends(client) in ("end", "reset")
    assert backend.accepted == 0


@differs(nginx="lets strangers in as themselves: `set_real_ip_from` says whose header counts, not who may come")
def test_E16_who_is_no_proxy_that_is_trusted_is_let_go(proxy: Proxy) -> None:
    port = proxy.open(proxy.backend(greeting(b"hello")).address, accept_proxy=("127.0.0.2/32",))
    assert told(proxy, port, "127.0.0.1", HEADERS["v1"]) == b""
    assert told(proxy, port, "127.0.0.2", HEADERS["v1"]) == b"hello"
