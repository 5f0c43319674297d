from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.running_api import RunningApi, running_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(tmp_path) as running:
        yield running
