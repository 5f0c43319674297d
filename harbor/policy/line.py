"""A line of clients that wait for a service that is full: bounded, first come first served, each for a bounded time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Line(Generic[T]):
    """Who waits. Knows no clock: callers pass ``now``, which never goes back.

    ``size`` and ``timeout`` may change at any time: a line that is too long lets nobody in, and throws nobody out.
    """

    __slots__ = ("_since", "size", "timeout")

    def __init__(self, size: int, timeout: float) -> None:
        self.size = size
        self.timeout = timeout
        self._since: dict[T, float] = {}  # who has waited longest first

    def __len__(self) -> int:
        return len(self._since)

    def join(self, who: T, now: float) -> bool:
        """Stand at the end of the line; False if there is no room."""
        if len(self._since) >= self.size:
            return False
        assert who not in self._since
        self._since[who] = now
        return True

    def first(self) -> T | None:
        """Whose turn it is next."""
        return next(iter(self._since), None)

    def leave(self, who: T) -> bool:
        """Wait no longer, for whatever reason; whether it was in the line."""
        return self._since.pop(who, None) is not None

    def overdue(self, now: float) -> list[T]:
        """Those who have waited too long, longest first; they stay in the line until they leave."""
        found: list[T] = []
        for who, since in self._since.items():
            if now - since < self.timeout:
                break
            found.append(who)
        return found
