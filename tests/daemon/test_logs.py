"""What a daemon writes: entries that tell of changes, and at level debug one for every session that ends."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import pytest

from harbor.daemon.logs import escape_control_characters
from harbor.model import Address
from support.daemon import Daemon, Serve
from support.datagram_backend import DatagramBackend
from support.running_node import MakeBackend
from support.sockets import connected
from support.waiting import eventually


def entries(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    """The entries of one kind that are whole by now."""
    lines = [json.loads(line) for line in daemon.log.splitlines() if line.endswith("}")]
    return [line for line in lines if line["event"] == event]


def talk(daemon: Daemon, backend: MakeBackend) -> None:
    port = daemon.api.create("web").body["port"]
    daemon.api.put("web", "b", backend("hello").address)
    with connected(Address("127.0.0.1", port)) as client:
        assert client.recv(5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        while client.recv(100):
            pass


def test_at_level_debug_a_session_leaves_one_line_with_its_reason(serve: Serve, backend: MakeBackend) -> None:
    daemon = serve("log: {level: debug, format: json}")
    talk(daemon, backend)
    (line,) = eventually(lambda: entries(daemon, "session.closed"))
    assert line["service"] == "web"
    assert line["backend"] == "b"
    assert line["reason"] in ("client_closed", "backend_closed")
    assert line["bytes_out"] >= 5
    counted = daemon.api("GET", "/v1/services/web").body["closed"]
    assert counted == {line["reason"]: 1}


def test_a_flow_leaves_one_line_too(serve: Serve) -> None:
    daemon = serve("log: {level: debug, format: json}")
    port = daemon.api.create("udp-game", udp_timeout=0.2).body["port"]
    with contextlib.closing(DatagramBackend("b")) as game, socket.socket(type=socket.SOCK_DGRAM) as client:
        daemon.api.put("udp-game", "b", game.address)
        client.sendto(b"ping", ("127.0.0.1", port))
        (line,) = eventually(lambda: entries(daemon, "session.closed"))
    assert (line["reason"], line["datagrams_in"]) == ("idle_timeout", 1)


def test_otherwise_sessions_leave_no_line(serve: Serve, backend: MakeBackend) -> None:
    daemon = serve("log: {level: info, format: json}")
    talk(daemon, backend)
    daemon.api("DELETE", "/v1/services/web")
    eventually(lambda: entries(daemon, "service.deleted"))
    assert entries(daemon, "session.closed") == []


@pytest.mark.parametrize(
    ("said", "written"), [("plain text", "plain text"), ("a\nforged line", "a\\nforged line"), ("\x1b[2J", "\\x1b[2J")]
)
def test_K10_text_of_clients_cannot_forge_a_line_or_drive_a_terminal(said: str, written: str) -> None:
    assert escape_control_characters(None, "info", {"detail": said, "count": 3}) == {"detail": written, "count": 3}
