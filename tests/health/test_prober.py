"""The rhythm of checks: each backend apart from the others, bounded, and over when it is over."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import structlog

from harbor.dataplane.budget import Descriptors
from harbor.errors import Refused
from harbor.health import Prober, prober
from harbor.model import Address
from harbor.model.health import CheckType, HealthCheck
from harbor.policy.restraint import MOST
from support.sockets import PATIENCE, address_of, free_port, listening

OFTEN = HealthCheck(CheckType.TCP, interval=0.1)
ONCE = HealthCheck(CheckType.TCP, interval=3600)
HANGS = HealthCheck(CheckType.HTTP, interval=0.1, timeout=60)


class Watched:
    """A prober with what it reported, and whom it may dial."""

    def __init__(self, most: int = 1000) -> None:
        self.reports: list[tuple[str, str, str | None]] = []
        self.descriptors = Descriptors(most)
        self.dialled: Counter[str] = Counter()
        self.forbidden: set[Address] = set()
        self.prober = Prober(self._open, self._admit, self._report, self.descriptors)

    def count(self, backend: str) -> int:
        return sum(report[1] == backend for report in self.reports)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    def _open(self, host: str, kind: socket.SocketKind) -> socket.socket:
        self.dialled[host] += 1
        return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)

    def _admit(self, address: Address) -> None:
        if address in self.forbidden:
            raise Refused(f"{address} is no backend", code="backend_not_allowed", status=403)

    def _report(self, service: str, backend: str, failure: str | None) -> None:
        self.reports.append((service, backend, failure))


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    await made.prober.close()
    await asyncio.sleep(0)  # who is called back when a check ends is called now
    assert made.descriptors.used == 0
    assert repr(made.prober) == "<Prober 0 backends, 0 being asked, 0 waiting>"


@pytest.fixture
def accepting() -> Iterator[Address]:
    """A listener whose clients connect and hear nothing: checks of type tcp pass, others hang."""
    with listening(backlog=4096) as sock:
        yield address_of(sock)


async def test_a_backend_is_checked_at_once_and_then_again_and_again(watched: Watched, accepting: Address) -> None:
    watched.prober.follow("s", "b", OFTEN, accepting)
    await watched.until(lambda: watched.count("b") >= 4)
    assert set(watched.reports) == {("s", "b", None)}
    assert (watched.prober.passed, watched.prober.failed) == (len(watched.reports), 0)


async def test_a_check_goes_to_its_own_port_if_it_has_one(watched: Watched, accepting: Address) -> None:
    check = HealthCheck(CheckType.TCP, interval=3600, port=accepting.port)
    watched.prober.follow("s", "b", check, Address("127.0.0.1", free_port()))
    await watched.until(lambda: watched.reports == [("s", "b", None)])


async def test_K04_what_may_not_be_dialled_is_not(watched: Watched, accepting: Address) -> None:
    watched.forbidden.add(accepting)
    check = HealthCheck(CheckType.TCP, interval=3600, port=accepting.port)
    watched.prober.follow("s", "b", check, Address("127.0.0.1", free_port()))
    await watched.until(lambda: watched.reports == [("s", "b", f"tcp check: {accepting} is no backend")])
    assert not watched.dialled
    assert watched.prober.failed == 1


async def test_what_is_followed_anew_or_forgotten_is_heard_of_no_more(watched: Watched, accepting: Address) -> None:
    for backend in ("a", "b", "c"):
        watched.prober.follow("s", backend, HANGS, accepting)
    watched.prober.follow("t", "d", HANGS, accepting)
    await watched.until(lambda: watched.dialled["127.0.0.1"] == 4)
    watched.prober.follow("s", "a", ONCE, accepting)
    watched.prober.forget("s", "b")
    watched.prober.forget("s", "nobody")
    watched.prober.forget_service("t")
    watched.prober.follow("s", "e", ONCE, accepting)
    watched.prober.forget("s", "e")  # before it ever began
    await watched.until(lambda: watched.descriptors.used == 1)  # c hangs on
    await watched.until(lambda: watched.reports == [("s", "a", None)])


async def test_B08_backends_that_hang_hold_up_nobody(
    watched: Watched, accepting: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four places, eight backends that hang: the one that answers is asked as if they were not there."""
    monkeypatch.setattr(prober, "AT_ONCE", 4)
    slow = HealthCheck(CheckType.HTTP, interval=0.1, timeout=0.4)
    for number in range(8):
        watched.prober.follow("s", f"slow-{number}", slow, accepting)
    watched.prober.follow("s", "good", OFTEN, accepting)
    await watched.until(lambda: all(watched.count(f"slow-{number}") for number in range(8)))
    before = [len(watched.reports), watched.count("good")]
    await watched.until(lambda: len(watched.reports) - before[0] - (watched.count("good") - before[1]) >= 8)
    assert watched.descriptors.used <= 4
    assert watched.count("good") - before[1] >= 8  # as often as any of them had to wait, and more


async def test_a_node_without_descriptors_asks_later_and_blames_nobody(watched: Watched, accepting: Address) -> None:
    watched.descriptors.take(1000)
    watched.prober.follow("s", "b", OFTEN, accepting)
    await asyncio.sleep(0)
    await watched.until(lambda: watched.prober._due.next() is not None and watched.prober._timer is not None)
    assert watched.reports == []
    watched.descriptors.give(1000)
    await watched.until(lambda: ("s", "b", None) in watched.reports)


async def test_a_thousand_backends_are_checked_a_few_in_each_turn_of_the_loop(
    watched: Watched, accepting: Address
) -> None:
    loop, seen, most = asyncio.get_running_loop(), 0, 0

    def every_turn() -> None:
        nonlocal seen, most, again
        most, seen = max(most, watched.dialled.total() - seen), watched.dialled.total()
        again = loop.call_soon(every_turn)

    again = loop.call_soon(every_turn)
    for number in range(1000):
        watched.prober.follow("s", str(number), ONCE, accepting)
    await watched.until(lambda: len(watched.reports) == 1000)
    again.cancel()
    assert set(watched.reports) == {("s", str(number), None) for number in range(1000)}
    assert 0 < most <= prober.STARTS


async def test_closing_ends_what_is_under_way(accepting: Address) -> None:
    made = Watched()
    for number in range(10):
        made.prober.follow("s", str(number), HANGS, accepting)
    await made.until(lambda: made.descriptors.used == 10)
    await made.prober.close()
    await asyncio.sleep(0)
    assert made.descriptors.used == 0
    assert made.reports == []


async def test_J08_checks_that_this_machine_cannot_make_blame_nobody_and_are_told_a_few_times_only(
    watched: Watched, accepting: Address
) -> None:
    asked = 0

    def no_port_is_left(host: str, kind: socket.SocketKind) -> socket.socket:
        nonlocal asked
        asked += 1
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    watched.prober._open = no_port_is_left
    with structlog.testing.capture_logs() as lines:
        for number in range(3):
            watched.prober.follow("s", f"b{number}", OFTEN, accepting)
        await watched.until(lambda: asked > 3 * MOST)
    assert [line["event"] for line in lines] == ["check.skipped"] * MOST
    assert watched.reports == []
