"""Which backend real connections reach, by policy and weight, and that a change is live and leaves sessions alone."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

from harbor.model import Address, Route
from support.backends import greeting
from support.plane import RunningPlane
from support.sockets import is_silent, receive_exactly


def who(plane: RunningPlane, port: int, source: str | None = None) -> str:
    with plane.client(port, source=source) as client:
        return receive_exactly(client, 2).decode()


def named(plane: RunningPlane, count: int) -> list[Address]:
    return [plane.backend(greeting(f"b{number}".encode())).address for number in range(1, count + 1)]


def weigh(plane: RunningPlane, port: int, addresses: list[Address], *weights: int) -> None:
    routes = zip(addresses, weights, strict=True)
    plane.routes(port, [Route(f"b{n}", address, weight=weight) for n, (address, weight) in enumerate(routes, 1)])


def test_connections_are_shared_by_weight(plane: RunningPlane) -> None:
    port = plane.open()
    addresses = named(plane, 2)
    weigh(plane, port, addresses, 3, 1)
    assert Counter(who(plane, port) for _ in range(20)) == {"b1": 15, "b2": 5}
    weigh(plane, port, addresses, 1, 1)
    assert Counter(who(plane, port) for _ in range(20)) == {"b1": 10, "b2": 10}


def test_the_backend_with_the_fewest_sessions_gets_the_next(plane: RunningPlane) -> None:
    port = plane.open(balance="least_sessions")
    plane.backends(port, named(plane, 2))
    with contextlib.ExitStack() as stack:
        first = [stack.enter_context(plane.client(port)) for _ in range(4)]
        served = [receive_exactly(client, 2) for client in first]
        assert sorted(served) == [b"b1", b"b1", b"b2", b"b2"]
        for client, by in zip(first, served, strict=True):
            if by == b"b1":
                client.close()
        plane.await_active(port, 2)
        more = [stack.enter_context(plane.client(port)) for _ in range(2)]
        assert [receive_exactly(client, 2) for client in more] == [b"b1", b"b1"]


def test_a_client_comes_back_to_its_backend_and_finds_another_while_that_is_down(plane: RunningPlane) -> None:
    port = plane.open(balance="source_hash")
    addresses = named(plane, 4)
    plane.backends(port, addresses)
    sources = [f"127.0.0.{number}" for number in range(2, 14)]
    homes = {source: who(plane, port, source) for source in sources}
    assert len(set(homes.values())) > 1
    assert {source: who(plane, port, source) for source in sources} == homes
    lost = homes[sources[0]]
    plane.backends(port, addresses, up=[f"b{number}" != lost for number in range(1, 5)])
    moved = {source: who(plane, port, source) for source in sources}
    assert lost not in moved.values()
    assert {source: moved[source] for source in sources if homes[source] != lost} == {
        source: home for source, home in homes.items() if home != lost
    }


def test_another_balance_is_in_force_at_once_and_leaves_sessions_alone(plane: RunningPlane) -> None:
    port = plane.open()
    plane.backends(port, named(plane, 2))
    with plane.client(port) as held:
        assert receive_exactly(held, 2) == b"b1"
        plane.set_policy(port, balance="least_sessions")
        for _ in range(2):
            assert who(plane, port) == "b2"
            plane.await_active(port, 1)
        plane.set_policy(port, balance="source_hash")
        assert len({who(plane, port) for _ in range(6)}) == 1
        plane.set_policy(port)
        assert {who(plane, port) for _ in range(2)} == {"b1", "b2"}
        assert is_silent(held)


def test_a_slow_start_gives_little_to_who_has_just_come_up(plane: RunningPlane) -> None:
    port = plane.open(slow_start=3600)
    first, second = named(plane, 2)
    now = time.monotonic()
    plane.routes(port, [Route("b1", first, since=now - 7200), Route("b2", second, since=now)])
    assert Counter(who(plane, port) for _ in range(42)) == {"b1": 40, "b2": 2}
