"""Every case runs once for each proxy: a real program on a free port in front of the backends of the case."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from conformance import haproxy, nginx, node
from conformance.differences import PROXIES, differences_of
from conformance.proxy import Proxy
from conformance.wish import Lacks
from support.app_node import AppNode, app_node
from support.port_block import port_block
from support.programs import programs

FAILURES: Final = (AssertionError, OSError, Lacks)  # nothing else is a difference; a missing program is none


@pytest.fixture(scope="session")
def running_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppNode]:
    with app_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """Where the proxy is known to fail the case it must, and by what the case looks at."""
    reason = differences_of(request.function).get(request.param)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=f"{request.param} {reason}", raises=FAILURES, strict=True))
    with contextlib.ExitStack() as stack:
        if request.param == "harbor":
            open_port = partial(node.open_port, node=request.getfixturevalue("running_node"))
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harbor-test-")))
            (port,) = stack.enter_context(port_block(1))
            started = stack.enter_context(programs(directory))
            start = {"nginx": nginx, "haproxy": haproxy}[request.param].open_port
            open_port = partial(start, port=port, programs=started, directory=directory)
        yield stack.enter_context(contextlib.closing(Proxy(request.param, reason is None, open_port)))
