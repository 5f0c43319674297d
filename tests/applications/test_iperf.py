"""iperf3 through one port: its control connection and its data, in either direction, TCP and UDP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.app_node import AppNode
from support.programs import Programs, output_of


def measure(port: int, *options: str) -> dict[str, Any]:
    """What iperf3 found after a second."""
    report = json.loads(output_of("iperf3", "-c", "127.0.0.1", "-p", port, "-t", 1, "--json", *options))
    assert "error" not in report
    return dict(report["end"])


@pytest.mark.parametrize("direction", [(), ("--reverse",)], ids=["up", "down"])
def test_tcp_both_ways(node: AppNode, servers: Programs, ports: range, direction: tuple[str, ...]) -> None:
    servers.start("iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", ports[0], port=ports[0])
    name = f"iperf-tcp-{len(direction)}"
    report = measure(node.create(name, ports[0]), *direction)
    carried = node.service(name)["bytes"]["out" if direction else "in"]
    assert carried >= report["sum_received"]["bytes"] > 0
    assert node.service(name)["sessions"]["opened"] == 2


@pytest.mark.parametrize("direction", [(), ("--reverse",)], ids=["up", "down"])
def test_udp_beside_its_control_connection_on_one_number(
    node: AppNode, servers: Programs, ports: range, direction: tuple[str, ...]
) -> None:
    servers.start("iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", ports[0], port=ports[0])
    port = node.create(f"both-iperf-{len(direction)}", ports[0])
    # 1 Mbit/s: what fits into a socket's buffer while a busy machine looks away for a second.
    report = measure(port, "--udp", "--bitrate", "1M", "--length", "1400", *direction)
    assert report["sum"]["packets"] > 50
    assert report["sum"]["lost_packets"] == 0
