"""Planes for tests: ``plane`` is the usual one, ``planes`` makes special ones. Both are inspected at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from support.plane import Planes, RunningPlane


@pytest.fixture
def planes() -> Iterator[Planes]:
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> RunningPlane:
            return stack.enter_context(contextlib.closing(RunningPlane(**options)))

        yield make


@pytest.fixture
def plane(planes: Planes) -> RunningPlane:
    return planes()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def host(request: pytest.FixtureRequest) -> str:
    """Each family must behave the same."""
    return str(request.param)
