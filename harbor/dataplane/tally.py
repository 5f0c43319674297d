"""What one service has counted: plain ints that relays add to and that others read when they care to."""

from __future__ import annotations

from collections import Counter

from harbor.model import Drop, Reason


class Tally:
    """Totals of ended sessions and of drops; what live sessions have moved is still on them."""

    __slots__ = ("bytes_in", "bytes_out", "closed", "datagrams_in", "datagrams_out", "dropped", "opened")

    def __init__(self) -> None:
        self.opened = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.closed: Counter[Reason] = Counter()
        self.dropped: Counter[Drop] = Counter()
