from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.app_node import AppNode, app_node
from support.https_site import Site, site_of
from support.port_block import port_block
from support.programs import Programs, programs


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppNode]:
    """One node for all applications: that is what it is for."""
    with app_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that goes with the test: files here are large, and pytest keeps its own for later."""
    with tempfile.TemporaryDirectory(prefix="harbor-test-") as directory:
        yield Path(directory)


@pytest.fixture
def servers(scratch: Path) -> Iterator[Programs]:
    with programs(scratch) as started:
        yield started


@pytest.fixture
def ports() -> Iterator[range]:
    """Ports for the servers of a test."""
    with port_block(5) as block:
        yield block


@pytest.fixture(scope="session")
def site(node: AppNode) -> Iterator[Site]:
    """An HTTPS site on the node, for programs that only look at it."""
    with (
        tempfile.TemporaryDirectory(prefix="harbor-test-") as directory,
        port_block(1) as (app,),
        programs(Path(directory)) as started,
    ):
        yield site_of(node, started, Path(directory), app)
