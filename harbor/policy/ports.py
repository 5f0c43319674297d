"""The ports of a node: which are leased, which rest, which may be leased next.

A port is free, leased or resting. A lease may have several holders, and ends when the last one gives it back. The port
rests then, so that late traffic for its last service does not reach the next one (a client's retries and TIME_WAIT
both last about a minute). Ports outside the ranges, or reserved, are never offered; one that was leased before the
configuration excluded it is adopted and kept until it is released.
"""

from __future__ import annotations

import heapq
import math
import random
import re
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from harbor.errors import Invalid, Refused
from harbor.policy.naming import shown

HIGHEST: Final = 65_535
FIRST_INTERNAL: Final = 4100  # where the first Harbor began to number the ports inside containers
PROBES: Final = 32  # random tries before a sweep: with half the range leased, all miss once in four billion

Range = tuple[int, int]


class Ports:
    """The external ports that a node may lease. Callers pass a ``now`` that never goes back."""

    __slots__ = ("_ends", "_leased", "_quarantine", "_reserved", "_resting", "ranges", "total")

    def __init__(self, ranges: Sequence[Range], reserved: Iterable[int] = (), quarantine: float = 60.0) -> None:
        """``ranges`` are inclusive and must not overlap (``Invalid``, ``ranges_overlap``)."""
        self.ranges = tuple(sorted(ranges))
        for earlier, later in pairwise(self.ranges):
            if earlier[1] >= later[0]:
                raise Invalid(
                    f"port ranges {range_text(earlier)} and {range_text(later)} overlap; merge them",
                    code="ranges_overlap",
                )
        self._ends = list(accumulate(high - low + 1 for low, high in self.ranges))
        self._reserved = frozenset(reserved)
        self._quarantine = quarantine
        self._leased: dict[int, int] = {}  # port -> how many hold it
        self._resting: dict[int, float] = {}  # port -> end of its rest, soonest first
        in_ranges = self._ends[-1] if self._ends else 0
        self.total = in_ranges - sum(self._in_ranges(port) for port in self._reserved)

    def __repr__(self) -> str:
        return f"<Ports {len(self._leased)} leased, {len(self._resting)} resting of {self.total}>"

    @property
    def reserved(self) -> tuple[int, ...]:
        return tuple(sorted(self._reserved))

    def is_leasable(self, port: int) -> bool:
        """Whether the configuration lets this node lease the port at all."""
        return port not in self._reserved and self._in_ranges(port)

    def is_free(self, port: int, now: float) -> bool:
        """Whether the port may be leased now."""
        return self.is_leasable(port) and port not in self._leased and not self._rests(port, now)

    def candidates(self, rng: random.Random, now: float, avoid: Container[int] = ()) -> Iterator[int]:
        """The ports that may be leased, each once, in random order; what is leased meanwhile is left out."""
        tried: set[int] = set()
        in_ranges = self._ends[-1] if self._ends else 0
        for _ in range(PROBES if in_ranges else 0):
            port = self._at(rng.randrange(in_ranges))
            if port not in tried and port not in avoid and self.is_free(port, now):
                tried.add(port)
                yield port
        left = [port for port in self._all() if port not in tried and port not in avoid and self.is_free(port, now)]
        rng.shuffle(left)
        yield from (port for port in left if self.is_free(port, now))

    def check_pin(self, port: object, now: float, may_join: bool = False) -> int:
        """The port that somebody asked for by number, or why it cannot be had. ``may_join``: it may be leased already.

        Errors: ``Invalid`` with ``port_invalid`` or ``port_out_of_range``; ``Refused`` with ``port_reserved``,
        ``port_leased`` or ``port_resting``.
        """
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= HIGHEST:
            raise Invalid(f"{shown(port)} is not a port; use a number from 1 to {HIGHEST}", code="port_invalid")
        if not self._in_ranges(port):
            raise Invalid(
                f"port {port} is outside this node's ranges ({self._ranges_text()}); choose one inside, or none",
                code="port_out_of_range",
            )
        if port in self._reserved:
            raise Refused(f"port {port} is reserved by this node; choose another, or none", code="port_reserved")
        if port in self._leased and not may_join:
            raise Refused(
                f"port {port} is leased to another service; choose another, or none",
                code="port_leased",
            )
        if self._rests(port, now):
            left = math.ceil(self._resting[port] - now)
            raise Refused(
                f"port {port} was released lately and rests for another {left} s; wait, or choose another",
                code="port_resting",
            )
        return port

    def lease(self, port: int) -> None:
        """Take a port that was found free. Errors: ``Refused`` if it is leased or not leasable."""
        if not self.is_leasable(port):
            raise Refused(f"port {port} is not one that this node leases", code="port_out_of_range")
        self.adopt(port)

    def adopt(self, port: int) -> None:
        """Take a port that was leased before, even where the configuration has excluded it since."""
        if port in self._leased:
            raise Refused(f"port {port} is leased to another service", code="port_leased")
        self._leased[port] = 1

    def join(self, port: int) -> None:
        """Hold a leased port as well."""
        self._leased[port] += 1

    def withdraw(self, port: int) -> None:
        """Undo a lease that nobody was told of: the port need not rest."""
        self._leased[port] -= 1
        if not self._leased[port]:
            del self._leased[port]

    def release(self, port: int, now: float) -> None:
        """Hold a port no longer; it rests if nobody else does."""
        self.withdraw(port)
        if port not in self._leased:
            self.rest(port, now)

    def rest(self, port: int, now: float) -> None:
        """Let a port rest for a whole quarantine from ``now``; at start, for each that rested when the node stopped."""
        self._resting.pop(port, None)
        self._resting[port] = now + self._quarantine

    def rested(self, now: float) -> tuple[int, ...]:
        """Forget and return the ports whose rest is over."""
        over = []
        for port, end in self._resting.items():
            if end > now:
                break
            over.append(port)
        for port in over:
            del self._resting[port]
        return tuple(over)

    def next_deadline(self) -> float | None:
        """When ``rested`` will next have something to return."""
        return next(iter(self._resting.values()), None)

    def free(self, now: float) -> int:
        """How many ports may be leased now."""
        leased = sum(map(self.is_leasable, self._leased))
        return self.total - leased - sum(map(self.is_leasable, self.resting(now)))

    def resting(self, now: float) -> dict[int, float]:
        """Port → seconds until it may be leased again, soonest first."""
        return {port: end - now for port, end in self._resting.items() if end > now and port not in self._leased}

    def _rests(self, port: int, now: float) -> bool:
        end = self._resting.get(port)
        return end is not None and end > now

    def _in_ranges(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.ranges)

    def _all(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def _at(self, index: int) -> int:
        """The port with this index when all ranges are laid end to end."""
        place = bisect_right(self._ends, index)
        return self.ranges[place][1] + 1 - (self._ends[place] - index)

    def _ranges_text(self) -> str:
        return ", ".join(map(range_text, self.ranges)) or "it has none"


class InternalPorts:
    """The numbers that apps listen on inside their containers: the lowest free one from 4100 upward."""

    __slots__ = ("_freed", "_next", "_taken")

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._freed: list[int] = []  # a heap of numbers below _next that may be free again
        self._next = FIRST_INTERNAL  # no number from here on was ever handed out by take()

    def __repr__(self) -> str:
        return f"<InternalPorts {len(self._taken)} taken>"

    def take(self) -> int:
        """The lowest free number, taken. Errors: ``Refused`` (``int_ports_exhausted``)."""
        while self._freed:
            number = heapq.heappop(self._freed)
            if number not in self._taken:
                self._taken.add(number)
                return number
        while self._next in self._taken:
            self._next += 1
        if self._next > HIGHEST:
            raise Refused(f"all internal ports from {FIRST_INTERNAL} are taken", code="int_ports_exhausted")
        number, self._next = self._next, self._next + 1
        self._taken.add(number)
        return number

    def claim(self, number: int) -> None:
        """Take a given number, as at start. Errors: ``Refused`` (``int_port_taken``)."""
        if number in self._taken:
            raise Refused(f"internal port {number} belongs to another service", code="int_port_taken")
        self._taken.add(number)

    def release(self, number: int) -> None:
        """Let a number be taken again."""
        self._taken.remove(number)
        if FIRST_INTERNAL <= number < self._next:
            heapq.heappush(self._freed, number)


def overlaps(ranges: Sequence[Range], other: Range) -> list[Range]:
    """The parts of ``ranges`` that lie in ``other``; all inclusive."""
    low, high = other
    parts = [(max(low, start), min(high, end)) for start, end in ranges]
    return [(start, end) for start, end in parts if start <= end]


def parse_range(text: str) -> Range:
    """``"30000-32767"`` or ``"30000"`` as an inclusive range, or ``Invalid`` (``range_invalid``)."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if match is None:
        raise Invalid(
            f"{shown(text)} is not a range of ports; write it as 30000-32767, or as 30000 for one port",
            code="range_invalid",
        )
    low, high = int(match[1]), int(match[2] or match[1])
    if low < 1 or high > HIGHEST:
        raise Invalid(f"range {text}: ports go from 1 to {HIGHEST}", code="range_invalid")
    if low > high:
        raise Invalid(f"range {text} ends before it begins; did you mean {high}-{low}?", code="range_invalid")
    return low, high


def range_text(ports: Range) -> str:
    """A range as ``parse_range`` reads it."""
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"


def beside(ranges: Sequence[Range], local: Range) -> Range | None:
    """The largest part of ``local`` that is clear of all ``ranges``; None if nothing is."""
    low, high = local
    edges = [low - 1, *(port for part in sorted(overlaps(ranges, local)) for port in part), high + 1]
    gaps = [(end + 1, start - 1) for end, start in zip(edges[::2], edges[1::2], strict=True)]
    return max((gap for gap in gaps if gap[0] <= gap[1]), key=lambda gap: gap[1] - gap[0], default=None)
