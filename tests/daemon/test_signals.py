"""What signals do to a daemon: stop it in order, stop it at once, or nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from harbor.model import Address
from support.daemon import Daemon, Serve
from support.pairs import make
from support.port_block import open_ports
from support.running_node import MakeBackend
from support.sockets import connected, ends
from support.tls_services import put_tls_services
from support.waiting import eventually


def insecure() -> ssl.SSLContext:
    """A client that takes every certificate: the test compares it itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def session(daemon: Daemon, backend: MakeBackend) -> socket.socket:
    """A live session of a new service."""
    port = daemon.api.create("web").body["port"]
    assert daemon.api.put("web", "b", backend("hello").address).status == 201
    client = connected(Address("127.0.0.1", port))
    assert client.recv(5) == b"hello"
    return client


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_I05_a_stopping_node_accepts_no_more_and_lets_live_sessions_finish(
    serve: Serve, backend: MakeBackend, ports: range, stop: signal.Signals
) -> None:
    daemon = serve()
    with session(daemon, backend) as client:
        daemon.signal(stop)
        eventually(lambda: open_ports(ports) == {}, what="no port is open")
        readiness = daemon.api("GET", "/readyz")
        assert (readiness.status, readiness.body["problems"]) == (503, ["the node is stopping"])
        late = daemon.api.create("late")
        assert (late.status, late.code) == (503, "node_stopping")
        client.sendall(b"more")
        assert client.recv(4) == b"more"
        assert daemon.exit_code is None
    assert daemon.await_exit() == 0
    assert "Traceback" not in daemon.log
    assert not (daemon.state / "harbor.sock").exists()


def test_I05_sessions_that_outlive_the_drain_are_cut(serve: Serve, backend: MakeBackend) -> None:
    daemon = serve("defaults: {drain_timeout: 0.3}")
    with session(daemon, backend) as client:
        daemon.signal(signal.SIGTERM)
        assert ends(client) == "reset"
        assert daemon.await_exit() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_I05_a_second_signal_ends_it_at_once(serve: Serve, backend: MakeBackend, second: signal.Signals) -> None:
    daemon = serve("defaults: {drain_timeout: 3600}")
    with session(daemon, backend) as client:
        daemon.signal(signal.SIGTERM)
        eventually(lambda: daemon.api("GET", "/readyz").status == 503)
        daemon.signal(second)
        assert ends(client) == "reset"
        assert daemon.await_exit() == 0
    assert "Traceback" not in daemon.log


def test_I06_a_storm_of_other_signals_does_nothing(serve: Serve, backend: MakeBackend) -> None:
    daemon = serve()
    with session(daemon, backend) as client:
        for _ in range(50):
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
                daemon.signal(number)
            client.sendall(b"still here")
            assert client.recv(10) == b"still here"
        assert daemon.api("GET", "/readyz").status == 200
        client.close()
        daemon.stop()


def test_D11_SIGHUP_makes_the_node_look_at_its_certificates(serve: Serve, directory: Path, ports: range) -> None:
    certs = directory / "certs"
    asyncio.run(put_tls_services(directory / "state", ports, "shop"))
    daemon = serve(f"certs_dir: {certs}")
    assert daemon.api("GET", "/v1/certificates/shop").body["source"] == "self_signed"
    made = make("shop.example")
    made.write(certs, "shop")
    daemon.signal(signal.SIGHUP)

    def shown() -> bool:
        client = socket.create_connection(("127.0.0.1", ports[0]), timeout=10)
        with insecure().wrap_socket(client, server_hostname="shop.example") as tls:
            return tls.getpeercert(binary_form=True) == made.x509.public_bytes(Encoding.DER)

    eventually(shown)
    assert daemon.api("GET", "/v1/certificates/shop").body["fingerprint"] == made.fingerprint
