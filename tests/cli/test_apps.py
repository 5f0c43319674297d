from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from cli.conftest import COMMAND, Shell
from cli.test_services import cells


async def test_an_app_from_its_first_binding_to_its_last(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "harbor", "my-port")
    service = harbor.api.node.service("my-port").service
    bound = await harbor("bind-service", "my-port", "web")
    assert bound.code == 0
    assert bound.out.splitlines() == [
        "bound web to my-port",
        "hostname  127.0.0.1",
        "host      127.0.0.1",
        f"port      {service.port}",
        f"name      {service.id}",
        "node_id   harbor_node_1",
        "int_port  4100",
        "its variables: harbor env web; its token: harbor token my-port web",
    ]
    shown = await harbor("service", "my-port")
    assert ["apps", "web"] in cells(shown.out)
    assert (await harbor("service", "my-port", "--json")).json["bindings"] == ["web"]

    refused = await harbor("delete-service", "my-port")
    assert (refused.code, refused.out) == (1, "")
    assert "service my-port is bound to web; unbind them first (harbor unbind-service)" in refused.err

    unbound = await harbor("unbind-service", "my-port", "web")
    assert (unbound.code, unbound.out) == (0, "unbound web from my-port\n")
    assert (await harbor("env", "web")).code == 1
    assert (await harbor("delete-service", "my-port")).code == 0


async def test_the_token_is_printed_when_asked_for_and_works(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "my-port")
    bound = (await harbor("bind-service", "my-port", "web", "--json")).json
    assert (await harbor("token", "my-port", "web")).out == f"{bound['token']}\n"
    assert (await harbor("token", "my-port", "web", "--json")).json == {"token": bound["token"]}
    tenant = Shell(harbor.api, HARBOR_URL=str(harbor.api.server.url), HARBOR_TOKEN=bound["token"])
    assert (await tenant("register", "my-port", "127.0.0.1:8080", "--ttl", "30")).code == 0
    assert len((await tenant("backends", "my-port", "--json")).json) == 1
    refused = await tenant("services")
    assert refused.code == 1
    assert (
        f"the token of app web is for the backends of its own service: /v1/services/{bound['service_id']}"
        in refused.err
    )
    await harbor("unbind-service", "my-port", "web")
    revoked = await tenant("backends", "my-port")
    assert "this token was revoked" in revoked.err


async def test_a_token_that_is_lost_says_what_to_do(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "my-port")
    await harbor("bind-service", "my-port", "web")
    harbor.api.node._apps.restore(b"another key", [])
    lost = await harbor("token", "my-port", "web")
    assert lost.code == 1
    assert "harbor unbind-service my-port web" in lost.err


async def test_the_environment_in_every_format_is_one(harbor: Shell) -> None:
    for name in ("my-port", "udp.port"):
        await harbor("create-service", name)
        await harbor("bind-service", name, "web")
    wanted = (await harbor("env", "web", "--json")).json
    assert wanted == (await harbor("env", "web", "--format", "json")).json
    assert (wanted["STACKATO_HARBOR_MY_PORT"], wanted["STACKATO_HARBOR_UDP_PORT"]) == ("4100", "4101")
    assert set(json.loads(wanted["STACKATO_SERVICES"])) == {"my-port", "udp.port"}
    docker = (await harbor("env", "web", "--format", "docker")).out
    assert dict(line.split("=", 1) for line in docker.splitlines()) == wanted
    dump = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    command = f"{COMMAND[0]} -c '{COMMAND[2]}' env web"
    for shell, script in (
        ("sh", f'eval "$({command})"; {dump}'),
        ("bash", f'set -a; eval "$({command} --format dotenv)"; {dump}'),
    ):
        process = await asyncio.create_subprocess_exec(
            shell, "-euc", script, env=harbor.environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        found = json.loads(out)
        assert {name: found.get(name) for name in wanted} == wanted
    assert not [name for name in os.environ if name.startswith("STACKATO_")]


async def test_a_bound_service_is_deleted_by_force(harbor: Shell) -> None:
    assert harbor.api is not None
    await harbor("create-service", "my-port")
    await harbor("bind-service", "my-port", "web")
    deleted = await harbor("delete-service", "my-port", "--force")
    assert (deleted.code, deleted.out) == (0, "deleted my-port\n")
    assert harbor.api.names == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("bind-service", "nope", "web"), "there is no service 'nope'"),
        (("bind-service", "my-port", "a b"), "app 'a b' is not valid"),
        (("bind-service", "my-port", "web"), "app 'web' is bound to my-port already; unbind it first"),
        (("bind-service", "my.port", "web"), "unbind my-port, or bind a service with a name that differs"),
        (("unbind-service", "my-port", "nope"), "my-port is not bound to an app 'nope'"),
        (("token", "my-port", "nope"), "my-port is not bound to an app 'nope'"),
        (("env", "nope"), "bind it with harbor bind-service NAME APP"),
        (("env", "../web"), "there is no"),
    ],
)
async def test_a_refusal_says_what_would_work(harbor: Shell, args: tuple[str, ...], complaint: str) -> None:
    for name in ("my-port", "my.port"):
        await harbor("create-service", name)
    await harbor("bind-service", "my-port", "web")
    ran = await harbor(*args)
    assert (ran.code, ran.out) == (1, "")
    assert complaint in ran.err or args == ("env", "../web")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("bind-service",), ("bind-service", "a"), ("bind-service", "a", "b", "c"), ("unbind-service", "a"),
        ("token", "a"), ("env",), ("env", "a", "--format", "yaml"),
    ],
)  # fmt: skip
async def test_wrong_use_exits_with_2(alone: Shell, args: tuple[str, ...]) -> None:
    ran = await alone(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
