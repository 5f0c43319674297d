from __future__ import annotations

import asyncio
import json
import signal
import stat
from pathlib import Path

import pytest

import harbor as package
from cli.conftest import Shell
from support.running_api import DEADLINE, FIRST_PORT, LAST_PORT


async def test_the_version_is_told(alone: Shell) -> None:
    assert (await alone("version")).out.startswith(f"harbor {package.__version__} ")
    assert (await alone("version", "--json")).json["version"] == package.__version__


async def test_a_good_configuration_is_ok(alone: Shell, tmp_path: Path) -> None:
    file = tmp_path / "good.yml"
    file.write_text('ports: {ranges: ["20000-20099"]}\n')
    ran = await alone("check-config", str(file))
    assert (ran.code, ran.out, ran.err) == (0, "OK\n", "")
    assert (await alone("check-config", "--config", str(file), "--json")).json == {
        "ok": True, "problems": [], "warnings": [],
    }  # fmt: skip


async def test_a_configuration_that_may_hurt_is_ok_with_a_warning(alone: Shell, tmp_path: Path) -> None:
    file = tmp_path / "risky.yml"
    file.write_text('ports: {ranges: ["20000-20099"], reserved: [5]}\n')
    ran = await alone("check-config", str(file))
    assert (ran.code, ran.out) == (0, "OK\n")
    assert ran.err.startswith("warning: ports.reserved: 5")


async def test_every_fault_is_told_with_line_and_column(alone: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text('ports:\n  rangs: ["1-2"]\napi: {listen: "0.0.0.0:80"}\n')
    ran = await alone("check-config", str(file))
    assert (ran.code, ran.out) == (1, "")
    first, second = ran.err.splitlines()
    assert first.startswith(f"{file}:2:3: ")
    assert "did you mean" in first
    assert second.startswith(f"{file}:3:")
    in_json = await alone("check-config", str(file), "--json")
    assert in_json.code == 1
    assert json.loads(in_json.out)["problems"] == [first, second]


@pytest.mark.parametrize("command", ["check-config", "serve", "services"])
async def test_a_configuration_that_is_not_there_is_told(alone: Shell, command: str) -> None:
    ran = await alone(command, "--config", "/nowhere/harbor.yml")
    assert (ran.code, ran.out) == (1, "")
    assert "/nowhere/harbor.yml: there is no such file" in ran.err


async def test_K10_a_configuration_cannot_steer_the_terminal(alone: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text('"\\e]0;owned\\a": 1\n')
    ran = await alone("check-config", str(file))
    assert ran.code == 1
    assert "owned" in ran.err
    assert not {"\x1b", "\x07"} & set(ran.err)


async def test_serve_runs_a_node_until_sigterm(tmp_path: Path) -> None:
    file = tmp_path / "harbor.yml"
    file.write_text(
        f'state_dir: {tmp_path}/state\napi: {{listen: "127.0.0.1:0"}}\n'
        f'ports: {{ranges: ["{FIRST_PORT}-{LAST_PORT}"]}}\n'
    )
    shell = Shell(None, HARBOR_CONFIG=str(file))
    process = await shell.start("serve")
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE):
            while (ran := await shell("create-service", "a", "--json")).code:
                assert process.returncode is None
            assert ran.json["port"] in range(FIRST_PORT, LAST_PORT + 1)
            assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
            process.send_signal(signal.SIGTERM)
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0
    assert not (tmp_path / "state" / "harbor.sock").exists()
