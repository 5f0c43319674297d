"""The demo as a process: starts it, shows it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.live import Live

from harbor.api.listening import FILE as SOCKET
from harbor.api.listening import LONGEST_PATH
from harbor.config import Log
from harbor.daemon.logs import start_logging
from harbor.daemon.machine import check_python
from harbor.dataplane.budget import raise_limit
from harbor.demo.stage import Stage, staged
from harbor.demo.view import Screen, plain_event, plain_try
from harbor.errors import HarborError

REFRESH: Final = 0.5  # seconds between two looks at the node
SCRATCH: Final = "harbor-demo-"
STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: its terminal was closed


def run(*, duration: float | None = None) -> int:
    """Run the demo until Ctrl-C, SIGTERM or for ``duration`` seconds; returns the exit code."""
    try:
        check_python()
        os.umask(0o077)
        raise_limit()
        scratch = uvloop.run(_demo(duration))
    except HarborError as error:
        print(f"harbor: {error}", file=sys.stderr)
        return 1
    with _someone_reads():
        print(f"Harbor demo ended. Its ports are closed, {scratch} is removed.", flush=True)
    return 0


async def _demo(duration: float | None) -> str:
    """The whole of it; returns the directory that was its scratch."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in STOPS:
        loop.add_signal_handler(number, stop.set)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH, dir=_scratch_parent()) as scratch,
        _log_to(Path(scratch, "node.log")),
    ):
        async with staged(Path(scratch)) as stage:
            if duration is not None:
                loop.call_later(duration, stop.set)
            with _someone_reads():
                await _show(stage, stop)
            for number in STOPS:
                loop.add_signal_handler(number, stage.running.node.hurry)
    return scratch


def _scratch_parent() -> str:
    """Where temporary files go, unless that is so deep that no Unix socket's path would fit."""
    usual = tempfile.gettempdir()
    socket = os.path.join(usual, SCRATCH + "12345678", "node-0", SOCKET)
    return usual if len(os.fsencode(socket)) <= LONGEST_PATH else "/tmp"  # noqa: S108  # nosec B108


async def _show(stage: Stage, stop: asyncio.Event) -> None:
    """Show the demo until it is to stop. Errors: ``OSError`` once nobody can see it any more."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an odd locale shows odd signs, no traceback
    console = Console()
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        await _as_screen(stage, stop, console)
    else:
        await _as_lines(stage, stop)


async def _as_screen(stage: Stage, stop: asyncio.Event, console: Console) -> None:
    with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while not stop.is_set():
            # Written by a thread: a terminal that is stuck must not stop the node.
            await asyncio.to_thread(live.update, Screen(stage.title, stage.tries, stage.moment()), refresh=True)
            await _pause(stop)


async def _as_lines(stage: Stage, stop: asyncio.Event) -> None:
    lines = [stage.title, *map(plain_try, stage.tries), "", "What happens:"]
    told = stage.since
    while lines or not stop.is_set():
        if lines:
            await asyncio.to_thread(print, *lines, sep="\n", flush=True)
        await _pause(stop)
        news = stage.news(told)
        told = news[-1].id if news else told
        lines = list(map(plain_event, news))


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), REFRESH)
    except TimeoutError:
        pass


@contextmanager
def _someone_reads() -> Iterator[None]:
    """End the block in peace when its output has no reader any more (a closed pipe or terminal)."""
    try:
        yield
    except OSError:
        # What is still buffered would fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """The node's log goes to a file: on the screen it would tear the view."""
    with path.open("w") as file:
        with redirect_stderr(file):
            listener = start_logging(Log(format="console"))
        try:
            yield
        finally:
            listener.stop()
