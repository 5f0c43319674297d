from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from cli.conftest import Shell
from harbor.model import Policy
from harbor.model.policy import FIELDS
from support.pairs import make
from support.running_api import FIRST_PORT


def cells(table: str) -> list[list[str]]:
    """The rows of a framed table, without their frame."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


async def test_a_service_from_its_creation_to_its_end(harbor: Shell) -> None:
    assert harbor.api is not None
    made = await harbor("create-service", "my-port")
    port = harbor.api.node.service("my-port").service.port
    assert (made.code, made.out) == (0, f"created my-port: tcp port {port}, private\n")

    listed = await harbor("services")
    assert ["my-port", "harbor", "tcp", str(port), "private", "ready", "0/0", "0"] in cells(listed.out)

    shown = await harbor("service", "my-port")
    assert ["listens on", f"127.0.0.1:{port}"] in cells(shown.out)
    for field in FIELDS:
        assert f"- {field}" in [row[0] for row in cells(shown.out)]

    deleted = await harbor("delete-service", "my-port")
    assert (deleted.code, deleted.out) == (0, "deleted my-port\n")
    assert harbor.api.names == []


async def test_the_first_word_may_be_harbor_as_in_the_first_harbor(harbor: Shell) -> None:
    assert harbor.api is not None
    assert (await harbor("create-service", "harbor", "both-ways")).code == 0
    assert (await harbor("create-service", "harbor")).code == 0
    assert harbor.api.names == ["both-ways", "harbor"]
    wrong = await harbor("create-service", "harbour", "x")
    assert wrong.code == 2


async def test_every_option_of_a_new_service_arrives(harbor: Shell) -> None:
    policy = {
        "connect_timeout": 2.5,
        "idle_timeout": 600.0,
        "udp_timeout": 20.0,
        "drain_timeout": 0.0,
        "max_sessions": 7,
        "max_sessions_per_backend": 3,
        "balance": "least_sessions",
        "failback": "return",
        "removal": "cut",
        "hsts": 60,
    }
    options = [word for name, value in policy.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    made = await harbor(
        "create-service", "x", "--protocol", "udp", "--plan", "tcp", "--public", "--tls", "off",
        "--port", str(FIRST_PORT + 50), *options, "--no-http", "--json",
    )  # fmt: skip
    assert made.json["policy"] == Policy().as_json() | policy | {"http": False}
    assert [made.json[name] for name in ("protocol", "plan", "exposure", "port")] == [
        "udp", "tcp", "public", FIRST_PORT + 50,
    ]  # fmt: skip


async def test_every_policy_has_its_option(harbor: Shell) -> None:
    told = (await harbor("create-service", "--help")).out
    assert [name for name in FIELDS if not re.search(rf"--{name.replace('_', '-')}[ /]", told)] == []


async def test_F01_a_request_whose_answer_is_lost_is_sent_again_and_leases_one_port(harbor: Shell) -> None:
    assert harbor.api is not None
    address = harbor.api.server.address
    assert address is not None
    connections = 0

    async def lose_the_first_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        lose = connections == 1
        backend_reader, backend_writer = await asyncio.open_connection(*address)
        request = await reader.readuntil(b"\r\n\r\n")
        length = int(request.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        backend_writer.write(request + await reader.readexactly(length))
        head = await backend_reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await backend_reader.readexactly(length)
        if not lose:
            writer.write(head + body)
        writer.close()
        backend_writer.close()

    proxy = await asyncio.start_server(lose_the_first_answer, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        shell = Shell(harbor.api, HARBOR_URL=url, HARBOR_TOKEN=harbor.api.token)
        made = await shell("create-service", "a", "--json")
    finally:
        proxy.close()
    assert connections == 2
    assert made.json["name"] == "a"
    assert harbor.api.names == ["a"]
    assert len(harbor.api.node.ports().used) == 1


async def test_a_policy_is_changed_and_reset(harbor: Shell) -> None:
    await harbor("create-service", "a", "--max-sessions", "5")
    changed = await harbor("update-service", "a", "--idle-timeout", "60", "--removal", "keep")
    assert changed.out == "changed a: idle_timeout 60, removal keep\n"
    reset = await harbor("update-service", "a", "--reset", "max_sessions", "--json")
    assert reset.json["policy"]["max_sessions"] == 10_000
    assert reset.json["policy"]["removal"] == "keep"
    assert (await harbor("update-service", "a")).code == 2


async def test_json_is_what_the_api_says(harbor: Shell) -> None:
    assert harbor.api is not None
    for name in ("b", "a"):
        await harbor("create-service", name)
    assert [service["name"] for service in (await harbor("services", "--json")).json] == ["a", "b"]
    one = await harbor("service", "a", "--json")
    assert one.json == (await harbor.api.unix("GET", "/v1/services/a")).body


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("service", "nope"), "there is no service 'nope'"),
        (("delete-service", "nope"), "there is no service 'nope'"),
        (("create-service", "a b"), "service name 'a b' is not valid"),
        (("create-service", "x", "--port", "22"), "port 22 is outside this node's ranges"),
        (("create-service", "x", "--idle-timeout", "-1"), "idle_timeout: -1.0 is too low; the lowest is 0"),
        (("service", ".."), "there is no service '..'"),
        (("service", "a/../b"), "there is no service 'a/../b'"),
        (("service", ""), "there is nothing at"),
    ],
)
async def test_a_refusal_is_one_line_with_the_nodes_own_words(
    harbor: Shell, args: tuple[str, ...], complaint: str
) -> None:
    ran = await harbor(*args)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("harbor: ")
    assert complaint in ran.err or args == ("service", "a/../b")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("create-service",),
        ("create-service", "a", "b", "c"),
        ("create-service", "a", "--port", "0"),
        ("create-service", "a", "--port", "65536"),
        ("create-service", "a", "--port", "http"),
        ("create-service", "a", "--protocol", "sctp"),
        ("create-service", "a", "--max-sessions", "1.5"),
        ("service",),
        ("nope",),
        ("services", "--nope"),
    ],
)
async def test_wrong_use_exits_with_2_and_asks_nobody(alone: Shell, args: tuple[str, ...]) -> None:
    ran = await alone(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err


async def test_a_command_that_is_none_gets_the_nearest_one_named(alone: Shell) -> None:
    assert "did you mean services?" in (await alone("sevices")).err


async def test_many_services_come_page_by_page(harbor: Shell) -> None:
    assert harbor.api is not None
    names = sorted(f"s-{number}" for number in range(30))
    for name in names:
        await harbor.api.unix("POST", "/v1/services", {"name": name})
    environment = harbor.environment
    program = "import harbor.cli.client as c; c.PAGE = 7; from harbor.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "services", "--json"),
        env=environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert [service["name"] for service in json.loads(out)] == names


async def test_tls_to_backends_is_asked_for_shown_and_turned_off(harbor: Shell, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(make("Internal CA", is_ca=True).own)
    made = await harbor("create-service", "inner", "--backend-tls", "insecure", "--json")
    assert made.json["backend_tls"] == {"verify": False, "server_name": None}
    assert "insecure: certificates are not checked" in (await harbor("service", "inner")).out
    options = ("--backend-tls", "verify", "--backend-tls-ca", str(ca), "--backend-tls-server-name", "app.internal")
    changed = await harbor("update-service", "inner", *options)
    assert "backend_tls verify, for app.internal" in changed.out
    changed = await harbor("update-service", "inner", "--reset", "backend_tls_ca", "--json")
    assert changed.json["backend_tls"] == {"verify": True, "server_name": "app.internal"}
    assert "backend_tls off" in (await harbor("update-service", "inner", "--reset", "backend_tls")).out


async def test_a_port_for_a_while_and_for_oneself(harbor: Shell, remote: Shell) -> None:
    harbor.environment["SSH_CLIENT"] = "203.0.113.9 50022 22"
    made = await harbor(
        "create-service", "harbor", "debug", "--for", "30m", "--from", "me", "--from", "10.0.0.0/8", "--json"
    )
    policy = made.json["policy"]
    assert (policy["expires"], policy["allow"]) == (1800, ["127.0.0.1/32", "::1/128", "203.0.113.9/32", "10.0.0.0/8"])
    remote.environment.pop("SSH_CLIENT", None)
    changed = await remote("update-service", "debug", "--for", "2h", "--from", "me", "--json")
    policy = changed.json["policy"]
    assert (policy["expires"], policy["allow"]) == (7200, ["127.0.0.1/32", "::1/128"])
    for args in (["--for", "soon"], ["--for", "5m", "--expires", "5m"], ["--from", "me", "--allow", "::"]):
        wrong = await harbor("create-service", "x", *args)
        assert (wrong.code, wrong.out) == (2, "")
