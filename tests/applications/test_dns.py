"""dig over UDP and over TCP, through one port number, to two dnsmasq."""

from __future__ import annotations

import subprocess

import pytest

from support.app_node import AppNode
from support.programs import Programs, output_of


class Resolvers:
    """Two dnsmasq; the first says that it is "first"."""

    def __init__(self, servers: Programs, ports: range) -> None:
        self.ports = list(ports[:2])
        self._servers = servers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("first", "second"):
            self.start(name)

    def start(self, name: str, host: str = "127.0.0.1") -> None:
        port = self.ports[name == "second"]
        self._processes[name] = self._servers.start(
            "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
            f"--port={port}", f"--listen-address={host}", "--bind-interfaces", f"--txt-record=whoami.test,{name}",
            port=port, kind="udp",
        )  # fmt: skip

    def kill(self, name: str) -> None:
        self._servers.kill(self._processes[name])


@pytest.fixture
def resolvers(servers: Programs, ports: range) -> Resolvers:
    return Resolvers(servers, ports)


def ask(port: int, *options: str, at: str = "127.0.0.1") -> str:
    """Who answers, in the end."""
    return (
        output_of("dig", f"@{at}", "-p", port, "whoami.test", "TXT", "+short", "+time=1", *options)
        .splitlines()[-1]
        .strip('"')
    )


def test_G15_udp_goes_to_the_first_and_tcp_to_each_in_turn(node: AppNode, resolvers: Resolvers) -> None:
    port = node.create("both-in-turn", *resolvers.ports)
    assert [ask(port) for _ in range(3)] == ["first"] * 3
    assert [ask(port, "+tcp") for _ in range(4)] == ["first", "second"] * 2


def test_C05_C07_when_the_primary_is_killed_the_next_query_moves(node: AppNode, resolvers: Resolvers) -> None:
    port = node.create("both-killed", *resolvers.ports)
    assert ask(port) == "first"
    resolvers.kill("first")
    assert ask(port, "+tries=3") == "second"
    assert [ask(port) for _ in range(3)] == ["second"] * 3
    assert [ask(port, "+tcp") for _ in range(3)] == ["second"] * 3

    resolvers.start("first")
    node.deregister("both-killed", "b1")
    node.register("both-killed", "b1", resolvers.ports[0])
    assert node.backends("both-killed") == [("b2", "up"), ("b1", "up")]
    assert [ask(port) for _ in range(3)] == ["second"] * 3
    assert {ask(port, "+tcp") for _ in range(2)} == {"first", "second"}
    resolvers.kill("second")
    assert ask(port, "+tries=3") == "first"
