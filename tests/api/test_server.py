from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harbor.api import AdminToken, ApiServer, tcp_listener, unix_listener
from harbor.api.server import tls_context
from harbor.config import Api, parse
from harbor.errors import ConfigInvalid, Invalid, PortTaken, StateUnusable
from support.fake_node import FakeNode
from support.needs import needs
from support.running_api import DEADLINE, configuration, running_api
from support.running_api import Api as WholeApi


def unchecked(listen: str) -> Api:
    """Settings that the configuration itself would have refused."""
    return Api.model_construct(listen=listen, cert=None, key=None)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:7070", "[::]:0"])
def test_K01_an_address_that_others_reach_is_refused_without_tls(listen: str) -> None:
    with pytest.raises(ConfigInvalid, match="TLS"):
        parse(f'api: {{listen: "{listen}"}}', "test.yml")
    with pytest.raises(Invalid) as caught:
        tcp_listener(unchecked(listen))
    assert caught.value.code == "api_needs_tls"


def test_K01_the_api_is_on_loopback_unless_asked_otherwise() -> None:
    assert parse("", "test.yml").api.address.host == "127.0.0.1"


async def test_the_address_says_where_it_listens(api: WholeApi) -> None:
    assert api.server.address is not None
    assert api.server.address.host == "127.0.0.1"
    assert api.server.url == f"http://127.0.0.1:{api.port}"


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken, match="in use"):
        tcp_listener(unchecked(f"127.0.0.1:{taken.getsockname()[1]}"))


async def test_ipv6_is_served(tmp_path: Path) -> None:
    config = parse(f'{{state_dir: {tmp_path}, api: {{listen: "[::1]:0"}}}}', "test.yml")
    server = ApiServer(FakeNode(config), config, AdminToken.load_or_create(tmp_path), [tcp_listener(config.api)])  # type: ignore[arg-type]
    await server.start()
    try:
        assert server.address is not None
        reader, writer = await asyncio.open_connection("::1", server.address.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    finally:
        await server.stop(1)


async def test_replies_do_not_wait_for_acknowledgements(api: WholeApi) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readline()
    (connection,) = api.server._state.connections
    accepted = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()


# The Unix socket


async def test_K14_the_unix_socket_is_for_its_owner_only(api: WholeApi) -> None:
    status = (api.config.state_dir / "harbor.sock").stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


async def test_the_peer_of_the_unix_socket_is_known(api: WholeApi) -> None:
    await api.unix("POST", "/v1/services", {"name": "a"})
    assert api.node.events.recent()[0].actor == f"unix:uid={os.getuid()}"


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    unix_listener(tmp_path).close()  # as after kill -9: the file stays
    with unix_listener(tmp_path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "harbor.sock"))
        listener.accept()[0].close()


def test_a_live_node_keeps_its_socket(tmp_path: Path) -> None:
    with unix_listener(tmp_path) as listener:
        with pytest.raises(StateUnusable, match="running there already"):
            unix_listener(tmp_path)
        with contextlib.suppress(BlockingIOError):  # the connection that asked whether somebody is there
            listener.accept()[0].close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "harbor.sock"))


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "harbor.sock").write_text("mine")
    with pytest.raises(StateUnusable, match="not a socket"):
        unix_listener(tmp_path)
    assert (tmp_path / "harbor.sock").read_text() == "mine"


def test_a_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="longer than the 107 bytes"):
        unix_listener(tmp_path / ("x" * 100))


async def test_the_sockets_file_goes_with_the_server(tmp_path: Path) -> None:
    async with running_api(tmp_path):
        assert (tmp_path / "harbor.sock").exists()
    assert not (tmp_path / "harbor.sock").exists()


async def test_the_file_of_a_later_node_stays(tmp_path: Path) -> None:
    async with running_api(tmp_path):
        (tmp_path / "harbor.sock").unlink()
        later = unix_listener(tmp_path)
    assert (tmp_path / "harbor.sock").exists()
    later.close()


# The end


async def test_a_stopped_server_refuses_connections(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        port = api.port
        idle = await asyncio.open_connection("127.0.0.1", port)
        await api.server.stop(5)
        async with asyncio.timeout(DEADLINE):
            assert await idle[0].read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        idle[1].close()


class SlowNode(FakeNode):
    """A node whose changes take until it is told to go on."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def delete_service(self, ref: str, *, actor: str, force: bool = False) -> None:
        self.asked.set()
        await self.go_on.wait()


@contextlib.asynccontextmanager
async def a_request_under_way(tmp_path: Path) -> AsyncIterator[tuple[SlowNode, ApiServer, asyncio.StreamReader]]:
    config = configuration(tmp_path)
    node = SlowNode(config)
    server = ApiServer(node, config, AdminToken.load_or_create(tmp_path), [unix_listener(tmp_path)])  # type: ignore[arg-type]
    await server.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "harbor.sock")
    writer.write(b"DELETE /v1/services/a HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await node.asked.wait()
        yield node, server, reader
    writer.close()


async def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    async with a_request_under_way(tmp_path) as (node, server, reader):
        stopping = asyncio.create_task(server.stop(DEADLINE))
        asyncio.get_running_loop().call_later(0.05, node.go_on.set)
        await stopping
        assert (await reader.read()).startswith(b"HTTP/1.1 204 ")


async def test_a_request_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async with a_request_under_way(tmp_path) as (_node, server, reader):
        await server.stop(0.05)
        assert await reader.read() == b""


async def test_signals_stay_with_the_process(api: WholeApi) -> None:
    """Trap: an embedded uvicorn takes SIGINT and SIGTERM for itself."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is not None
    assert "uvicorn" not in str(signal.getsignal(signal.SIGINT))


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "api.crt", tmp_path / "api.key"
    paths[0].write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextlib.asynccontextmanager
async def tls_server(state_dir: Path, certificate: tuple[Path, Path]) -> AsyncIterator[ApiServer]:
    cert, key = certificate
    text = f'{{state_dir: {state_dir}, api: {{listen: "127.0.0.1:0", cert: {cert}, key: {key}}}}}'
    config = parse(text, "test.yml")
    token = AdminToken.load_or_create(state_dir)
    listeners = [tcp_listener(config.api), unix_listener(state_dir)]
    server = ApiServer(FakeNode(config), config, token, listeners)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1)


async def test_with_a_certificate_the_port_speaks_tls_and_the_unix_socket_does_not(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async with tls_server(tmp_path, certificate) as server:
        assert server.address is not None
        assert server.url == f"https://127.0.0.1:{server.address.port}"
        curl = await asyncio.create_subprocess_exec(
            needs("curl"), "-s", "--cacert", str(certificate[0]), f"https://localhost:{server.address.port}/healthz",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await curl.communicate()
        assert out == b'{"status":"ok"}'
        reader, writer = await asyncio.open_unix_connection(tmp_path / "harbor.sock")
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b'{"status":"ok"}')
        writer.close()


def test_old_versions_of_tls_are_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    context = tls_context(parse(f"{{state_dir: {tmp_path}, api: {{cert: {cert}, key: {key}}}}}", "test.yml").api)
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    key.write_text("not a key")
    config = parse(f"{{state_dir: {tmp_path}, api: {{cert: {cert}, key: {key}}}}}", "test.yml")
    with pytest.raises(StateUnusable) as caught:
        ApiServer(FakeNode(config), config, AdminToken.load_or_create(tmp_path), [])  # type: ignore[arg-type]
    assert caught.value.code == "api_certificate_unusable"
