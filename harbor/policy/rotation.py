"""Strict rotation: which backend gets the next connection.

Rule 1: one step per new connection; heartbeats and other news do not move the pointer.
Rule 2: backends that are up take part. If none is up all do (fail open): a dial costs little, and a
        failed check may be wrong.
Rule 3: when the backends change, the one whose turn it was keeps its turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harbor.model import Address


class Slot:
    """One backend instance as relays see it. ``active`` counts its sessions, those being dialled included."""

    __slots__ = ("active", "address", "backend_id", "up")

    def __init__(self, backend_id: str, address: Address, up: bool = True) -> None:
        self.backend_id = backend_id
        self.address = address
        self.up = up
        self.active = 0

    def __repr__(self) -> str:
        return f"<Slot {self.backend_id} {self.address} {'up' if self.up else 'down'} active={self.active}>"


class Rotation:
    """The ring of backends that take turns."""

    __slots__ = ("_next", "_ring")

    def __init__(self) -> None:
        self._ring: list[Slot] = []
        self._next = 0

    def __len__(self) -> int:
        """How many backends take turns now."""
        return len(self._ring)

    def replace(self, slots: Sequence[Slot]) -> None:
        """Rotate over these from now on, in this order; the turn stays with whose turn it was."""
        before = self._ring[self._next :] + self._ring[: self._next]
        self._ring = [slot for slot in slots if slot.up] or list(slots)
        self._next = next((self._ring.index(slot) for slot in before if slot in self._ring), 0)

    def pick(self, limit: int = 0, tried: Collection[Slot] = ()) -> Slot | None:
        """Whose turn it is, passing over those in ``tried`` and those with ``limit`` sessions (0: no limit)."""
        ring = self._ring
        for _ in range(len(ring)):
            slot = ring[self._next]
            self._next += 1
            if self._next == len(ring):
                self._next = 0
            if (not limit or slot.active < limit) and slot not in tried:
                return slot
        return None

    def __repr__(self) -> str:
        turns = self._ring[self._next :] + self._ring[: self._next]
        return f"<Rotation {' '.join(slot.backend_id for slot in turns) or 'empty'}>"
