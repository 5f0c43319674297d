"""Which of many events about one thing are told: the first few of a minute, and how many were not."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

MOST: Final = 6  # within WINDOW: three times down and up again
WINDOW: Final = 60.0  # seconds


class Restraint(Generic[T]):
    """Callers pass ``now`` in monotonic seconds."""

    __slots__ = ("_held_back", "_told")

    def __init__(self) -> None:
        self._told: dict[T, list[float]] = {}
        self._held_back: dict[T, int] = {}

    def ask(self, key: T, now: float) -> int | None:
        """How many were held back before this one, if it is to be told; None if it is to be held back as well."""
        told = [at for at in self._told.get(key, ()) if at > now - WINDOW]
        if len(told) >= MOST:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        self._told[key] = [*told, now]
        return self._held_back.pop(key, 0)

    def forget(self, key: T) -> None:
        """It is no more."""
        self._told.pop(key, None)
        self._held_back.pop(key, None)
