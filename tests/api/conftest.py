from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.running_api import Api, StagedApi, running_api, staged_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


@pytest.fixture
async def staged(tmp_path: Path) -> AsyncIterator[StagedApi]:
    async with staged_api(tmp_path) as running:
        yield running
