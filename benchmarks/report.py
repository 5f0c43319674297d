"""The outcome for people: a table on the terminal, the same in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.peers import Peer
from benchmarks.results import HARBOR, Line, cell, notes, verdict


def print_table(console: Console, lines: Sequence[Line], peers: Sequence[Peer], missing: Mapping[str, str]) -> None:
    """The table, and below it what a reader must know beside the numbers."""
    rivals = [peer.name for peer in peers if not peer.is_baseline]
    table = Table(title="Lower is better; medians", title_justify="left")
    table.add_column("row")
    for peer in peers:
        table.add_column(peer.title, justify="right")
    table.add_column("Harbor / best peer", justify="right")
    for line in lines:
        title = f"{line.figure.title} [dim]{line.figure.unit}[/]"
        table.add_row(title, *(cell(line, peer.name) for peer in peers), _coloured(line, rivals))
    console.print(table)
    for note in notes(lines, missing):
        console.print(note, highlight=False, soft_wrap=True, markup=False)


def markdown(lines: Sequence[Line], peers: Sequence[Peer], missing: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    """The same, ready to paste, with when, where and against what it was measured."""
    rivals = [peer.name for peer in peers if not peer.is_baseline]
    versions, machine = facts["versions"], facts["machine"]
    heads = [f"{peer.title} {versions[peer.name].removeprefix('Python ')}" for peer in peers]
    rows = [
        ["row", "unit", *heads, "Harbor / best peer"],
        ["---", "---", *["---:"] * len(peers), "---:"],
        *(
            [line.figure.title, line.figure.unit, *(cell(line, peer.name) for peer in peers), verdict(line, rivals)]
            for line in lines
        ),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    measured = (
        f"Measured on {facts['date']} at commit {facts['commit']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['kernel']}, Python {machine['python']}; medians, "
        f"{facts['rounds']} rounds of {facts['seconds']:g} s each. Lower is better."
    )
    remarks = "\n".join(f"- {note}" for note in notes(lines, missing))
    return "\n\n".join(filter(None, [table, measured, remarks])) + "\n"


def _coloured(line: Line, rivals: Sequence[str]) -> str:
    ratio, target = line.ratio(HARBOR, rivals), line.figure.target
    text = verdict(line, rivals)
    if ratio is None or target is None:
        return text
    return f"[{'green' if ratio <= target else 'red'}]{text}[/]"
