"""How many descriptors sessions may use: a share below RLIMIT_NOFILE, so that control always has some left."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Final

RESERVE: Final = 256  # for the store, the API, logs, DNS and their like
PER_TCP_SESSION: Final = 2
PER_LINGERING: Final = 1  # of a TCP session's two, kept by a client that lingers
PER_UDP_FLOW: Final = 1


def raise_limit() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Descriptors:
    """A count with a ceiling. Whoever finds it used up waits here, and is called once there is room."""

    __slots__ = ("_waiting", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: list[Callable[[], None]] = []

    @classmethod
    def of_process(cls) -> Descriptors:
        """All that the process may open, less the reserve."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(max(soft - RESERVE, soft // 2))

    def take(self, count: int) -> bool:
        """Count so many as used, if there is room."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Count so many as free again."""
        self.used -= count
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for resume in waiting:
                resume()

    def when_free(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once, as soon as somebody gives descriptors back."""
        self._waiting.append(resume)

    def __repr__(self) -> str:
        return f"<Descriptors {self.used} of {self.limit}, {len(self._waiting)} waiting>"
