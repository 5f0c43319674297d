from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.running_api import DEADLINE, Api, running_api

COMMAND = [sys.executable, "-c", "from harbor.cli import main; main()"]


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


class Shell:
    """Runs ``harbor`` commands as a user would, against one node."""

    def __init__(self, api: Api | None, **environment: str) -> None:
        self.api = api
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HARBOR_")}
        self.environment = kept | environment

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *COMMAND, *args,
            env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def __call__(self, *args: str) -> Ran:
        process = await self.start(*args)
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
        assert b"Traceback" not in err, err.decode()
        return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


@pytest.fixture
def harbor(api: Api) -> Shell:
    """Commands that reach the node through its Unix socket, which the configuration tells them."""
    file = api.config.state_dir / "harbor.yml"
    file.write_text(f"state_dir: {api.config.state_dir}\n")
    return Shell(api, HARBOR_CONFIG=str(file))


@pytest.fixture
def remote(api: Api) -> Shell:
    """Commands that reach the node over TCP."""
    return Shell(api, HARBOR_URL=str(api.server.url), HARBOR_TOKEN=api.token)


@pytest.fixture
def alone(tmp_path: Path) -> Shell:
    """Commands without a node."""
    file = tmp_path / "harbor.yml"
    file.write_text(f"state_dir: {tmp_path}\n")
    return Shell(None, HARBOR_CONFIG=str(file))
