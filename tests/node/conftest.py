"""Nodes to tell stories to: each is started on demand, on a block of ports of its own, and stopped behind the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.backends import Backend, Serve, echo, greeting
from support.datagram_backend import DatagramBackend
from support.port_block import port_block
from support.running_node import MakeBackend, MakeDatagramBackend, RunningNode, Start, node_config


@pytest.fixture
def ports() -> Iterator[range]:
    with port_block(50) as block:
        yield block


@pytest.fixture
def start(tmp_path: Path, ports: range) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start_one(some: range = ports, extra: str = "", quarantine: float = 60.0, **more: Any) -> RunningNode:
            """A node on these ports; the state directory is the same each time. More goes to ``RunningNode``."""
            config = node_config(tmp_path / "state", some, extra, quarantine)
            return stack.enter_context(RunningNode(config, **more))

        yield start_one


@pytest.fixture
def node(start: Start) -> RunningNode:
    return start()


@pytest.fixture
def backend() -> Iterator[MakeBackend]:
    """Makes TCP backends; one with a name greets with it."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "", serve: Serve | None = None, host: str = "127.0.0.1", port: int = 0) -> Backend:
            does = serve or (greeting(name.encode()) if name else echo)
            return stack.enter_context(contextlib.closing(Backend(does, host, port)))

        yield make


@pytest.fixture
def datagram_backend() -> Iterator[MakeDatagramBackend]:
    """Makes UDP backends."""
    with contextlib.ExitStack() as stack:

        def make(name: str, port: int = 0) -> DatagramBackend:
            return stack.enter_context(contextlib.closing(DatagramBackend(name, port=port)))

        yield make
