"""Health checks against real servers: redis, nginx and dnsmasq, which die and come back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.app_node import HARBOR, AppNode
from support.programs import Programs, output_of
from support.waiting import eventually
from support.web import nginx

OFTEN = {"interval": 0.2, "timeout": 2, "rise": 1, "fall": 1}

StartServer = Callable[[Programs, Path, int], "subprocess.Popen[bytes]"]


def redis(servers: Programs, scratch: Path, port: int) -> subprocess.Popen[bytes]:
    return servers.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", port=port)


def web(servers: Programs, scratch: Path, port: int) -> subprocess.Popen[bytes]:
    process = nginx(servers, scratch, port)
    (scratch / "files" / "ok").write_bytes(b"yes")
    return process


def dnsmasq(servers: Programs, scratch: Path, port: int) -> subprocess.Popen[bytes]:
    return servers.start(
        "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
        f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--host-record=a.test,192.0.2.1",
        port=port, kind="udp",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "start", "check"),
    [
        ("health-redis", redis, {"type": "exchange", "send": "PING\\r\\n", "expect": "+PONG"}),
        ("health-nginx", web, {"type": "http", "path": "/ok", "status": 200}),
        ("health-tcp", web, {"type": "tcp"}),
        ("both-health-dns", dnsmasq, {"type": "dns"}),
        ("udp-health-dns", dnsmasq, {"type": "dns", "send": "a.test A", "expect": "NOERROR"}),
    ],
)
def test_a_server_that_dies_is_down_and_one_that_comes_back_is_up(
    node: AppNode, servers: Programs, ports: range, scratch: Path, name: str, start: StartServer, check: dict[str, Any]
) -> None:
    processes = [start(servers, scratch, port) for port in ports[:2]]
    node.create(name, *ports[:2], health=check | OFTEN)
    eventually(lambda: node.backends(name) == [("b1", "up"), ("b2", "up")])
    servers.kill(processes[0])
    eventually(lambda: node.backends(name) == [("b2", "up"), ("b1", "down")])
    start(servers, scratch, ports[0])
    eventually(lambda: node.backends(name) == [("b2", "up"), ("b1", "up")])


def test_a_server_that_is_there_but_sick_says_so_in_words(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    web(servers, scratch, ports[0])
    node.create("health-sick", ports[0], health={"type": "http", "path": "/ok", **OFTEN})
    eventually(lambda: node.backends("health-sick") == [("b1", "up")])
    (scratch / "files" / "ok").unlink()
    eventually(lambda: node.backends("health-sick") == [("b1", "down")])
    (backend,) = node.service("health-sick")["backends"]
    assert backend["last_failure"] == f"http check of 127.0.0.1:{ports[0]}/ok: status 404"
    assert node.service("health-sick")["warnings"] == ["all backends are down; traffic goes to all of them"]


def test_a_check_is_asked_for_changed_and_seen_on_the_command_line(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    redis(servers, scratch, ports[0])

    def harbor(*words: str) -> str:
        return output_of(str(HARBOR), *words, "--config", node.config)

    harbor("create-service", "health-cli", "--health", r"exchange,send=PING\r\n,expect=+PONG,interval=0.2,rise=1")
    harbor("register", "health-cli", f"127.0.0.1:{ports[0]}", "--id", "one")
    eventually(lambda: node.backends("health-cli") == [("one", "up")])
    shown = json.loads(harbor("service", "health-cli", "--json"))["policy"]["health"]
    assert shown == {
        "type": "exchange", "interval": 0.2, "timeout": 2.0, "rise": 1, "fall": 3, "start_period": 0.0,
        "send": r"PING\r\n", "expect": "+PONG",
    }  # fmt: skip
    harbor("update-service", "health-cli", "--health", "exchange,send=PING\\r\\n,expect=nonsense,interval=0.2,fall=1")
    eventually(lambda: node.backends("health-cli") == [("one", "down")])
    table = harbor("backends", "health-cli")
    assert r"the answer '+PONG\r\n' has no 'nonsense'" in table
    harbor("update-service", "health-cli", "--reset", "health")
    assert node.backends("health-cli") == [("one", "up")]
