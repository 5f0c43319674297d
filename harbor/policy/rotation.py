"""Which backend gets the next connection.

Rule 1: one step per new connection; heartbeats and other news do not move the pointer.
Rule 2: backends that are up take part. If none is up all do (fail open): a dial costs little, and a
        failed check may be wrong.
Rule 3: when the backends change, the one whose turn it was keeps its turn.
Rule 4: with equal weights the turns of ``round_robin`` are strict. Otherwise a backend gets its share of them, spread
        as evenly as they go (every pick adds its weight to the credit of each, and takes the total from whose turn
        it is).
Rule 5: for ``slow_start`` seconds after it came up, a backend's weight grows from a twentieth to the whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from typing import Final

from harbor.model import Address
from harbor.model.policy import Balance

LEAST_SHARE: Final = 0.05  # of its weight that a backend has when it has just come up: some traffic, to warm up


class Slot:
    """One backend instance as relays see it. ``active`` counts its sessions, those being dialled included.

    ``since`` is when it came up, on the clock that picks are told. ``keeps_flows``: it drains, and its UDP flows stay.
    ``host`` is the name that it registered with, and None for an address.
    """

    __slots__ = ("active", "address", "backend_id", "credit", "host", "keeps_flows", "since", "up", "weight")

    def __init__(
        self, backend_id: str, address: Address, up: bool = True, weight: float = 1.0, since: float = 0.0
    ) -> None:
        self.backend_id = backend_id
        self.address = address
        self.host: str | None = None
        self.up = up
        self.weight = weight
        self.since = since
        self.credit = 0.0
        self.keeps_flows = False
        self.active = 0

    def __repr__(self) -> str:
        return f"<Slot {self.backend_id} {self.address} {'up' if self.up else 'down'} active={self.active}>"


class Rotation:
    """The ring of backends that take turns: ``balance: round_robin``."""

    __slots__ = ("_even", "_next", "_ring", "_slow_start", "_warm_at", "slots")

    def __init__(self, slow_start: float = 0.0) -> None:
        self._slow_start = slow_start
        self.slots: list[Slot] = []  # all that there are; those that take turns are in the ring
        self._ring: list[Slot] = []
        self._next = 0
        self._even = True
        self._warm_at = 0.0  # when the last of them is through its slow start

    def __len__(self) -> int:
        """How many backends take turns now."""
        return len(self._ring)

    def replace(self, slots: Sequence[Slot]) -> None:
        """Choose among these from now on, in this order; the turn stays with whose turn it was."""
        before = self._ring[self._next :] + self._ring[: self._next]
        self.slots = list(slots)
        ring = self._ring = [slot for slot in slots if slot.up] or self.slots
        self._next = next((ring.index(slot) for slot in before if slot in ring), 0)
        self._even = len({slot.weight for slot in ring}) < 2
        self._warm_at = max((slot.since for slot in ring), default=0.0) + self._slow_start if self._slow_start else 0.0
        for slot in ring:
            slot.credit = 0.0

    def pick(self, limit: int = 0, tried: Collection[Slot] = (), now: float = 0.0, client: str = "") -> Slot | None:
        """Who gets a client, passing over those in ``tried`` and those with ``limit`` sessions (0: no limit)."""
        if not self._even or now < self._warm_at:
            return self._pick_by_weight(limit, tried, now)
        ring = self._ring
        for _ in range(len(ring)):
            slot = ring[self._next]
            self._next += 1
            if self._next == len(ring):
                self._next = 0
            if (not limit or slot.active < limit) and slot not in tried:
                return slot
        return None

    def has_room(self, limit: int) -> bool:
        """Whether any of them would get a client now, each with no more than ``limit`` sessions (0: no limit)."""
        return any(not limit or slot.active < limit for slot in self._ring)

    def _pick_by_weight(self, limit: int, tried: Collection[Slot], now: float) -> Slot | None:
        total = 0.0
        best: Slot | None = None
        for slot in self._ring:
            if (not limit or slot.active < limit) and slot not in tried:
                weight = self.weight(slot, now)
                slot.credit += weight
                total += weight
                if best is None or slot.credit > best.credit:
                    best = slot
        if best is not None:
            best.credit -= total
        return best

    def weight(self, slot: Slot, now: float) -> float:
        """The weight of a backend at this moment."""
        if now >= self._warm_at:
            return slot.weight
        return slot.weight * min(1.0, max(LEAST_SHARE, (now - slot.since) / self._slow_start))

    def __repr__(self) -> str:
        turns = self._ring[self._next :] + self._ring[: self._next]
        return f"<{type(self).__name__} {' '.join(slot.backend_id for slot in turns) or 'empty'}>"


class LeastSessions(Rotation):
    """``balance: least_sessions``: who has the fewest for its weight; among equals they take turns."""

    __slots__ = ()

    def pick(self, limit: int = 0, tried: Collection[Slot] = (), now: float = 0.0, client: str = "") -> Slot | None:
        """As ``Rotation.pick``."""
        ring = self._ring
        best: Slot | None = None
        least = math.inf
        size = len(ring)
        for step in range(size):
            slot = ring[(self._next + step) % size]
            if (not limit or slot.active < limit) and slot not in tried:
                load = (slot.active + 1) / self.weight(slot, now)
                if load < least:
                    best, least = slot, load
        if best is not None:
            self._next = (ring.index(best) + 1) % size
        return best


class SourceHash(Rotation):
    """``balance: source_hash``: a client's address decides, and a backend that comes or goes moves its share only.

    Rendezvous hashing with weights: each backend draws a number from its id and the client, the highest wins
    (Thaler, Ravishankar 1998; ``-weight / log`` by Schindelhauer, Schomaker 2005).
    """

    __slots__ = ()

    def pick(self, limit: int = 0, tried: Collection[Slot] = (), now: float = 0.0, client: str = "") -> Slot | None:
        """As ``Rotation.pick``; who is tried or full gives way to the client's second choice."""
        best: Slot | None = None
        highest = -1.0
        source = client.encode()
        for slot in self._ring:
            if (not limit or slot.active < limit) and slot not in tried:
                drawn = self.weight(slot, now) / -math.log(_fraction(slot.backend_id.encode(), source))
                if drawn > highest:
                    best, highest = slot, drawn
        return best


def _fraction(backend_id: bytes, source: bytes) -> float:
    """A number between 0 and 1, both excluded; the same for the same two on every node and after every restart."""
    digest = hashlib.blake2b(source, digest_size=8, key=backend_id[:64]).digest()
    return (int.from_bytes(digest, "big") + 1) / (2.0**64 + 2.0)


def rotation_for(balance: Balance, slow_start: float) -> Rotation:
    """What chooses by this policy, without backends yet."""
    if balance is Balance.LEAST_SESSIONS:
        return LeastSessions(slow_start)
    if balance is Balance.SOURCE_HASH:
        return SourceHash(slow_start)
    return Rotation(slow_start)
