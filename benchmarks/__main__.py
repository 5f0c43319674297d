"""``python -m benchmarks``: every row, side by side, alternating; a table, JSON, a plot and Markdown."""

from __future__ import annotations

import datetime
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import click
from rich.console import Console

from benchmarks import load, machine
from benchmarks.peers import PEERS, Peer
from benchmarks.plot import plot
from benchmarks.process import ROOT, Failed
from benchmarks.report import markdown, print_table
from benchmarks.results import as_json
from benchmarks.rows import QUICK, ROWS, Bench, Row
from benchmarks.runner import Run, Runner, find

RESULTS: Final = ROOT / "results"
PLAIN_WIDTH: Final = 240  # columns of a table that goes to a file
LONG: Final = 60.0  # seconds: as long as a closed connection keeps its port

SAME: Final = ("commit", "machine", "versions", "rounds", "seconds", "long_seconds")  # or rows do not belong together

Named = TypeVar("Named", Peer, Row)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rows", default="", metavar="A,B", help="Only these rows; * stands for anything.")
@click.option("--peers", default="", metavar="A,B", help="Only these peers; * stands for anything.")
@click.option("--rounds", type=click.IntRange(1, 99), help="Rounds of each row.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(0.2, 600), help="How long the load runs each time.  [default: 3]")
@click.option("--long-seconds", type=click.FloatRange(0.2, 600), help="The same between three hosts.  [default: 60]")
@click.option("--quick", is_flag=True, help="A few rows, one round of half a second: under two minutes.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where JSON, plot and Markdown go.")
@click.option(
    "--resume",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="JSON",
    help="Keep what an earlier run has, and measure what it lacks.",
)
@click.option("--list", "only_list", is_flag=True, help="Say which rows and peers there are.")
def main(
    rows: str,
    peers: str,
    rounds: int | None,
    seconds: float | None,
    long_seconds: float | None,
    quick: bool,
    results: Path,
    resume: Path | None,
    only_list: bool,
) -> None:
    """Measure Harbor beside its peers."""
    chosen_rows = _chosen(ROWS, rows or ",".join(QUICK if quick else "*"), "row")
    run = find(_chosen(PEERS, peers or "*", "peer"))
    if only_list:
        _list(chosen_rows, run)
        return
    rounds = rounds or (1 if quick else 3)
    seconds = seconds or (0.5 if quick else 3.0)
    bench = Bench(machine.Cores.choose(), seconds, long_seconds or (seconds if quick else LONG))
    kept: dict[str, Any] = {}
    if resume is not None:
        kept = _kept(resume, _facts(run, rounds, bench))
        wanted = {row.name for row in chosen_rows}
        chosen_rows = [row for row in ROWS if row.name in wanted or row.figures[0].name in kept]
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        load.build()
    except Failed as error:
        raise click.ClickException(str(error)) from error
    os.sched_setaffinity(0, {bench.cores.load})  # we are load too
    runner = Runner(run, chosen_rows, bench, rounds, console, kept)
    try:
        runner.all()
    finally:
        print_table(console, run.lines, run.peers, run.missing)
        facts = _facts(run, rounds, bench)
        for path in _write(results, run, facts):
            console.print(f"written: {path}", highlight=False, soft_wrap=True)
    if run.interrupted:
        raise SystemExit(130)


def _chosen(everything: Sequence[Named], patterns: str, kind: str) -> list[Named]:
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    for pattern in wanted:
        if not any(fnmatch.fnmatch(one.name, pattern) for one in everything):
            names = ", ".join(one.name for one in everything)
            raise click.UsageError(f"there is no {kind} {pattern}; there are {names}")
    return [one for one in everything if any(fnmatch.fnmatch(one.name, pattern) for pattern in wanted)]


def _list(rows: Sequence[Row], run: Run) -> None:
    for row in rows:
        for figure in row.figures:
            click.echo(f"{row.name:24}{figure.title} [{figure.unit}]")
    for peer in PEERS:
        if peer.name in run.versions:
            click.echo(f"{peer.name:24}{peer.title} {run.versions[peer.name]}{' (baseline)' * peer.is_baseline}")
        elif peer.name in run.missing:
            click.echo(f"{peer.name:24}missing: {run.missing[peer.name]}")


def _kept(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The rows of an earlier run, if this one would have measured them the same way."""
    try:
        earlier = json.loads(file.read_text())
        rows: dict[str, Any] = earlier["rows"]
        differing = [name for name in SAME if earlier[name] != facts[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{file} is not the JSON of a run: {error!r}") from error
    if differing:
        raise click.ClickException(
            f"{file} is of another {', '.join(differing)}; begin anew, or give the options of that run"
        )
    return rows


def _facts(run: Run, rounds: int, bench: Bench) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "machine": machine.describe(),
        "rounds": rounds,
        "seconds": bench.seconds,
        "long_seconds": bench.long_seconds,
        "versions": run.versions,
        "missing": run.missing,
        "interrupted": run.interrupted,
    }


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    told = [
        subprocess.run([git, *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "../harbor"])
    ]
    return (told[0] or "unknown") + ("-changed" if told[1] else "")


def _write(directory: Path, run: Run, facts: dict[str, Any]) -> list[Path]:
    rivals = [peer.name for peer in run.peers if not peer.is_baseline]
    titles = {peer.name: peer.title for peer in run.peers if not peer.is_baseline}
    directory.mkdir(parents=True, exist_ok=True)
    name = f"{facts['date']}-{facts['commit']}"
    texts = {
        f"{name}.json": json.dumps({**facts, "rows": as_json(run.lines, rivals)}, indent=1) + "\n",
        f"{name}.svg": plot(run.lines, titles),
        f"{name}.md": markdown(run.lines, run.peers, run.missing, facts),
    }
    for file, text in texts.items():
        (directory / file).write_text(text)
    return [directory / file for file in texts]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
