"""Clients of one family of addresses, backends of the other, on a port that listens on ``::``."""

from __future__ import annotations

from pathlib import Path

import pytest

from harbor.model import Address
from support.app_node import AppNode
from support.programs import Programs, output_of
from support.sockets import connected
from support.waiting import eventually
from support.web import nginx

FAMILIES = {"v4": "127.0.0.1", "v6": "::1"}
PAIRS = [("v6", "v4"), ("v4", "v6"), ("v6", "v6"), ("v4", "v4")]


@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_A21_curl_of_one_family_reaches_nginx_of_the_other(
    node: AppNode, servers: Programs, ports: range, scratch: Path, client: str, backend: str
) -> None:
    nginx(servers, scratch, ports[0], host=FAMILIES[backend])
    (scratch / "files" / "small").write_bytes(b"hello")
    name = f"web-{client}-{backend}"
    port = node.create(name, Address(FAMILIES[backend], ports[0]), exposure="public")
    host = Address(FAMILIES[client], port)
    assert output_of("curl", "--silent", "--fail", f"http://{host}/small") == "hello"
    node.ended(name, 1)
    with connected(host) as idle:
        (session,) = eventually(lambda: node.ask("GET", f"/v1/sessions?service={name}"), what="the session is listed")
        ours = Address(*idle.getsockname()[:2])
        assert session["client"] == str(ours)
        assert session["backend_address"] == str(Address(FAMILIES[backend], ports[0]))


@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_A21_dig_of_one_family_reaches_dnsmasq_of_the_other(
    node: AppNode, servers: Programs, ports: range, client: str, backend: str
) -> None:
    servers.start(
        "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
        f"--port={ports[0]}", f"--listen-address={FAMILIES[backend]}", "--bind-interfaces", "--txt-record=a.test,yes",
        port=ports[0], kind="udp",
    )  # fmt: skip
    name = f"both-{client}-{backend}"
    port = node.create(name, Address(FAMILIES[backend], ports[0]), exposure="public")
    for transport in ("+notcp", "+tcp"):
        answer = output_of("dig", f"@{FAMILIES[client]}", "-p", port, "a.test", "TXT", "+short", "+time=2", transport)
        assert answer == '"yes"\n'
    (flow,) = node.ask("GET", f"/v1/sessions?service={name}")
    assert flow["client"].startswith("[::1]:" if client == "v6" else "127.0.0.1:")
