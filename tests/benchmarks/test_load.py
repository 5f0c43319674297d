"""The load generator counts what happens and names what fails, and leaves nobody behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.load import backends, build, load, words
from benchmarks.process import LOAD, Failed, Program, stopping
from support.needs import needs

CPU = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    needs("gcc")
    build()


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    with backends(CPU) as found:
        yield found


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_options_become_words() -> None:
    assert words("bulk", {"port": 1, "up": True, "reset": False, "rate": None}) == [LOAD, "bulk", "--port", "1", "--up"]


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("pingpong", "echo", {"connections": 20}),
        ("pingpong", "echo", {"connections": 4, "rate": 200}),
        ("connect", "echo", {"connections": 4}),
        ("connect", "echo", {"connections": 4, "reset": True}),
        ("bulk", "source", {"connections": 2}),
        ("bulk", "sink", {"connections": 2, "up": True}),
        ("idle", "echo", {"connections": 50}),
        ("pingpong", "web", {"connections": 4, "http": True}),
        ("connect", "web", {"connections": 4, "http": True}),
        ("idle", "web", {"connections": 4, "http": True}),
        ("udp", "udp", {"connections": 5}),
    ],
)
def test_every_kind_of_traffic_does_operations_without_an_error(
    ports: dict[str, int], mode: str, kind: str, options: dict[str, int]
) -> None:
    with load(mode, CPU, ports[kind], 0.2, **options) as running:
        running.go()
        result = running.result()
    assert result["operations"] > 0
    assert result["errors"] == {}
    latency = result.get("latency_us")
    if latency:
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"] <= latency["max"]


def test_an_open_loop_keeps_to_its_rate(ports: dict[str, int]) -> None:
    with load("pingpong", CPU, ports["echo"], 0.5, connections=4, rate=100) as running:
        running.go()
        assert running.result()["operations"] <= 50


def test_one_way_counts_at_the_other_end() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with load("oneway", CPU, port, 0.2, sink=port, rate=1000, connections=2) as running:
        running.go()
        result = running.result()
    assert result["sent"] == result["operations"] + result["lost"] > 0


def test_a_refused_connection_is_named() -> None:
    with load("connect", CPU, refused_port(), 0.1, connections=2) as running:
        running.go()
        result = running.result()
    assert result["operations"] == 0
    assert list(result["errors"]) == ["connect ECONNREFUSED"]


def test_a_set_up_that_fails_says_why() -> None:
    with (
        pytest.raises(Failed, match=r"connection 1 of 3: connect ECONNREFUSED \(1\)"),
        load("pingpong", CPU, refused_port(), 0.1, connections=3),
    ):
        pass


def test_a_program_is_ended_with_its_children(tmp_path: Path) -> None:
    with stopping(Program(["sh", "-c", "sleep 60 & sleep 60"], CPU, log=tmp_path / "log")) as program:
        program.wait_for("a child", lambda: len(machine.session_members(program.pid)) >= 2)
    assert machine.session_members(program.pid) == []


def test_a_program_that_ends_is_missed_with_its_last_words(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo first; echo it is broken >&2; exit 3"]
    with (
        stopping(Program(command, CPU, log=tmp_path / "log")) as program,
        pytest.raises(Failed, match="sh ended with 3: it is broken"),
    ):
        program.wait_for("what never comes", lambda: False)
