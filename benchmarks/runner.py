"""Takes the measurements, one after the other, and says what runs and how long is left."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from benchmarks.peers import Missing, Peer
from benchmarks.process import Failed
from benchmarks.results import Line, number
from benchmarks.rows import Bench, Row
from benchmarks.schedule import Remaining, Step, clock, steps

EVERYBODY = "all"  # stands for the peers where a row fails for a reason that is not theirs


@dataclass(slots=True)
class Run:
    """What a run has found so far; complete only if nobody interrupted it."""

    peers: list[Peer]
    versions: dict[str, str]
    missing: dict[str, str]
    lines: list[Line] = field(default_factory=list)
    interrupted: bool = False


def find(peers: Sequence[Peer]) -> Run:
    """See who is there."""
    run = Run([], {}, {})
    for peer in peers:
        try:
            run.versions[peer.name] = peer.version()
            run.peers.append(peer)
        except Missing as error:
            run.missing[peer.name] = str(error)
    return run


class Runner:
    """Runs rows on a bench and keeps what they find in ``run``."""

    def __init__(
        self,
        run: Run,
        rows: Sequence[Row],
        bench: Bench,
        rounds: int,
        console: Console,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        """``kept``: the rows of an earlier run, as JSON; what they have is not measured again."""
        self.run = run
        self.bench = bench
        self.console = console
        self._rows = {row.name: row for row in rows}
        self._peers = {peer.name: peer for peer in run.peers}
        self._lines = {row.name: [Line(figure) for figure in row.figures] for row in rows}
        run.lines = [line for lines in self._lines.values() for line in lines]
        for line in run.lines:
            if kept is not None and line.figure.name in kept:
                line.keep(kept[line.figure.name])
        self._places = {row.name: self._taking_part(row) for row in rows}
        self._steps = [step for step in steps(self._places, rounds) if not self._has(step)]
        self._remaining = Remaining(self._steps, {row.name: row.duration(bench) for row in rows})
        self._rounds = rounds

    def all(self) -> None:
        """Every measurement. Ctrl-C ends it; what was found until then is kept."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            bar = progress.add_task("", total=len(self._steps), left="")
            prepared: Row | None = None
            try:
                for step in self._steps:
                    left = f"{clock(self._remaining.seconds())} left"
                    progress.update(bar, description=self._title(step), left=left)
                    row = self._rows[step.row]
                    if row is not prepared:
                        if prepared is not None:
                            prepared.finish()
                        prepared = row
                        row.prepare(self.bench, [self._peers[name] for name in self._places[row.name]])
                    self._take(step, left)
                    progress.advance(bar)
            except KeyboardInterrupt:
                self.run.interrupted = True
            finally:
                if prepared is not None:
                    prepared.finish()

    def _take(self, step: Step, left: str) -> None:
        begun = time.monotonic()
        lines = self._lines[step.row]
        try:
            values = self._rows[step.row].measure(self.bench, self._peers[step.peer])
        except (Failed, Missing, OSError, http.client.HTTPException) as error:
            outcome = f"failed: {error}"
            for line in lines:
                line.fail(step.peer, str(error))
        else:
            outcome = ", ".join(f"{number(values[line.figure.key])} {line.figure.unit}" for line in lines)
            for line in lines:
                line.add(step.peer, values)
        self._remaining.done(step, time.monotonic() - begun)
        if not self.console.is_terminal:
            self.console.print(f"{self._title(step)}: {outcome} ({left})", highlight=False, soft_wrap=True)

    def _has(self, step: Step) -> bool:
        return all(line.has(step.peer, step.round) for line in self._lines[step.row])

    def _title(self, step: Step) -> str:
        return f"{step.row}, round {step.round} of {self._rounds}, {step.peer}"

    def _taking_part(self, row: Row) -> list[str]:
        if row.needs_root and os.geteuid() != 0:
            for line in self._lines[row.name]:
                line.fail(EVERYBODY, "needs root, to make network namespaces")
            return []
        return [peer.name for peer in self.run.peers if row.why_not(peer) is None]
