"""Many deadlines, the soonest first."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)
SLACK: Final = 64  # stale entries that are not worth a rebuild


class Deadlines(Generic[T]):
    """At most one deadline per key. Moving or clearing one leaves a stale heap entry, skipped when it comes up."""

    __slots__ = ("_count", "_heap", "_when")

    def __init__(self) -> None:
        self._when: dict[T, float] = {}
        self._heap: list[tuple[float, int, T]] = []  # the number in the middle keeps keys from being compared
        self._count = count()

    def set(self, key: T, when: float | None) -> None:
        """Set, move or (None) clear the deadline of a key. O(log n)."""
        if self._when.get(key) == when:
            return
        if when is None:
            del self._when[key]
        else:
            self._when[key] = when
            heapq.heappush(self._heap, (when, next(self._count), key))
        if len(self._heap) > 2 * len(self._when) + SLACK:
            self._heap = [(when, next(self._count), key) for key, when in self._when.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The soonest deadline."""
        while self._heap:
            when, _, key = self._heap[0]
            if self._when.get(key) == when:
                return when
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> list[T]:
        """Clear the deadlines that have come and return their keys, the soonest first."""
        keys = []
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._when[key]
            keys.append(key)
        return keys
