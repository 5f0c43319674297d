"""The UDP flows of one service: which exist, which give way when room is needed, which have gone idle.

Theory. A flow begins with a client's datagram and is *answered* once its backend has replied. A sender
with a forged address never gets further than that first half, so when room is needed the oldest flow
that was never answered goes first; only when there is none does the answered flow that was silent longest go.

The relay touches nothing here per datagram: it counts datagrams on the flow, and ``sweep`` finds out from
the counts who has moved since the last sweep.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar


class Flow:
    """What the table needs to know of a flow. ``datagrams_*`` are counted by the relay."""

    __slots__ = ("answered", "datagrams_in", "datagrams_out", "key", "last_moved", "swept")

    def __init__(self, key: Hashable, now: float) -> None:
        self.key = key
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.answered = False
        self.swept = 0  # datagrams both ways at the last sweep
        self.last_moved = now


F = TypeVar("F", bound=Flow)


class Flows(Generic[F]):
    """All flows of one service; ``find`` is the lookup that the relay binds. Callers pass ``now``, in seconds."""

    __slots__ = ("_answered", "_by_key", "_unanswered", "find")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, F] = {}
        self._unanswered: dict[F, None] = {}  # oldest first
        self._answered: dict[F, None] = {}  # silent longest first, as of the last sweep
        self.find = self._by_key.get

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[F]:
        return iter(tuple(self._by_key.values()))

    @property
    def unanswered(self) -> int:
        """How many flows were never answered."""
        return len(self._unanswered)

    def add(self, flow: F) -> None:
        """Take in a new flow; its key must be free."""
        assert flow.key not in self._by_key
        self._by_key[flow.key] = flow
        self._unanswered[flow] = None

    def answer(self, flow: F) -> None:
        """The backend has replied for the first time."""
        flow.answered = True
        del self._unanswered[flow]
        self._answered[flow] = None

    def remove(self, flow: F) -> None:
        """Forget a flow that is in the table."""
        del self._by_key[flow.key]
        del (self._answered if flow.answered else self._unanswered)[flow]

    def retire(self, flow: F) -> None:
        """Let another flow have the key of this one, which goes on without new datagrams."""
        del self._by_key[flow.key]
        flow.key = flow
        self._by_key[flow.key] = flow

    def first_to_go(self) -> F | None:
        """Which flow gives way to a new one; None when there is none."""
        return next(iter(self._unanswered), None) or next(iter(self._answered), None)

    def sweep(self, now: float, timeout: float) -> list[F]:
        """The flows in which nothing has moved for ``timeout`` seconds; removing them is the caller's job."""
        idle = []
        for flow in self._by_key.values():
            moved = flow.datagrams_in + flow.datagrams_out
            if moved != flow.swept:
                flow.swept = moved
                flow.last_moved = now
                if flow.answered:
                    del self._answered[flow]
                    self._answered[flow] = None
            elif now - flow.last_moved >= timeout:
                idle.append(flow)
        return idle

    def __repr__(self) -> str:
        return f"<Flows {len(self)}: {len(self._answered)} answered, {len(self._unanswered)} not>"
