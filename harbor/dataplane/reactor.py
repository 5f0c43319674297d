"""One nested epoll per event loop: the engine under all relays.

The loop watches a single descriptor, this epoll's own. One *turn* drains it and tells the watcher of each
descriptor that has news, without a Handle, a Future or a system call per direction change. Why this
and not transports or ``add_reader``: docs/decisions/0002-nested-reactor.md.

Rules for watchers:
- A descriptor is registered once. Streams are edge-triggered: news comes once, so whoever stops early (fairness) asks
  for ``again``. Listeners and datagrams are level-triggered: what is left is told of at the next poll, and nobody
  has to read until there is nothing, which costs a call and an exception.
- Events are news, not truth: a watcher finds out the rest from the socket itself.
- Descriptors are closed with ``discard``, which closes them when the batch in hand is done. A descriptor number
  is thus never reused within a batch, and no stale event reaches a newcomer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("harbor.dataplane")

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
PEER_ENDED: Final = select.EPOLLRDHUP
HUNG_UP: Final = select.EPOLLHUP
FAILED: Final = select.EPOLLERR
URGENT: Final = select.EPOLLPRI
# What a stream's source is watched for; READ_EDGES while nobody waits for room to write.
READ_EDGES: Final = READ | PEER_ENDED | URGENT | select.EPOLLET
STREAM_EDGES: Final = READ_EDGES | WRITE

# One buffer for all reads: 512 KiB is where bulk throughput stops rising (docs/performance.md).
WHOLE: Final = 512 * 1024
# What a stream reads while it has not proven to be bulk, and what each one may keep for a slow reader.
PIECE: Final = 64 * 1024
# Reads up to this long use ready-made slices: making a memoryview costs a tenth of a short exchange.
SLICES: Final = 2048

POLLS: Final = 16  # polls in one turn: saves the hop through the loop while there is news
BATCH: Final = 512  # descriptors in one poll
TURN: Final = 0.005  # seconds after which a turn gives the loop back to timers and the API
GROWTH: Final = 256  # places for descriptors that are added at a time


class Watcher:
    """Whoever wants to hear of a descriptor."""

    __slots__ = ()

    def on_news(self, events: int) -> None:
        """The descriptor has news: epoll's events."""


class Calling(Watcher):
    """Passes the news on to a function."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def on_news(self, events: int) -> None:
        self._call(events)


class Reactor:
    """The epoll of one event loop, the buffer that its watchers share, and what they asked for later.

    Closing: ``close()`` stops watching; descriptors that are still registered belong to their owners.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = bytearray(WHOLE)
        self.whole = memoryview(self.buffer)
        self.piece = self.whole[:PIECE]
        self.slices = tuple([self.whole[:length] for length in range(SLICES)])
        self.into_whole = [self.whole]  # as readv() wants its buffers
        self.into_piece = [self.piece]
        self._epoll = select.epoll()
        self._watchers: list[Watcher | None] = []  # by descriptor
        self._ready: list[Callable[[], None]] = []
        self.polls = 0
        self.now = time.monotonic()  # of the latest poll: what happens in one batch happens at one time
        self.held = 0  # bytes that streams keep for slow readers
        self._discarded: list[int] = []
        self._turning = False
        self._scheduled = False
        loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, fd: int, watcher: Watcher, events: int) -> None:
        """Tell ``watcher`` whenever the descriptor has news."""
        self._epoll.register(fd, events)
        if fd >= len(self._watchers):
            self._watchers.extend([None] * (fd + GROWTH - len(self._watchers)))
        self._watchers[fd] = watcher

    def hand_over(self, fd: int, watcher: Watcher) -> None:
        """From now on another watcher gets the news of a watched descriptor."""
        self._watchers[fd] = watcher

    def renew(self, fd: int, events: int) -> None:
        """Watch for these events from now on; what lies there already is news once more."""
        self._epoll.modify(fd, events)

    def ignore(self, fd: int) -> None:
        """Stop watching a descriptor that stays open."""
        if fd < len(self._watchers) and self._watchers[fd] is not None:
            self._watchers[fd] = None
            self._epoll.unregister(fd)

    def discard(self, fd: int) -> None:
        """Forget the descriptor now and close it once the batch in hand is done. Takes over the descriptor."""
        if fd < len(self._watchers):
            self._watchers[fd] = None
        if self._turning:
            self._discarded.append(fd)
        else:
            os.close(fd)

    def again(self, step: Callable[[], None]) -> None:
        """Call ``step`` in the next turn: it stopped early, for the sake of the others."""
        self._ready.append(step)
        if not self._turning and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def watched(self) -> int:
        """How many descriptors are watched."""
        return sum(watcher is not None for watcher in self._watchers)

    def close(self) -> None:
        """Stop for good."""
        self.loop.remove_reader(self._epoll.fileno())
        self._ready.clear()
        self._watchers.clear()
        self._epoll.close()

    def _turn(self) -> None:
        if self._epoll.closed:
            return
        self._scheduled = False
        self._turning = True
        poll, discarded = self._epoll.poll, self._discarded
        self.now = time.monotonic()
        end = self.now + TURN
        for _ in range(POLLS):
            if self._ready:
                self._run_ready()
            self.polls += 1
            news = poll(0, BATCH)
            for fd, events in news:
                watcher = self._watchers[fd]
                if watcher is None:
                    continue
                try:
                    watcher.on_news(events)
                except Exception:
                    self._quarantine(fd)
            if discarded:
                for fd in discarded:
                    os.close(fd)
                discarded.clear()
            self.now = time.monotonic()
            if self.now > end or not (news or self._ready):
                break
        self._turning = False
        if self._ready and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def _run_ready(self) -> None:
        ready, self._ready = self._ready, []
        for step in ready:
            try:
                step()
            except Exception:
                log.exception("dataplane.bug: a deferred step raised")

    def _quarantine(self, fd: int) -> None:
        # A bug in one watcher must not reach the others; without its watcher it cannot strike twice.
        log.exception("dataplane.bug: the watcher of descriptor %d raised", fd)
        self.ignore(fd)
