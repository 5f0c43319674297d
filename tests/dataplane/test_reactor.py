"""The nested reactor: one handler's trouble is its own, a number is not reused in a batch, nobody starves."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Iterator

import pytest
import uvloop

from harbor.dataplane.reactor import READ, Calling, Reactor

EDGES = READ | select.EPOLLET


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def reactor(loop: asyncio.AbstractEventLoop) -> Iterator[Reactor]:
    reactor = Reactor(loop)
    yield reactor
    reactor.close()


class Ear:
    """One end of a pair that the reactor watches, and how often it had news."""

    def __init__(self, reactor: Reactor) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        self.heard = 0
        self.fd = self.near.fileno()
        self.reactor = reactor
        reactor.watch(self.fd, Calling(self.on_news), EDGES)

    def on_news(self, _events: int) -> None:
        self.heard += 1

    def close(self) -> None:
        self.far.close()
        self.near.close()


@pytest.fixture
def ears(reactor: Reactor) -> Iterator[list[Ear]]:
    ears = [Ear(reactor) for _ in range(3)]
    yield ears
    for ear in ears:
        ear.close()


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop go round until it has nothing to do."""

    async def rounds() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(rounds())


def test_news_come_once(loop: asyncio.AbstractEventLoop, ears: list[Ear]) -> None:
    ears[0].far.send(b"x")
    turn(loop)
    turn(loop)
    assert [ear.heard for ear in ears] == [1, 0, 0]


def test_a_handler_that_raises_is_heard_no_more_and_the_others_are(
    loop: asyncio.AbstractEventLoop, reactor: Reactor, ears: list[Ear], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_events: int) -> None:
        ears[0].heard += 1
        raise ZeroDivisionError

    reactor.hand_over(ears[0].fd, Calling(broken))
    with caplog.at_level(logging.ERROR, "harbor.dataplane"):
        for _ in range(2):
            for ear in ears:
                ear.far.send(b"x")
            turn(loop)
    assert [ear.heard for ear in ears] == [1, 2, 2]
    assert [record.message for record in caplog.records] == [
        f"dataplane.bug: the watcher of descriptor {ears[0].fd} raised"
    ]


def test_a_step_that_raises_does_not_take_the_others_along(
    loop: asyncio.AbstractEventLoop, reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    done = []
    reactor.again(lambda: 1 // 0)  # type: ignore[arg-type]
    reactor.again(lambda: done.append(1))
    turn(loop)
    assert done == [1]
    assert len(caplog.records) == 1


def test_a_number_is_not_reused_before_its_batch_is_done(
    loop: asyncio.AbstractEventLoop, reactor: Reactor, ears: list[Ear]
) -> None:
    """The first handler discards the second's socket and opens another: the second's stale news must not reach it."""
    newcomers: list[Ear] = []

    def replace(_events: int) -> None:
        reactor.discard(ears[1].near.detach())
        newcomers.append(Ear(reactor))

    reactor.hand_over(ears[0].fd, Calling(replace))
    ears[0].far.send(b"x")
    ears[1].far.send(b"x")
    turn(loop)
    assert ears[1].heard == 0
    assert ears[1].near.fileno() == -1
    assert newcomers[0].fd != ears[1].fd
    assert newcomers[0].heard == 0
    newcomers[0].close()


def test_outside_a_turn_a_discarded_socket_is_closed_at_once(reactor: Reactor, ears: list[Ear]) -> None:
    reactor.discard(ears[0].near.detach())
    assert ears[0].near.fileno() == -1


def test_who_is_ignored_hears_nothing_and_may_be_watched_again(
    loop: asyncio.AbstractEventLoop, reactor: Reactor, ears: list[Ear]
) -> None:
    reactor.ignore(ears[0].fd)
    reactor.ignore(ears[0].fd)
    ears[0].far.send(b"x")
    turn(loop)
    assert ears[0].heard == 0
    reactor.watch(ears[0].fd, Calling(ears[0].on_news), EDGES)  # what lies there already is news
    turn(loop)
    assert ears[0].heard == 1


def test_a_step_that_always_wants_more_leaves_the_loop_its_turns(
    loop: asyncio.AbstractEventLoop, reactor: Reactor, ears: list[Ear]
) -> None:
    steps = 0

    def greedy() -> None:
        nonlocal steps
        steps += 1
        reactor.again(greedy)

    reactor.again(greedy)
    ears[0].far.send(b"x")
    turn(loop)
    assert ears[0].heard == 1
    assert steps > 0
    loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.01), 10))  # timers have theirs too


def test_after_its_close_nothing_happens(loop: asyncio.AbstractEventLoop) -> None:
    reactor = Reactor(loop)
    called = []
    reactor.again(lambda: called.append(1))
    reactor.close()
    turn(loop)
    assert called == []
