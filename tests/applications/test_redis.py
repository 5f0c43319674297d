"""redis-cli and redis-benchmark through one port to three redis servers."""

from __future__ import annotations

import pytest

from support.app_node import AppNode
from support.programs import Programs, output_of


@pytest.fixture
def redis(servers: Programs, ports: range) -> list[int]:
    """Three servers that keep nothing; their ports."""
    for port in ports[:3]:
        servers.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", port=port)
    return list(ports[:3])


def received(port: int) -> int:
    """How many connections a server has had, this question not counted."""
    stats = output_of("redis-cli", "-p", port, "INFO", "stats")
    return int(stats.partition("total_connections_received:")[2].split()[0]) - 1


def test_B02_redis_cli_meets_each_server_in_turn(node: AppNode, redis: list[int]) -> None:
    port = node.create("redis-cli", *redis)
    met = [output_of("redis-cli", "-p", port, "CONFIG", "GET", "port").split()[-1] for _ in range(9)]
    assert met == [str(port) for port in redis] * 3
    assert node.ended("redis-cli", 9) == {"client_closed": 9}


def test_redis_benchmark_is_spread_evenly(node: AppNode, redis: list[int]) -> None:
    port = node.create("redis-benchmark", *redis)
    report = output_of("redis-benchmark", "-p", port, "-n", 3000, "-c", 29, "-t", "set,get", "--csv")
    assert len([line for line in report.splitlines() if line.startswith(('"SET"', '"GET"'))]) == 2
    opened = node.service("redis-benchmark")["sessions"]["opened"]
    assert opened >= 2 * 29
    assert [received(port) for port in redis] == [(opened + behind) // 3 for behind in (2, 1, 0)]


def test_a_pipeline_of_ten_thousand_commands_is_answered_whole(node: AppNode, redis: list[int]) -> None:
    port = node.create("redis-pipe", redis[0])
    commands = b"".join(b"SET key:%d %d\r\n" % (n, n) for n in range(10_000))
    assert "replies: 10000" in output_of("redis-cli", "-p", port, "--pipe", given=commands)
    assert output_of("redis-cli", "-p", redis[0], "DBSIZE").strip() == "10000"
