"""Token buckets: so many in a second, in the long run, and so many at once after a silence.

A bucket holds up to ``burst`` tokens and gains ``rate`` of them in a second; what passes takes its tokens along. So
no window of ``t`` seconds, wherever it begins, lets more than ``burst + rate * t`` pass.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

MOST_SOURCES: Final = 65_536  # that a table remembers; some ten megabytes
FORGET_AT_ONCE: Final = 2  # old sources per new look-up, so that a table shrinks faster than it grows


class Bucket:
    """One bucket; full when it is made."""

    __slots__ = ("_since", "_tokens")

    def __init__(self, burst: float, now: float) -> None:
        self._tokens = burst
        self._since = now

    @property
    def since(self) -> float:
        """When something was last asked of it."""
        return self._since

    def take(self, rate: float, burst: float, now: float, count: int = 1) -> bool:
        """Whether ``count`` may pass now; if not, nothing is taken. ``now`` never goes back."""
        tokens = min(burst, self._tokens + (now - self._since) * rate)
        self._since = now
        if tokens < count:
            self._tokens = tokens
            return False
        self._tokens = tokens - count
        return True


class Buckets:
    """A bucket for each source of traffic that was heard of lately.

    A source that was silent until its bucket is full again is forgotten, which changes nothing. Where there are more
    than ``most``, who was silent longest is forgotten, and has a full bucket when it comes back.
    """

    __slots__ = ("_by_source", "_most", "_refill", "burst", "rate")

    def __init__(self, rate: float, burst: float, most: int = MOST_SOURCES) -> None:
        self.rate = rate
        self.burst = burst
        self._most = most
        self._refill = burst / rate  # seconds
        self._by_source: dict[Hashable, Bucket] = {}  # silent longest first

    def __len__(self) -> int:
        """How many sources it remembers."""
        return len(self._by_source)

    def take(self, source: Hashable, now: float, count: int = 1) -> bool:
        """Whether ``count`` of this source may pass now; if not, nothing is taken. ``now`` never goes back."""
        known = self._by_source
        bucket = known.pop(source, None)
        self._forget(now)
        if bucket is None:
            if len(known) >= self._most:
                del known[next(iter(known))]
            bucket = Bucket(self.burst, now)
        known[source] = bucket
        return bucket.take(self.rate, self.burst, now, count)

    def _forget(self, now: float) -> None:
        known = self._by_source
        for _ in range(FORGET_AT_ONCE):
            if not known:
                return
            oldest = next(iter(known))
            if now - known[oldest].since < self._refill:
                return
            del known[oldest]
