"""``harbor run`` against a node that is a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.conftest import daemons, directory, ports, serve
from support.daemon import Daemon, Serve
from support.runs import Run

__all__ = ["daemons", "directory", "ports", "serve"]

Start = Callable[..., Run]


@pytest.fixture
def daemon(serve: Serve) -> Daemon:
    return serve()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an app that is called site."""
    found = tmp_path / "site"
    found.mkdir()
    return found


@pytest.fixture
def run(daemon: Daemon, folder: Path) -> Iterator[Start]:
    """Starts ``harbor run`` with these words in the app's folder; ``env`` is added to its environment."""
    with contextlib.ExitStack() as stack:

        def start(*words: str, env: dict[str, str] | None = None, **more: Any) -> Run:
            kept = {name: value for name, value in os.environ.items() if not name.startswith("HARBOR_")}
            environment = kept | {"HARBOR_CONFIG": str(daemon.config)} | (env or {})
            return stack.enter_context(contextlib.closing(Run(folder, list(words), environment, **more)))

        yield start
