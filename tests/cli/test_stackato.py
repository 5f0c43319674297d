"""The commands that people know from the ``stackato`` client print the tables that it printed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cli.conftest import Shell
from cli.test_services import cells
from harbor.cli.stackato import credentials, print_framed, print_service, print_services
from harbor.model import Policy
from harbor.policy.environment import Place
from harbor.policy.environment import credentials as true_credentials

SYSTEM = """
============== System Services ==============

+---------+---------+-------------------------------+
| Service | Version | Description                   |
+---------+---------+-------------------------------+
| harbor  | 1.0     | External port mapping service |
+---------+---------+-------------------------------+

=========== Provisioned Services ============

"""


async def test_services_stand_below_what_can_be_had(harbor: Shell) -> None:
    none = await harbor("services")
    assert none.out == SYSTEM + "none yet; harbor create-service harbor NAME makes one\n"
    await harbor("create-service", "harbor", "udp-x")
    assert harbor.api is not None
    port = str(harbor.api.node.service("udp-x").service.port)
    some = await harbor("services")
    assert some.out.startswith(SYSTEM)
    headings, row = cells(some.out.removeprefix(SYSTEM))
    assert headings == ["Name", "Service", "Protocol", "Port", "Exposure", "Status", "Up", "Sessions"]
    assert row == ["udp-x", "harbor", "udp", port, "private", "ready", "0/0", "0"]


async def test_who_asks_in_the_words_of_stackato_is_answered_in_them(harbor: Shell) -> None:
    made = await harbor("create-service", "harbor", "my-port")
    assert re.fullmatch(r"Creating Service: OK\ncreated my-port: tcp port \d+, private\n", made.out)
    again = await harbor("create-service", "harbor", "my-port")
    assert (again.code, again.out) == (1, "")
    assert "Creating Service" not in (await harbor("create-service", "other")).out


async def test_a_service_shows_its_credentials_first_and_its_kind_last(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "harbor", "my-port", "--public")
    service = harbor.api.node.service("my-port").service
    shown = await harbor("service", "my-port")
    lines = shown.out.splitlines()
    assert lines[:2] == ["", "my-port"]
    rows = cells(shown.out)
    assert rows[:8] == [
        ["What", "Value"],
        ["credentials", ""],
        ["- host", "127.0.0.1"],
        ["- hostname", "127.0.0.1"],
        ["- int_port", "4100"],
        ["- name", service.id],
        ["- node_id", "harbor_node_1"],
        ["- port", str(service.port)],
    ]
    assert rows[-5:] == [
        ["properties", ""],
        ["tier", "free"],
        ["type", "generic"],
        ["vendor", "harbor"],
        ["version", "1.0"],
    ]
    assert ["- tags", "harbor tcp"] in rows
    assert lines[2] == lines[4] == lines[-1]
    assert re.fullmatch(r"\+-+\+-+\+", lines[2])
    assert {len(line) for line in lines[2:]} == {len(lines[2])}


@pytest.mark.parametrize("name", ["udp-x", "x"])
async def test_the_credentials_are_those_that_an_app_gets(harbor: Shell, name: str) -> None:
    """The command puts them together from two answers; the node does it for apps."""
    assert harbor.api is not None
    for exposure in ("public", "private"):
        made = (
            await harbor.api.unix("POST", "/v1/services", {"name": f"{name}-{exposure}", "exposure": exposure})
        ).body
        service = harbor.api.node.service(made["id"]).service
        for place in (
            Place("n", "10.0.0.5"),
            Place("n", "10.0.0.5", "h.example", "203.0.113.5", "ports.example.com"),
            Place("n", "10.0.0.5", ext_hostname="ports.example.com"),
        ):
            node: dict[str, Any] = {"id": place.node_id, "host": place.host, "hostname": place.hostname or place.host}
            node |= {"ext_host": place.ext_host} if place.ext_host else {}
            node |= {"ext_hostname": place.ext_hostname} if place.ext_hostname else {}
            assert credentials(made, node) == true_credentials(service, place)


def body(**more: Any) -> dict[str, Any]:
    backend = {"id": "b-1", "state": "up"}
    return {
        "id": "i", "name": "n", "protocol": "tcp", "port": 1, "int_port": 4100, "exposure": "private", "tls": "off",
        "plan": None, "listen": "::1", "status": "ready", "created": 0.0, "bindings": [],
        "backends": [backend, {"id": "b-2", "state": "down"}],
        "sessions": {"active": 1, "opened": 2}, "bytes": {"in": 0, "out": 2048}, "closed": {"killed": 2, "drained": 0},
        "dropped": {}, "policy": Policy().as_json(), "warnings": [],
    } | more  # fmt: skip


def test_what_there_are_many_of_stands_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_service(body(bindings=["api", "web"]), {"id": "n", "host": "10.0.0.5"})
    rows = cells(capsys.readouterr().out)
    at = rows.index(["apps", "api"])
    assert rows[at : at + 4] == [["apps", "api"], ["", "web"], ["backends", "b-1 (up)"], ["", "b-2 (down)"]]
    assert ["listens on", "[::1]:1"] in rows
    assert ["traffic", "0 B in, 2.0 KiB out"] in rows
    assert ["ended", "2 killed"] in rows


def test_a_warning_stands_below_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    print_service(body(warnings=["all backends are down"]), {"id": "n", "host": "10.0.0.5"})
    rows = cells(capsys.readouterr().out)
    assert rows[rows.index(["status", "ready"]) + 1] == ["warning", "all backends are down"]


def test_why_a_service_is_degraded_stands_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_services([body(status="degraded", reason="port 1: in use by \x1b[2J"), body(name="m")])
    out = capsys.readouterr().out
    assert ["n", "harbor", "tcp", "1", "private", "degraded", "1/2", "1"] in cells(out)
    assert out.splitlines()[-1] == r"n is degraded: port 1: in use by \x1b[2J"


def test_a_frame_fits_its_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_framed(("A", "Long"), [("x" * 5, 1), ("", None)])
    assert capsys.readouterr().out.splitlines() == [
        "+-------+------+",
        "| A     | Long |",
        "+-------+------+",
        "| xxxxx | 1    |",
        "|       |      |",
        "+-------+------+",
    ]
    print_framed(("A",), [])
    assert capsys.readouterr().out.splitlines() == ["+---+", "| A |", "+---+"]
