"""One nested epoll per event loop: the engine under all relays.

The loop watches a single descriptor, this epoll's own. One *turn* drains it and calls the handler of each
descriptor that has news, without a Handle, a Future or a system call per direction change. Why this
and not transports or ``add_reader``: docs/decisions/0002-nested-reactor.md.

Rules for handlers:
- A descriptor is registered once. Streams are edge-triggered: news comes once, so whoever stops early (fairness) asks
  for ``again``. Listeners and datagrams are level-triggered: what is left is told of at the next poll, and nobody
  has to read until there is nothing, which costs a call and an exception.
- Events are news, not truth: a handler finds out the rest from the socket itself.
- Sockets are closed with ``discard``, which closes them when the batch in hand is done. A descriptor number
  is thus never reused within a batch, and no stale event reaches a newcomer.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger("harbor.dataplane")

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
READ_WRITE: Final = READ | WRITE
PEER_ENDED: Final = select.EPOLLRDHUP
HUNG_UP: Final = select.EPOLLHUP
FAILED: Final = select.EPOLLERR
URGENT: Final = select.EPOLLPRI
STREAM_EDGES: Final = READ_WRITE | PEER_ENDED | URGENT | select.EPOLLET

# One buffer for all reads: 512 KiB is where bulk throughput stops rising (docs/performance.md).
WHOLE: Final = 512 * 1024
# What a stream reads while it has not proven to be bulk, and what each one may keep for a slow reader.
PIECE: Final = 64 * 1024
# Reads up to this long use ready-made slices: making a memoryview costs a tenth of a short exchange.
SLICES: Final = 2048

POLLS: Final = 16  # polls in one turn: saves the hop through the loop while there is news
BATCH: Final = 512  # descriptors in one poll
TURN: Final = 0.005  # seconds after which a turn gives the loop back to timers and the API


class Closable(Protocol):
    def close(self) -> None: ...


class Reactor:
    """The epoll of one event loop, the buffer that its handlers share, and what they asked for later.

    Closing: ``close()`` stops watching; sockets that are still registered belong to their owners.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = bytearray(WHOLE)
        self.whole = memoryview(self.buffer)
        self.piece = self.whole[:PIECE]
        self.slices = tuple(self.whole[:length] for length in range(SLICES))
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._ready: list[Callable[[], None]] = []
        self.polls = 0
        self.held = 0  # bytes that streams keep for slow readers
        self._discarded: list[Closable] = []
        self._turning = False
        self._scheduled = False
        loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, fd: int, handler: Callable[[int], None], events: int = STREAM_EDGES) -> None:
        """Call ``handler(events)`` whenever the descriptor has news."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def rewire(self, fd: int, handler: Callable[[int], None]) -> None:
        """From now on another handler gets the news of a watched descriptor."""
        self._handlers[fd] = handler

    def ignore(self, fd: int) -> None:
        """Stop watching a descriptor that stays open."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def discard(self, fd: int, owner: Closable) -> None:
        """Forget the descriptor now and close its owner once the batch in hand is done."""
        self._handlers.pop(fd, None)
        if self._turning:
            self._discarded.append(owner)
        else:
            owner.close()

    def again(self, step: Callable[[], None]) -> None:
        """Call ``step`` in the next turn: it stopped early, for the sake of the others."""
        self._ready.append(step)
        if not self._turning and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def close(self) -> None:
        """Stop for good."""
        self.loop.remove_reader(self._epoll.fileno())
        self._ready.clear()
        self._handlers.clear()
        self._epoll.close()

    def _turn(self) -> None:
        if self._epoll.closed:
            return
        self._scheduled = False
        self._turning = True
        poll, handlers, discarded = self._epoll.poll, self._handlers, self._discarded
        clock = time.monotonic
        end = clock() + TURN
        for _ in range(POLLS):
            if self._ready:
                self._run_ready()
            self.polls += 1
            news = poll(0, BATCH)
            for fd, events in news:
                handler = handlers.get(fd)
                if handler is None:
                    continue
                try:
                    handler(events)
                except Exception:
                    self._quarantine(fd)
            if discarded:
                for owner in discarded:
                    owner.close()
                discarded.clear()
            if clock() > end or not (news or self._ready):
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
        # A bug in one handler must not reach the others; without its handler it cannot strike twice.
        log.exception("dataplane.bug: the handler of descriptor %d raised", fd)
        self.ignore(fd)
