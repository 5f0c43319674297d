"""From measurements to the table: medians, the best peer of a row, ratios. Pure: knows neither clocks nor processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

HARBOR: Final = "harbor"

Measured = Mapping[str, float]  # what one measurement of one peer yields, by name


@dataclass(frozen=True, slots=True)
class Detail:
    """A further number in a cell, beside the figure: ``{}`` in ``form`` stands for it."""

    key: str
    form: str
    only_if_not_zero: bool = False

    def shown(self, values: Measured) -> str:
        """The text of this detail; empty if it was not measured or is not worth a word."""
        value = values.get(self.key)
        if value is None or (self.only_if_not_zero and not value):
            return ""
        return self.form.format(value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what is compared (lower is better), in which unit, and what Harbor aims at."""

    name: str
    title: str
    unit: str
    key: str
    details: tuple[Detail, ...] = ()
    target: float | None = None


@dataclass(slots=True)
class Line:
    """All that is known about one figure: the rounds of each peer, and why some have none."""

    figure: Figure
    rounds: dict[str, list[Measured]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, values: Measured) -> None:
        """Take in one round."""
        self.rounds.setdefault(peer, []).append(values)

    def fail(self, peer: str, reason: str) -> None:
        """Say why a peer has no number, or fewer rounds than others."""
        self.failures.setdefault(peer, reason)

    def keep(self, row: Mapping[str, Any]) -> None:
        """Take in what ``as_json`` told of this figure in an earlier run."""
        self.failures.update(row["failures"])
        for peer, told in row["peers"].items():
            self.rounds[peer] = list(told["rounds"])

    def has(self, peer: str, count: int) -> bool:
        """Whether a peer has so many rounds, or is known to fail."""
        return peer in self.failures or len(self.rounds.get(peer, [])) >= count

    def medians(self, peer: str) -> dict[str, float]:
        """The median of each number over the rounds of a peer; empty if it has none."""
        rounds = self.rounds.get(peer, [])
        names = {name for values in rounds for name in values}
        return {name: median(values[name] for values in rounds if name in values) for name in sorted(names)}

    def value(self, peer: str) -> float | None:
        """The figure of a peer."""
        return self.medians(peer).get(self.figure.key)

    def best_peer(self, peers: Iterable[str]) -> str | None:
        """The peer with the lowest figure; Harbor is not its own peer."""
        values = {peer: value for peer in peers if peer != HARBOR and (value := self.value(peer)) is not None}
        return min(values, key=values.__getitem__) if values else None

    def ratio(self, peer: str, peers: Iterable[str]) -> float | None:
        """A peer's figure as a multiple of the best peer's."""
        best = self.best_peer(peers)
        value, least = self.value(peer), self.value(best) if best is not None else None
        return None if value is None or not least else value / least


def number(value: float) -> str:
    """Three digits that count, and a comma in thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(line: Line, peer: str) -> str:
    """What the table says about a peer in a row: the figure and its details, or why there is none."""
    values = line.medians(peer)
    if line.figure.key not in values:
        return "–" if peer not in line.failures else "failed"
    details = (detail.shown(values) for detail in line.figure.details)
    return " · ".join([number(values[line.figure.key]), *filter(None, details)])


def verdict(line: Line, peers: Sequence[str]) -> str:
    """Harbor against the best peer: the ratio, who that is, and whether the target is met."""
    ratio, best = line.ratio(HARBOR, peers), line.best_peer(peers)
    if ratio is None or best is None:
        return "–"
    target = line.figure.target
    mark = "" if target is None else f", {'≤' if ratio <= target else '>'} {target:g}"
    return f"{ratio:.2f} of {best}{mark}"


def notes(lines: Iterable[Line], missing: Mapping[str, str]) -> list[str]:
    """What a reader must know beside the numbers: who is missing and why, and what failed."""
    found = [f"{peer} is missing: {reason}" for peer, reason in missing.items()]
    for line in lines:
        found += [f"{line.figure.name}, {peer}: {reason}" for peer, reason in line.failures.items()]
    return found


def as_json(lines: Iterable[Line], peers: Sequence[str]) -> dict[str, Any]:
    """Everything, to be kept: every round, medians, ratios."""
    return {
        line.figure.name: {
            "title": line.figure.title,
            "unit": line.figure.unit,
            "target": line.figure.target,
            "best_peer": line.best_peer(peers),
            "ratio": line.ratio(HARBOR, peers),
            "failures": line.failures,
            "peers": {
                peer: {
                    "figure": line.value(peer),
                    "ratio": line.ratio(peer, peers),
                    "median": line.medians(peer),
                    "rounds": [dict(values) for values in rounds],
                }
                for peer, rounds in line.rounds.items()
            },
        }
        for line in lines
    }
