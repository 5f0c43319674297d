"""TLS to backends as a node keeps it: what may be set, what it does to the next session, and what a restart leaves."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harbor.errors import HarborError
from support.backends import Backend, echo
from support.pairs import make
from support.running_node import RunningNode, Start
from support.sockets import receive_exactly
from support.waiting import eventually

CA = make("Internal CA", is_ca=True)
APP = make("app.internal", by=CA)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Backend]:
    """A backend that speaks TLS, as app.internal."""
    (tmp_path / "app.pem").write_text(APP.key + APP.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "app.pem")

    def serve(conn: socket.socket) -> None:
        with context.wrap_socket(conn, server_side=True) as tls:
            echo(tls)

    with contextlib.closing(Backend(serve)) as backend:
        yield backend


def update(node: RunningNode, **changes: Any) -> dict[str, Any]:
    return node.wait(node.node.update_service("web", changes, actor="test")).as_json()


def echoes(node: RunningNode) -> bool:
    port = node.call(lambda: node.node.service("web").service.port)
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"ping")
        return receive_exactly(client, 4) == b"ping"


def fails(node: RunningNode) -> bool:
    try:
        return not echoes(node)
    except ConnectionError:
        return True


def last_failure(node: RunningNode) -> str | None:
    return node.call(lambda: node.node.service("web").backends[0].last_failure)


def test_a_service_speaks_TLS_to_its_backends_from_the_next_session_on_and_over_a_restart(
    start: Start, secure: Backend
) -> None:
    node = start()
    made = node.create("web")
    assert "backend_tls" not in made
    node.put("web", "b1", secure.address)
    changed = update(node, backend_tls={"ca": CA.own})
    assert changed["backend_tls"]["verify"] is True
    assert changed["backend_tls"]["server_name"] is None
    assert len(changed["backend_tls"]["ca"]) == 64
    assert fails(node)
    eventually(lambda: last_failure(node) is not None)
    assert "name mismatch" in str(last_failure(node))
    update(node, backend_tls={"server_name": "app.internal"})
    assert echoes(node)
    assert CA.own.splitlines()[3] not in "".join(node.events("service.updated"))
    node.vanish()
    node = start()
    assert echoes(node)
    assert update(node, backend_tls={"verify": False, "server_name": None, "ca": None})["backend_tls"] == {
        "verify": False,
        "server_name": None,
    }
    assert echoes(node)
    assert "backend_tls" not in update(node, backend_tls=None)
    assert node.events("service.updated")[-1] == "web: backend_tls=off"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"server_name": "no name"}, "server_name: host 'no name'"),
        ({"ca": "hello"}, "ca: there is no '-----BEGIN CERTIFICATE-----'"),
        ({"verify": "yes"}, "verify: give true or false"),
        ({"ca": 7}, "ca: give a text"),
        ({"colour": "blue"}, "there is no such setting; there are verify, server_name, ca"),
    ],
)
def test_settings_that_cannot_work_are_refused(node: RunningNode, settings: dict[str, Any], words: str) -> None:
    node.create("web")
    with pytest.raises(HarborError) as refused:
        update(node, backend_tls=settings)
    assert refused.value.code == "backend_tls_invalid"
    assert words in refused.value.message
    assert "backend_tls" not in update(node)


@pytest.mark.parametrize("protocol", ["udp", "both"])
def test_datagrams_cannot_be_encrypted(node: RunningNode, protocol: str) -> None:
    node.create("web", protocol)
    with pytest.raises(HarborError) as refused:
        update(node, backend_tls={})
    assert refused.value.code == "backend_tls_invalid"
    assert f"its protocol is {protocol}" in refused.value.message


def test_what_passes_through_is_not_encrypted_again(node: RunningNode) -> None:
    node.share("web", None)
    with pytest.raises(HarborError) as refused:
        update(node, backend_tls={})
    assert refused.value.code == "backend_tls_invalid"
    assert "its TLS is passthrough" in refused.value.message
    assert "backend_tls" not in update(node)
