"""The examples that ship work as they are, and the pages show them as they are."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.needs import needs
from support.running_api import DEADLINE, Api, running_api, until

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "systemd" / "examples"


async def a_binding(api: Api, directory: Path) -> dict[str, str]:
    """What the script finds in its environment."""
    await api.unix("POST", "/v1/services", {"name": "my-port"})
    token = (await api.unix("POST", "/v1/services/my-port/bindings", {"app": "web"})).body["token"]
    header = directory / "web.header"
    header.touch(0o600)
    header.write_text(f"Authorization: Bearer {token}\n")
    environment = (await api.unix("GET", "/v1/apps/web/env")).body
    place = {"HARBOR_URL": str(api.server.url), "HEADER": str(header)}
    who = {"SERVICE": "my-port", "INSTANCE": "web-1", "HOST": "127.0.0.1", "EVERY": "0.05"}
    return {"PATH": os.environ["PATH"]} | environment | place | who


async def register(**environment: str) -> asyncio.subprocess.Process:
    program = EXAMPLES / "harbor-register"
    return await asyncio.create_subprocess_exec(program, env=environment, stderr=asyncio.subprocess.PIPE)


def backends(api: Api) -> dict[str, Any]:
    return {backend.id: backend for backend in api.node.service("my-port").backends}


async def test_the_script_registers_renews_and_leaves(tmp_path: Path) -> None:
    needs("curl")
    async with running_api(tmp_path) as api:
        process = await register(**await a_binding(api, tmp_path))
        await until(lambda: "web-1" in backends(api))
        assert (backends(api)["web-1"].port, backends(api)["web-1"].ttl) == (4100, 30)
        left: list[float] = []

        def has_grown() -> bool:
            left.append(backends(api)["web-1"].expires_in)
            return left[-1] > min(left)

        await until(has_grown)  # the lease was renewed
        process.terminate()
        async with asyncio.timeout(DEADLINE):
            _, said = await process.communicate()
        assert (process.returncode, said) == (0, b"")
        await until(lambda: backends(api) == {})


async def test_the_script_says_why_it_is_refused_and_leaves_when_the_node_is_gone(tmp_path: Path) -> None:
    needs("curl")
    async with running_api(tmp_path) as api:
        process = await register(**await a_binding(api, tmp_path))
        await until(lambda: "web-1" in backends(api))
        await api.unix("DELETE", "/v1/services/my-port/bindings/web")
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            said = await process.stderr.readuntil(b"token_revoked")
        assert b"hb_" not in said
    async with asyncio.timeout(DEADLINE):
        await process.stderr.readuntil(b"Failed to connect")
    process.terminate()
    async with asyncio.timeout(DEADLINE):
        await process.communicate()
    assert process.returncode == 0


def test_systemd_understands_the_example_units(tmp_path: Path) -> None:
    analyze = needs("systemd-analyze")
    for unit in EXAMPLES.glob("*.service"):
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace("/usr/local/bin/harbor-register", "/bin/true"))
    report = subprocess.run(
        [analyze, "verify", "--man=no", *tmp_path.glob("*.service")], capture_output=True, text=True, check=False
    )
    assert (report.returncode, report.stderr) == (0, "")


@pytest.mark.parametrize("path", sorted(path.name for path in EXAMPLES.iterdir()))
def test_the_page_shows_the_example_as_it_is(path: str) -> None:
    assert (EXAMPLES / path).read_text() in (ROOT / "docs" / "apps.md").read_text()
