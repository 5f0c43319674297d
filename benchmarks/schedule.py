"""Which measurement comes when, and how long is left. Pure: durations and times are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement: a row, a round of it, a peer."""

    row: str
    round: int
    peer: str


def steps(places: Mapping[str, Sequence[str]], rounds: int) -> Iterator[Step]:
    """Row after row; in each the peers take turns (A B C A B C), so that a mood of the machine meets them all.

    ``places``: the peers of each row.
    """
    for row, peers in places.items():
        for number in range(1, rounds + 1):
            for peer in peers:
                yield Step(row, number, peer)


class Remaining:
    """How long the steps that are left will take: like the same peer in the same row before, else as expected."""

    def __init__(self, planned: Iterable[Step], expected: Mapping[str, float]) -> None:
        self._left = list(planned)
        self._expected = expected
        self._took: dict[tuple[str, str], float] = {}

    def done(self, step: Step, seconds: float) -> None:
        """Strike a step off, and learn from it."""
        self._left.remove(step)
        self._took[step.row, step.peer] = seconds

    def seconds(self) -> float:
        """What is left."""
        return sum(self._took.get((step.row, step.peer), self._expected[step.row]) for step in self._left)


def clock(seconds: float) -> str:
    """A duration as people read it: ``1:05:09``, ``5:09``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
