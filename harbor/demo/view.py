"""What the demo shows: a screen of the node as it is now, or plain lines where there is no terminal.

Everything that a client may have chosen is escaped, and nothing is taken for markup.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from harbor.demo.guide import Try
from harbor.model import BackendView, Event, ServiceView, SessionView, State, Status

STYLES: Final = {
    State.STARTING: "yellow",
    State.UP: "green",
    State.DOWN: "red",
    State.DRAINING: "yellow",
    State.GONE: "dim",
}
ROOMY: Final = 30  # rows of a terminal from which on blank lines part the sections
WIDE: Final = 110  # columns from which on there is room for addresses and for in and out of sessions
LONGEST_KIND: Final = 18  # characters of the longest kind of event, "backend.registered"
COMMAND_WIDTH: Final = 57  # characters; with a comment of 17 a line to try fills 80


@dataclass(frozen=True, slots=True)
class Moment:
    """The node at one time: services oldest first, sessions and events newest first."""

    services: Sequence[ServiceView]
    sessions: Sequence[tuple[SessionView, str]]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Screen:
    """All of it, fitted to the terminal: what to try stays, lists are cut."""

    title: str
    tries: Sequence[Try]
    moment: Moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = console.size
        gap = [Text()] if height >= ROOMY else []
        title = Text(self.title, style="bold", no_wrap=True, overflow="ellipsis")
        guide = [title, *gap, *map(_try, self.tries), *gap]
        left = height - len(guide) - 3 - 2 * len(gap)  # less three headings
        rows = max(1, left - 2)  # sessions and events want to be seen, too
        services, used = _services(self.moment.services, rows, wide=width >= WIDE)
        shown_sessions = max(1, min(len(self.moment.sessions), (left - used) // 2))
        shown_events = max(1, left - used - shown_sessions)
        sessions = _sessions(self.moment.sessions, shown_sessions, wide=width >= WIDE)
        yield Group(*guide, services, *gap, sessions, *gap, _events(self.moment.events, shown_events))


def plain_event(event: Event) -> str:
    """An event as one line."""
    return f"{_clock(event.time)}  {event.kind:<{LONGEST_KIND}}  {escaped(event.message)}"


def plain_try(line: Try) -> str:
    """A line to paste, with what it shows as a comment."""
    return f"  {line.command:<{COMMAND_WIDTH}}  # {line.shows}"


def escaped(text: str) -> str:
    """The text on one line and without control characters, so that it cannot drive a terminal."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def amount(count: int) -> str:
    """A number of bytes in at most five characters."""
    size = float(count)
    for unit in ("", "k", "M", "G", "T"):
        if size < 999.5:
            return f"{size:.0f}{unit}" if not unit or size >= 99.5 else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.0f}P"


def _try(line: Try) -> Text:
    command, comment = plain_try(line).split("  # ")
    return Text.assemble((command, "cyan"), (f"  # {comment}", "dim"), no_wrap=True, overflow="ellipsis")


def _services(services: Sequence[ServiceView], rows: int, *, wide: bool) -> tuple[Table, int]:
    """The table, and how many rows below its heading it has."""
    columns = ["~service", "port", ">sessions", ">in", ">out", "~backend", *(["~at"] if wide else [])]
    table = _table(*columns, "state", ">live")
    lines = [line for view in services for line in _service(view, wide=wide)]
    for line in lines[:rows]:
        table.add_row(*line)
    return table, min(rows, len(lines))


def _service(view: ServiceView, *, wide: bool) -> list[list[Text]]:
    counters = view.counters
    first = [
        _yielding(view.service.name, "bold"),
        Text(f"{view.service.protocol.value} {view.service.port}"),
        # A port that is not open has no sessions to tell of.
        Text(f"{counters.active} of {counters.opened}") if view.status is Status.READY else Text("degraded", "red"),
        Text(amount(counters.bytes_in)),
        Text(amount(counters.bytes_out)),
    ]
    backends = [_backend(backend, wide=wide) for backend in view.backends] or [[Text("none", "dim")]]
    blank = [Text()] * len(first)
    return [(blank if at else first) + backend for at, backend in enumerate(backends)]


def _backend(backend: BackendView, *, wide: bool) -> list[Text]:
    at = [_yielding(f"{backend.host}:{backend.port}")] if wide else []
    return [
        _yielding(backend.id),
        *at,
        Text(backend.state.value, STYLES[backend.state]),
        Text(str(backend.active)),
    ]


def _sessions(sessions: Sequence[tuple[SessionView, str]], rows: int, *, wide: bool) -> Table:
    count = f"{len(sessions)} live session{'' if len(sessions) == 1 else 's'}"
    table = _table(f"~{count}", "~client", "~backend", ">age", ">in", ">out", *(["state"] if wide else []))
    for session, service in sessions[:rows]:
        table.add_row(
            _yielding(service),
            _yielding(str(session.client)),
            _yielding(session.backend_id or "-"),
            Text(f"{session.age:.0f}s"),
            Text(amount(session.bytes_in)),
            Text(amount(session.bytes_out)),
            *([Text(f"{session.protocol.value} {session.state}")] if wide else []),
        )
    return table


def _events(events: Sequence[Event], rows: int) -> Table:
    table = _table("event", "", "~")
    for event in events[:rows]:
        table.add_row(Text(_clock(event.time), "dim"), Text(event.kind), _yielding(event.message))
    if not events:
        table.add_row(Text("none yet", "dim"))
    return table


def _table(*columns: str) -> Table:
    """A table with these headings; ``>`` sets a column to the right, ``~`` makes it give way where it is narrow."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim underline")
    for column in columns:
        # A column that may wrap is made narrower first. Its texts (see _yielding) do not wrap, they are cut.
        table.add_column(
            Text(column.lstrip(">~"), no_wrap=True),
            justify="right" if column.startswith(">") else "left",
            no_wrap=not column.startswith("~"),
            overflow="ellipsis",
        )
    return table


def _yielding(text: str, style: str = "") -> Text:
    return Text(escaped(text), style, no_wrap=True, overflow="ellipsis")


def _clock(unix_time: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix_time))
