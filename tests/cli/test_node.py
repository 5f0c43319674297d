from __future__ import annotations

import asyncio
import json
import os
import signal

from cli.conftest import Shell
from support.running_api import DEADLINE, FIRST_PORT


async def test_node_and_ports_are_shown(harbor: Shell) -> None:
    await harbor("create-service", "a", "--port", str(FIRST_PORT + 9))
    await harbor("create-service", "b", "--port", str(FIRST_PORT + 8))
    await harbor("delete-service", "b")
    assert (await harbor("node", "--json")).json["id"] == "harbor_node_1"
    assert "harbor_node_1" in (await harbor("node")).out
    shown = (await harbor("ports")).out.splitlines()
    assert f"free      97 of {99}" in shown
    assert [str(FIRST_PORT + 9), "leased", "a"] in [line.split() for line in shown]
    assert [str(FIRST_PORT + 8), "resting"] in [line.split()[:2] for line in shown]
    assert (await harbor("ports", "--json")).json["used"] == [{"port": FIRST_PORT + 9, "service": "a"}]


async def test_events_say_who_did_what(harbor: Shell, remote: Shell) -> None:
    await harbor("create-service", "a")
    await remote("create-service", "b")
    recorded = (await harbor("events", "--json")).json
    assert [(event["service"], event["actor"]) for event in recorded] == [
        ("a", f"unix:uid={os.getuid()}"),
        ("b", "token:admin"),
    ]
    lines = (await harbor("events")).out.splitlines()
    assert len(lines) == 2
    assert "service.created" in lines[0]
    assert lines[1].endswith("(token:admin)")
    assert len((await harbor("events", "-n", "1")).out.splitlines()) == 1


async def test_events_are_followed_until_ctrl_c(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "before")
    process = await harbor.start("events", "-f", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        assert json.loads(await process.stdout.readline())["service"] == "before"
        await harbor.api.unix("POST", "/v1/services", {"name": "after"})
        assert json.loads(await process.stdout.readline())["service"] == "after"
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


async def test_a_feed_that_the_node_ends_is_told(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "a")
    process = await harbor.start("events", "-f")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        await process.stdout.readline()
        while not harbor.api.server._readers.count:
            await asyncio.sleep(0.005)
        await harbor.api.server.stop(1)
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"ended the feed" in err
