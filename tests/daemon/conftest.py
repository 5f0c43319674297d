"""Daemons to tell stories to: real processes, each on a block of ports of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.backends import Backend, echo, greeting
from support.daemon import Daemon, Daemons, Serve, daemon_config
from support.port_block import port_block
from support.running_node import MakeBackend


@pytest.fixture(scope="session")
def daemons() -> Iterator[Daemons]:
    with contextlib.closing(Daemons()) as found:
        yield found


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: that of a Unix socket may have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="harbor-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def ports() -> Iterator[range]:
    with port_block(20) as block:
        yield block


@pytest.fixture
def serve(daemons: Daemons, directory: Path, ports: range) -> Iterator[Serve]:
    """Starts a daemon, on the same state each time, and waits until it answers.

    ``some`` are other ports, ``instead`` is a text in its configuration and what stands there instead.
    """
    with contextlib.ExitStack() as stack:

        def start(
            extra: str = "",
            *,
            some: range = ports,
            instead: tuple[str, str] = ("", ""),
            quarantine: float = 60.0,
            wait: bool = True,
            max_descriptors: int | None = None,
        ) -> Daemon:
            text = daemon_config(directory, some, extra, quarantine).replace(*instead)
            daemon = stack.enter_context(contextlib.closing(Daemon(daemons, directory, text, max_descriptors)))
            return daemon.await_ready() if wait else daemon

        yield start


@pytest.fixture
def backend() -> Iterator[MakeBackend]:
    """Makes TCP backends; one with a name greets with it."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "") -> Backend:
            return stack.enter_context(contextlib.closing(Backend(greeting(name.encode()) if name else echo)))

        yield make
