"""Limits of a service that have more than one number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from harbor.model.kinds import Number, Seconds, Size, Whole, setting

MOST_WAITING: Final = 100_000  # clients of one service; each holds a descriptor and costs a kibibyte
FASTEST: Final = 10_000_000  # in a second; more than a node carries, so that a mistyped number is found
LARGEST_DATAGRAM: Final = 65_535  # bytes; a burst below that would never let one pass
MOST_BYTES: Final = 100_000_000_000  # in a second


@dataclass(frozen=True, slots=True)
class Queue:
    """Who finds a service full may wait."""

    size: int = setting(Whole(1, MOST_WAITING), "Clients that may wait at a time.")
    timeout: float = setting(Seconds(0.1, 3600), "Seconds that a client waits at most.", 10.0)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a second, and so many at once after a silence."""

    rate: float = setting(Number(0.001, FASTEST), "How many in a second, in the long run.")
    burst: int | None = setting(
        Whole(1, FASTEST), "How many at once, after a silence. Unless given, those of one second.", None
    )

    @property
    def at_once(self) -> int:
        """The burst that is in effect."""
        return max(1, math.ceil(self.rate)) if self.burst is None else self.burst


@dataclass(frozen=True, slots=True)
class ByteRate:
    """So many bytes in a second, and so many at once after a silence."""

    rate: int = setting(Size(1, MOST_BYTES), "Bytes in a second, in the long run.")
    burst: int | None = setting(
        Size(LARGEST_DATAGRAM, MOST_BYTES),
        "Bytes at once, after a silence. Unless given, those of one second, but no less than the largest datagram.",
        None,
    )

    @property
    def at_once(self) -> int:
        """The burst that is in effect."""
        return max(LARGEST_DATAGRAM, self.rate) if self.burst is None else self.burst
