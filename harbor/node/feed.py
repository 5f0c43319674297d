"""The event feed: what happened to services and backends, and who did it.

An event gets its id when it is drafted, and is told once what it tells is durable. Others may be drafted and told
meanwhile; they wait their turn, so that followers see ids that only grow and can resume behind the last one.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from harbor.model import Event

KEPT: Final = 10_000  # events in memory, and in the store
BACKLOG: Final = 1_000  # events that a follower may lag behind before it is let go


class EventFeed:
    """The newest events, oldest first, and those who follow them."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._last_id = 0
        self._drafted: dict[int, None] = {}  # ids that are neither told nor abandoned, lowest first
        self._waiting: list[tuple[int, Event]] = []  # a heap of events that wait for lower ids
        self._followers: set[asyncio.Queue[Event | None]] = set()

    def restore(self, events: Sequence[Event]) -> None:
        """Put back what was stored."""
        self._events.extend(events)
        if events:
            self._last_id = events[-1].id

    def draft(self, kind: str, actor: str, message: str, service: str | None = None, **details: Any) -> Event:
        """An event that is to be committed together with what it tells, and then published or abandoned."""
        self._last_id += 1
        self._drafted[self._last_id] = None
        return Event(self._last_id, time.time(), kind, actor, message, service, details)

    def publish(self, event: Event) -> None:
        """Tell a drafted event, as soon as all before it are told or abandoned."""
        del self._drafted[event.id]
        heapq.heappush(self._waiting, (event.id, event))
        self._tell_in_turn()

    def abandon(self, event: Event) -> None:
        """What the event would have told did not happen."""
        del self._drafted[event.id]
        self._tell_in_turn()

    def _tell_in_turn(self) -> None:
        while self._waiting and self._waiting[0][0] < next(iter(self._drafted), self._last_id + 1):
            self._tell(heapq.heappop(self._waiting)[1])

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        for queue in list(self._followers):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._let_go(queue)

    def recent(self, after: int | None = None, limit: int = 100) -> list[Event]:
        """The newest ``limit`` events, or with ``after`` the oldest ``limit`` behind that id; oldest first."""
        if after is None:
            return list(self._events)[-limit:]
        return [event for event in self._events if event.id > after][:limit]

    async def follow(self, after: int | None = None) -> AsyncIterator[Event]:
        """Events as they are published, those behind ``after`` first. Ends if the reader lags or the node stops."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BACKLOG)
        past = [] if after is None else [event for event in self._events if event.id > after]
        self._followers.add(queue)
        try:
            for event in past:
                yield event
            while (live := await queue.get()) is not None:
                yield live
        finally:
            self._followers.discard(queue)

    def close(self) -> None:
        """Send all followers away."""
        for queue in list(self._followers):
            self._let_go(queue)

    def _let_go(self, queue: asyncio.Queue[Event | None]) -> None:
        self._followers.discard(queue)
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)
