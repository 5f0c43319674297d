"""Who gets the next connection."""

from __future__ import annotations

import socket
from collections import Counter

from conformance.differences import differs
from conformance.proxy import Proxy
from harbor.model import Address
from support.backends import Backend, greeting
from support.sockets import ends, receive_exactly
from support.waiting import eventually


def greeters(proxy: Proxy, count: int) -> list[Backend]:
    """Backends that say "0", "1" ..."""
    return [proxy.backend(greeting(b"%d" % number)) for number in range(count)]


def addresses(backends: list[Backend]) -> list[Address]:
    return [backend.address for backend in backends]


def met(proxy: Proxy, port: Address, source: str | None = None) -> int:
    """Which backend a client gets that leaves again."""
    with proxy.client(port, source) as client:
        return int(receive_exactly(client, 1))


def stays(proxy: Proxy, port: Address) -> tuple[int, socket.socket]:
    """Which backend a client gets that stays."""
    client = proxy.client(port)
    return int(receive_exactly(client, 1)), client


def test_B02_backends_take_turns_in_their_order(proxy: Proxy) -> None:
    port = proxy.open(*addresses(greeters(proxy, 4)))
    assert [met(proxy, port) for _ in range(12)] == [0, 1, 2, 3] * 3


def test_B01_thirty_connections_are_fifteen_for_each_of_two(proxy: Proxy) -> None:
    port = proxy.open(*addresses(greeters(proxy, 2)))
    assert Counter(met(proxy, port) for _ in range(30)) == {0: 15, 1: 15}


def test_B03_what_a_dead_backend_would_have_had_goes_to_the_others(proxy: Proxy) -> None:
    live = greeters(proxy, 2)
    port = proxy.open(live[0].address, proxy.refusing(), live[1].address)
    shares = Counter(met(proxy, port) for _ in range(30))
    assert min(shares[0], shares[1]) >= 10


def test_a_weight_is_a_share_exactly(proxy: Proxy) -> None:
    port = proxy.open(*addresses(greeters(proxy, 3)), weights=(5, 2, 1))
    assert Counter(met(proxy, port) for _ in range(16)) == {0: 10, 1: 4, 2: 2}


def test_the_backend_with_the_fewest_connections_gets_the_next(proxy: Proxy) -> None:
    backends = greeters(proxy, 3)
    port = proxy.open(*addresses(backends), balance="least_sessions")
    kept = dict(stays(proxy, port) for _ in range(3))
    assert sorted(kept) == [0, 1, 2]
    kept[1].close()
    eventually(lambda: backends[1].live == 0, proxy.patience, "its backend has noticed")
    assert stays(proxy, port)[0] == 1


def test_a_client_address_stays_with_its_backend(proxy: Proxy) -> None:
    port = proxy.open(*addresses(greeters(proxy, 4)), balance="source_hash")
    sources = [f"127.0.0.{number}" for number in range(2, 34)]
    first = [met(proxy, port, source) for source in sources]
    assert [met(proxy, port, source) for source in sources] == first
    assert len(set(first)) > 1


def test_B09_a_backend_that_is_full_leaves_connections_to_the_others(proxy: Proxy) -> None:
    port = proxy.open(*addresses(greeters(proxy, 2)), max_sessions_per_backend=2)
    got = [stays(proxy, port) for _ in range(4)]
    assert Counter(number for number, _ in got) == {0: 2, 1: 2}
    freed = got[0][0]
    got[0][1].close()
    assert eventually(lambda: again(proxy, port), proxy.patience, "the place is free") == [freed]


def again(proxy: Proxy, port: Address) -> list[int]:
    """Which backend a client gets, if any."""
    said = receive_exactly(proxy.client(port), 1)
    return [int(said)] if said else []


def test_B09_where_all_backends_are_full_a_client_is_let_go(proxy: Proxy) -> None:
    port = proxy.open(*addresses(greeters(proxy, 2)), max_sessions_per_backend=1)
    kept = [stays(proxy, port) for _ in range(2)]
    assert ends(proxy.client(port)) in ("end", "reset")
    for number, client in kept:
        client.sendall(b"x")
        assert receive_exactly(client, 1) == b"x", number


@differs(nginx="has no such state: an upstream without a server is an error of its configuration")
def test_B10_where_there_is_no_backend_a_client_is_let_go(proxy: Proxy) -> None:
    assert ends(proxy.client(proxy.open())) in ("end", "reset")
