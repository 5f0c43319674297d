"""Finding the node, and what is said when it is not found."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import COMMAND, Shell
from support.running_api import DEADLINE


async def test_a_node_is_reached_over_tcp_with_a_token(remote: Shell) -> None:
    assert (await remote("create-service", "a")).code == 0
    assert (await remote("services", "--json")).json[0]["name"] == "a"


async def test_a_configuration_that_is_named_wins_over_the_url(harbor: Shell) -> None:
    shell = Shell(harbor.api, HARBOR_URL="http://127.0.0.1:1")
    assert (await shell("node", "--config", harbor.environment["HARBOR_CONFIG"])).code == 0


async def test_a_wrong_token_is_told(remote: Shell) -> None:
    remote.environment["HARBOR_TOKEN"] = "wrong"
    ran = await remote("services")
    assert ran.code == 1
    assert "HARBOR_TOKEN is set" in ran.err
    assert "wrong" not in ran.err
    del remote.environment["HARBOR_TOKEN"]
    assert "HARBOR_TOKEN is not set" in (await remote("services")).err


async def test_without_a_node_the_socket_that_was_tried_is_named(alone: Shell, tmp_path: Path) -> None:
    ran = await alone("services")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"harbor: no node at {tmp_path}/harbor.sock")
    assert "harbor serve" in ran.err
    assert "HARBOR_URL" in ran.err
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "harbor.sock"))
    assert "Connection refused" in (await alone("services")).err


async def test_without_a_node_the_url_that_was_tried_is_named(alone: Shell) -> None:
    alone.environment["HARBOR_URL"] = "http://127.0.0.1:1"
    ran = await alone("create-service", "a")
    assert ran.code == 1
    assert "http://127.0.0.1:1 (Connection refused)" in ran.err


@pytest.mark.parametrize("url", ["127.0.0.1:7070", "ftp://x", "http://", "http://user:secret@x/", "nonsense"])
async def test_a_url_that_is_none_is_told(alone: Shell, url: str) -> None:
    alone.environment["HARBOR_URL"] = url
    ran = await alone("services")
    assert ran.code == 1
    assert ran.err.startswith("harbor: HARBOR_URL")


async def test_a_configuration_that_is_wrong_is_told_with_its_line(alone: Shell, tmp_path: Path) -> None:
    (tmp_path / "harbor.yml").write_text("state_dir: /tmp\nports: {rangs: []}\n")
    ran = await alone("services")
    assert ran.code == 1
    assert "harbor.yml:2:" in ran.err
    assert "ranges" in ran.err


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 500 X\r\nContent-Type: application/problem+json\r\nContent-Length: 4\r\n\r\noops",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"",
    ],
)
async def test_something_that_is_no_node_is_told(alone: Shell, answer: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    try:
        alone.environment["HARBOR_URL"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ran = await alone("services")
    finally:
        server.close()
    assert (ran.code, ran.out) == (1, "")
    assert alone.environment["HARBOR_URL"] in ran.err
    assert ran.err.count("\n") == 1


async def test_whoever_reads_no_further_is_left_in_peace(harbor: Shell) -> None:
    assert harbor.api is not None
    for number in range(20):
        await harbor.api.unix("POST", "/v1/services", {"name": f"s{number}"})
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "services", "--json", env=harbor.environment, stdout=writing, stderr=asyncio.subprocess.PIPE
    )
    os.close(writing)
    async with asyncio.timeout(DEADLINE):
        _, err = await process.communicate()
    assert (process.returncode, err) == (141, b"")


def test_the_shell_does_not_wait_for_imports_that_it_does_not_need() -> None:
    program = "import sys, harbor.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slow = {"aiohttp", "asyncio", "fastapi", "pydantic", "rich", "uvicorn", "uvloop", "structlog", "yaml", "sqlite3"}
    assert slow & set(loaded.stdout.split()) == set()
