from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.osb_platform import BROKER, Platform
from support.running_api import running_api


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with running_api(tmp_path, BROKER) as running:
        yield Platform(running)
