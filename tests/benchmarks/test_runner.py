"""The runner goes on after a failure, keeps what it has at an interruption, and names who is missing."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from rich.console import Console

from benchmarks.machine import Cores
from benchmarks.peers import Forward, Missing, Peer, Place, Proxy
from benchmarks.process import Failed
from benchmarks.results import Figure, Measured, as_json
from benchmarks.rows import Bench, Row
from benchmarks.runner import Run, Runner, find


class Named(Peer):
    """A peer that is only a name; without a version it is missing."""

    def __init__(self, name: str, version: str | None = "1") -> None:
        self.name = name  # type: ignore[misc]
        self._version = version

    def version(self) -> str:
        if self._version is None:
            raise Missing("install it")
        return self._version

    def start(self, place: Place, forwards: Sequence[Forward]) -> Proxy:
        raise NotImplementedError


class Scripted(Row):
    """A row that yields what it was given, peer by peer, and raises what is an exception."""

    name = "scripted"
    figures = (Figure("scripted", "Scripted", "µs", "cpu_us"),)

    def __init__(self, outcomes: dict[str, list[float | BaseException]]) -> None:
        self.outcomes = outcomes
        self.calls: list[str] = []

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        self.calls.append(peer.name)
        outcome = self.outcomes[peer.name].pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return {"cpu_us": outcome}

    def prepare(self, bench: Bench, peers: Sequence[Peer]) -> None:
        self.calls.append("prepare")

    def finish(self) -> None:
        self.calls.append("finish")


def run_of(row: Row, *names: str, rounds: int = 2) -> tuple[Run, str]:
    output = io.StringIO()
    run = find([Named(name) for name in names])
    Runner(run, [row], Bench(Cores(0, 0), 1.0, 1.0), rounds, Console(file=output, width=200)).all()
    return run, output.getvalue()


def test_peers_that_are_not_there_are_named_with_the_reason() -> None:
    run = find([Named("one"), Named("two", version=None)])
    assert run.versions == {"one": "1"}
    assert run.missing == {"two": "install it"}


def test_rounds_alternate_between_one_preparation_and_one_end() -> None:
    row = Scripted({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    run, told = run_of(row, "a", "b")
    assert row.calls == ["prepare", "a", "b", "a", "b", "finish"]
    assert [line.medians("b") for line in run.lines] == [{"cpu_us": 3.5}]
    assert "scripted, round 2 of 2, b: 4.00 µs" in told


def test_a_failure_is_kept_and_the_others_go_on() -> None:
    run, _ = run_of(Scripted({"a": [Failed("it ended"), 2.0], "b": [3.0, OSError("no memory")]}), "a", "b")
    (line,) = run.lines
    assert (line.value("a"), line.value("b")) == (2.0, 3.0)
    assert line.failures == {"a": "it ended", "b": "no memory"}
    assert not run.interrupted


def test_an_interruption_keeps_what_was_found_and_tidies_up() -> None:
    row = Scripted({"a": [1.0, 9.0], "b": [KeyboardInterrupt(), 9.0]})
    run, _ = run_of(row, "a", "b")
    assert run.interrupted
    assert row.calls == ["prepare", "a", "b", "finish"]
    assert run.lines[0].value("a") == 1.0


def test_what_an_earlier_run_has_is_kept_and_the_rest_is_measured() -> None:
    first, _ = run_of(Scripted({"a": [1, 2], "b": [3, KeyboardInterrupt()]}), "a", "b")
    assert first.interrupted
    row = Scripted({"a": [], "b": [5]})
    run = find([Named("a"), Named("b")])
    kept = json.loads(json.dumps(as_json(first.lines, ["a", "b"])))
    Runner(run, [row], Bench(Cores(0, 0), 1, 1), 2, Console(file=io.StringIO()), kept).all()
    assert row.calls == ["prepare", "b", "finish"]
    assert run.lines[0].rounds == {"a": [{"cpu_us": 1}, {"cpu_us": 2}], "b": [{"cpu_us": 3}, {"cpu_us": 5}]}
