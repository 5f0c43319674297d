"""One port of several services: real TLS reaches the backend whose service takes the name, and nobody else's."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from harbor.model import Reason
from harbor.policy.client_hello import LONGEST_HELLO
from support.backends import Serve, echo, greeting
from support.certificates import Issued, issue
from support.client_hello import body, hello, message, records, server_name
from support.needs import plain_source
from support.plane import RunningPlane
from support.sockets import address_of, ends, receive_all, receive_exactly, reset
from support.waiting import eventually

UNRECOGNIZED_NAME: Final = bytes.fromhex("15030100020270")
DECODE_ERROR: Final = bytes.fromhex("15030100020232")
BULK: Final = bytes(range(256)) * 4096 * 2  # 2 MiB


def tls_backend(cert: Issued, serve: Serve) -> Serve:
    """The same over TLS, with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert.file)

    def over_tls(conn: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(conn, server_side=True) as tls:
            serve(tls)
            tls.unwrap()

    return over_tls


class Site:
    """A service with a TLS backend and a certificate of its own."""

    def __init__(self, plane: RunningPlane, folder: Path, port: int, service: str, *names: str) -> None:
        self.cert = issue(folder, *(names or ("default.test",)))
        self.backend = plane.backend(tls_backend(self.cert, greeting(service.encode())))
        plane.share(port, service, *names)
        plane.backends(service, [self.backend.address])


@pytest.fixture
def port(plane: RunningPlane) -> int:
    return plane.free_number()


@pytest.fixture
def sites(plane: RunningPlane, tmp_path: Path, port: int) -> dict[str, Site]:
    """Two services on one port."""
    return {
        "shop": Site(plane, tmp_path, port, "shop", "shop.test"),
        "blog": Site(plane, tmp_path, port, "blog", "blog.test", "*.blog.test"),
    }


def shake(plane: RunningPlane, port: int, name: str | None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tls = context.wrap_socket(plane.client(port), server_hostname=name, suppress_ragged_eofs=False)
    plane.keep(tls)
    return tls


def der(issued: Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.x509.public_bytes(Encoding.DER)


def is_cut(client: ssl.SSLSocket) -> bool:
    """Whether the connection ended without a word: a reset, of which OpenSSL sometimes knows no more than an end."""
    with pytest.raises(OSError, match=r"(?i)reset|EOF"):
        client.recv(1)
    return True


def told(plane: RunningPlane, port: int, said: bytes) -> bytes:
    """What a client gets that says this."""
    client = plane.client(port)
    client.sendall(said)
    answer = receive_all(client)
    client.close()
    return answer


# -- Whom a client gets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "service"),
    [
        ("shop.test", "shop"),
        ("SHOP.Test", "shop"),
        ("blog.test", "blog"),
        ("x.blog.test", "blog"),
    ],
)
def test_D02_the_name_decides_whose_certificate_and_whose_words_a_client_gets(
    plane: RunningPlane, port: int, sites: dict[str, Site], asked: str, service: str
) -> None:
    client = shake(plane, port, asked)
    assert client.getpeercert(binary_form=True) == der(sites[service].cert)
    assert receive_exactly(client, 4) == service.encode()
    (view,) = plane.sessions()
    assert (view.service_id, view.server_name, view.backend_id) == (service, asked.lower(), "b1")
    other = "blog" if service == "shop" else "shop"
    assert (plane.counters(service).opened, plane.counters(other).opened) == (1, 0)
    client.close()
    eventually(lambda: sum(plane.closed(service).values()) == 1)


def test_D02_an_exact_name_goes_before_the_wildcard_of_another_service(
    plane: RunningPlane, tmp_path: Path, port: int, sites: dict[str, Site]
) -> None:
    Site(plane, tmp_path, port, "own", "own.blog.test")
    assert receive_exactly(shake(plane, port, "own.blog.test"), 3) == b"own"
    assert receive_exactly(shake(plane, port, "other.blog.test"), 4) == b"blog"


@pytest.mark.usefixtures("sites")
@pytest.mark.parametrize("name", ["stranger.test", "y.x.blog.test", None])
def test_D01_a_name_that_nobody_takes_gets_its_alert(plane: RunningPlane, port: int, name: str | None) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        shake(plane, port, name)
    plane.await_end("shop", Reason.SERVER_NAME_UNKNOWN)
    assert plane.counters("shop").opened == 1


@pytest.mark.usefixtures("sites")
@pytest.mark.parametrize(
    "name", [b"shop.test\0.evil.test", b"\xffshop.test", b"a" * 300, b"192.0.2.1", b"../shop.test", b"*.blog.test", b""]
)
def test_D02_K06_what_is_no_name_is_nobodys(plane: RunningPlane, port: int, name: bytes) -> None:
    assert told(plane, port, records(message(body([server_name(name)])))) == UNRECOGNIZED_NAME
    plane.await_end("shop", Reason.SERVER_NAME_UNKNOWN)


@pytest.mark.parametrize("name", ["stranger.test", "127.0.0.1", None])
def test_D01_a_service_without_names_gets_whom_no_other_takes(
    plane: RunningPlane, tmp_path: Path, port: int, sites: dict[str, Site], name: str | None
) -> None:
    rest = Site(plane, tmp_path, port, "rest")
    client = shake(plane, port, name)
    assert client.getpeercert(binary_form=True) == der(rest.cert)
    assert receive_exactly(client, 4) == b"rest"
    assert receive_exactly(shake(plane, port, "shop.test"), 4) == b"shop"


# -- What it says, and how ---------------------------------------------------------------------------------------------


def listening_service(plane: RunningPlane, port: int) -> socket.socket:
    """A service for ``shop.test`` whose backend the test serves itself."""
    backend = plane.listening()
    plane.share(port, "shop", "shop.test")
    plane.backends("shop", [address_of(backend)])
    return backend


def one_by_one(client: socket.socket, said: bytes) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in said:
        client.sendall(bytes([byte]))


@pytest.mark.parametrize("size", [1, 40, 16_384])
@pytest.mark.parametrize("send", [one_by_one, socket.socket.sendall])
def test_D03_in_whatever_pieces_it_comes_the_backend_gets_exactly_what_was_said(
    plane: RunningPlane, port: int, size: int, send: Callable[[socket.socket, bytes], None]
) -> None:
    backend = listening_service(plane, port)
    said = records(message(hello("shop.test")), size) + b"and what follows"
    client = plane.client(port)
    send(client, said)
    far = plane.keep(backend.accept()[0])
    far.settimeout(10)
    assert receive_exactly(far, len(said)) == said
    far.sendall(b"answer")
    assert receive_exactly(client, 6) == b"answer"
    client.shutdown(socket.SHUT_WR)
    assert far.recv(1) == b""
    far.close()
    plane.await_end("shop", Reason.CLIENT_CLOSED)
    assert plane.counters("shop").bytes_in == len(said)


@pytest.mark.parametrize("filling", [1_700, 4_000, LONGEST_HELLO - len(hello("shop.test"))])
def test_D04_a_hello_of_many_kilobytes_is_read(plane: RunningPlane, port: int, filling: int) -> None:
    backend = listening_service(plane, port)
    said = records(message(hello("shop.test", filling)), 1000)
    client = plane.client(port)
    client.sendall(said)
    far = plane.keep(backend.accept()[0])
    far.settimeout(10)
    assert receive_exactly(far, len(said)) == said
    client.close()


def test_D04_a_longer_one_is_refused_at_once(plane: RunningPlane, port: int) -> None:
    listening_service(plane, port)
    assert told(plane, port, records(b"\x01\x01\x00\x00")) == DECODE_ERROR
    plane.await_end("shop", Reason.TLS_HANDSHAKE_FAILED)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n", b"SSH-2.0-x\r\n", bytes(600)])
def test_D06_who_does_not_speak_TLS_is_closed_in_order(plane: RunningPlane, port: int, first: bytes) -> None:
    backend = plane.backend()
    plane.share(port, "shop", "shop.test")
    plane.backends("shop", [backend.address])
    assert told(plane, port, first) == b""
    plane.await_end("shop", Reason.TLS_HANDSHAKE_FAILED)
    assert backend.accepted == 0


def test_A02_an_end_right_behind_the_hello_is_passed_on_after_it(plane: RunningPlane, port: int) -> None:
    backend = listening_service(plane, port)
    said = records(message(hello("shop.test")))
    client = plane.client(port)
    client.sendall(said)
    client.shutdown(socket.SHUT_WR)
    far = plane.keep(backend.accept()[0])
    far.settimeout(10)
    assert receive_all(far) == said
    far.sendall(b"late answer")
    far.close()
    assert receive_all(client) == b"late answer"
    plane.await_end("shop", Reason.CLIENT_CLOSED)


@pytest.mark.parametrize("leave", [reset, socket.socket.close, lambda client: client.shutdown(socket.SHUT_WR)])
@pytest.mark.parametrize("said", [b"", records(message(hello("shop.test")))[:60]])
def test_D05_who_leaves_before_it_has_said_whom_it_wants_is_forgotten_at_once(
    plane: RunningPlane, port: int, said: bytes, leave: Callable[[socket.socket], None]
) -> None:
    listening_service(plane, port)
    client = plane.client(port)
    client.sendall(said)
    eventually(lambda: len(plane.plane.newcomers) == 1)
    leave(client)
    plane.await_end("shop", Reason.TLS_HANDSHAKE_FAILED)
    assert len(plane.plane.newcomers) == 0


def test_A03_a_reset_after_the_hello_reaches_the_backend(plane: RunningPlane, port: int) -> None:
    backend = listening_service(plane, port)
    client = plane.client(port)
    client.sendall(records(message(hello("shop.test"))))
    far = plane.keep(backend.accept()[0])
    far.settimeout(10)
    plane.await_open("shop")
    reset(client)
    with pytest.raises(ConnectionResetError):
        receive_all(far)
    plane.await_end("shop", Reason.CLIENT_RESET)


def test_much_data_passes_whole(plane: RunningPlane, tmp_path: Path, port: int) -> None:
    cert = issue(tmp_path, "shop.test")
    plane.share(port, "shop", "shop.test")
    plane.backends("shop", [plane.backend(tls_backend(cert, echo)).address])
    client = shake(plane, port, "shop.test")
    for begin in range(0, len(BULK), 1 << 16):
        client.sendall(BULK[begin : begin + (1 << 16)])
        assert receive_exactly(client, 1 << 16) == BULK[begin : begin + (1 << 16)]


def test_D16_a_proxy_introduces_a_client_before_it_says_whom_it_wants(plane: RunningPlane, port: int) -> None:
    """Header and ClientHello in one segment, or in pieces; the deadline is one for both."""
    backend = listening_service(plane, port)
    plane.set_policy("shop", accept_proxy=["127.0.0.1/32"])
    said = records(message(hello("shop.test")))
    for send in (socket.socket.sendall, one_by_one):
        client = plane.client(port)
        send(client, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" + said)
        far = plane.keep(backend.accept()[0])
        far.settimeout(10)
        assert receive_exactly(far, len(said)) == said
        (view,) = plane.sessions()
        assert (str(view.client), view.server_name) == ("192.0.2.7:4711", "shop.test")
        client.close()
        far.close()
        eventually(lambda: plane.sessions() == [])
    assert told_by_a_stranger(plane, port) == "reset"
    eventually(lambda: plane.closed("shop").get(Reason.PROXY_HEADER_INVALID) == 1)


@pytest.mark.usefixtures("sites")
def test_E16_a_service_that_wants_other_proxies_than_its_port_gets_nobody(plane: RunningPlane, port: int) -> None:
    plane.set_policy("blog", accept_proxy=["127.0.0.1/32"])
    client = plane.client(port)
    client.sendall(records(message(hello("blog.test"))))
    assert ends(client) in ("end", "reset")
    eventually(lambda: plane.closed("shop").get(Reason.PROXY_UNTRUSTED) == 1)  # which has the port longest
    assert shake(plane, port, "shop.test").recv(4) == b"shop"
    plane.set_policy("shop", accept_proxy=["127.0.0.1/32"])
    raw = plane.client(port)
    raw.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" + records(message(hello("blog.test"))))
    eventually(lambda: [str(view.client) for view in plane.sessions(service_id="blog")] == ["192.0.2.7:4711"])


def told_by_a_stranger(plane: RunningPlane, port: int) -> str:
    """How one ends whom no proxy introduces."""
    client = plane.client(port)
    client.sendall(records(message(hello("shop.test"))))
    return ends(client)


# -- How long, and how many --------------------------------------------------------------------------------------------


@plain_source
@pytest.mark.parametrize("said", [b"", b"\x16", records(message(hello("shop.test")))[:60]])
def test_D05_who_does_not_say_whom_it_wants_is_closed_at_the_deadline(
    plane: RunningPlane, port: int, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.newcomers.PATIENCE", 0.3)
    listening_service(plane, port)
    client = plane.client(port)
    client.sendall(said)
    assert ends(client) in ("end", "reset")
    plane.await_end("shop", Reason.TLS_HANDSHAKE_FAILED)


@plain_source
def test_D05_a_byte_now_and_then_does_not_extend_the_deadline(
    plane: RunningPlane, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.newcomers.PATIENCE", 0.5)
    listening_service(plane, port)
    client = plane.client(port)
    client.settimeout(0.05)
    begun = time.monotonic()
    for byte in records(message(hello("shop.test", filling=5000)), 1):
        try:
            client.sendall(bytes([byte]))
            client.recv(1)
        except TimeoutError:
            pass
        except OSError:
            break
        if plane.closed("shop"):
            break
        assert time.monotonic() - begun < 10
    plane.await_end("shop", Reason.TLS_HANDSHAKE_FAILED)


@plain_source
def test_J02_a_flood_of_silent_clients_lets_those_through_who_speak(
    plane: RunningPlane, port: int, sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.newcomers.MOST", 20)
    silent = [plane.client(port) for _ in range(60)]
    eventually(lambda: plane.closed("shop").get(Reason.LIMIT_NODE) == 40)
    assert len(plane.plane.newcomers) == 20
    assert receive_exactly(shake(plane, port, "blog.test"), 4) == b"blog"
    assert ends(silent[0]) in ("end", "reset")


# -- Services come and go ----------------------------------------------------------------------------------------------


def test_a_service_alone_and_without_names_hears_its_clients_from_the_first_moment(
    plane: RunningPlane, tmp_path: Path, port: int
) -> None:
    """Nobody looks at what they say; a backend that speaks first is heard. Until others come, and after they left."""
    plane.share(port, "any")
    plane.backends("any", [plane.backend(greeting(b"220 ready")).address])
    assert receive_exactly(plane.client(port), 9) == b"220 ready"
    Site(plane, tmp_path, port, "shop", "shop.test")
    assert receive_exactly(shake(plane, port, "shop.test"), 4) == b"shop"
    waiting = plane.client(port)
    eventually(lambda: len(plane.plane.newcomers) == 1)
    plane.close_port("shop")
    assert receive_exactly(plane.client(port), 9) == b"220 ready"
    waiting.sendall(records(message(hello("shop.test"))))  # it came while the port was shared
    assert receive_exactly(waiting, 9) == b"220 ready"


def test_deleting_one_leaves_the_others_their_port_and_their_sessions(
    plane: RunningPlane, port: int, sites: dict[str, Site]
) -> None:
    shop, blog = shake(plane, port, "shop.test"), shake(plane, port, "blog.test")
    assert receive_exactly(shop, 4) + receive_exactly(blog, 4) == b"shopblog"
    waiting = plane.client(port)
    eventually(lambda: len(plane.plane.newcomers) == 1)
    plane.close_port("shop")
    assert is_cut(shop)
    blog.sendall(b"still here")
    assert receive_exactly(blog, 10) == b"still here"
    assert receive_exactly(shake(plane, port, "blog.test"), 4) == b"blog"
    waiting.sendall(records(message(hello("shop.test"))))
    assert receive_all(waiting) == UNRECOGNIZED_NAME
    eventually(lambda: plane.closed("blog").get(Reason.SERVER_NAME_UNKNOWN) == 1)


def test_deleting_the_last_one_ends_those_who_have_not_spoken(
    plane: RunningPlane, port: int, sites: dict[str, Site]
) -> None:
    waiting = plane.client(port)
    waiting.sendall(b"\x16")
    eventually(lambda: len(plane.plane.newcomers) == 1)
    plane.close_port("blog")
    assert len(plane.plane.newcomers) == 1
    plane.close_port("shop")
    assert ends(waiting) in ("end", "reset")
    assert len(plane.plane.newcomers) == 0
    assert plane.plane.listening == set()
    with pytest.raises(ConnectionRefusedError):
        plane.client(port)


def test_other_names_count_from_the_next_client_on(plane: RunningPlane, port: int, sites: dict[str, Site]) -> None:
    client = shake(plane, port, "shop.test")
    assert receive_exactly(client, 4) == b"shop"
    plane.call(lambda: plane.plane.set_server_names("shop", ("store.test",)))
    client.sendall(b"on")
    assert receive_exactly(client, 2) == b"on"
    assert receive_exactly(shake(plane, port, "store.test"), 4) == b"shop"
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        shake(plane, port, "shop.test")


def test_policy_counters_kill_and_drain_are_those_of_the_service(
    plane: RunningPlane, port: int, sites: dict[str, Site]
) -> None:
    plane.set_policy("shop", max_sessions=1)
    shop, blog = shake(plane, port, "shop.test"), shake(plane, port, "blog.test")
    assert receive_exactly(shop, 4) + receive_exactly(blog, 4) == b"shopblog"
    with pytest.raises(OSError, match=r"(?i)reset|EOF"):
        shake(plane, port, "shop.test")
    eventually(lambda: plane.closed("shop") == {Reason.LIMIT_SERVICE: 1})
    assert plane.closed("blog") == {}
    assert plane.kill(service_id="shop") == 1
    assert is_cut(shop)
    plane.release("blog", "b1", 0)
    assert is_cut(blog)
    eventually(lambda: plane.closed("blog") == {Reason.BACKEND_REMOVED: 1})
    assert plane.closed("shop") == {Reason.LIMIT_SERVICE: 1, Reason.KILLED: 1}


def test_a_service_without_a_backend_says_so_and_the_others_go_on(
    plane: RunningPlane, port: int, sites: dict[str, Site]
) -> None:
    plane.backends("shop", [])
    with pytest.raises(OSError, match=r"(?i)reset|EOF"):
        shake(plane, port, "shop.test")
    plane.await_end("shop", Reason.NO_BACKEND)
    assert receive_exactly(shake(plane, port, "blog.test"), 4) == b"blog"


def test_clients_that_come_all_at_once_get_each_their_own(
    plane: RunningPlane, port: int, sites: dict[str, Site]
) -> None:
    wanted = [("shop", "shop.test"), ("blog", "blog.test"), ("blog", "x.blog.test")] * 20
    answers: list[bytes] = []

    def ask(name: str) -> None:
        answers.append(receive_exactly(shake(plane, port, name), 4))

    threads = [threading.Thread(target=ask, args=(name,)) for _, name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == sorted(service.encode() for service, _ in wanted)
    assert (plane.counters("shop").opened, plane.counters("blog").opened) == (20, 40)


def test_a_port_is_shared_on_ipv6_too(plane: RunningPlane, port: int) -> None:
    plane.share(port, "shop", "shop.test", host="::1")
    plane.backends("shop", [plane.backend(host="::1").address])
    client = plane.client(port, host="::1")
    said = records(message(hello("shop.test")))
    client.sendall(said)
    assert receive_exactly(client, len(said)) == said
