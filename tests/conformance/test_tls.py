"""TLS: ended at the proxy, spoken to backends, and passed on by server name."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from conformance.differences import differs
from conformance.proxy import Proxy
from harbor.model import Address
from support.backends import Backend, greeting
from support.client_hello import hello, message, records
from support.ends import TlsEnd, all_of, how_it_ends, so_much
from support.pairs import Made, authority, issued_by, make
from support.sockets import address_of, ends, receive_all, receive_exactly, reset

CA: Final = authority()
SHOP, BLOG = issued_by(CA, "shop.test"), issued_by(CA, "blog.test")
USERS: Final = make(subject="Users", is_ca=True)
USER: Final = make("user", by=USERS)
NO_CLOSE_NOTIFY: Final = (
    "ends without close_notify, so that what is whole looks cut off: `proxy_half_close on` ends the "
    "connection below TLS; with `off` it sends one, and cuts the other direction off"
)
MUCH: Final = bytes(range(256)) * (8 << 12)  # 8 MiB


def trusting(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that believes the authority, and speaks only this version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=CA.own)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def secured(proxy: Proxy, port: Address, context: ssl.SSLContext | None = None, name: str = "shop.test") -> TlsEnd:
    """A client of the port that has shaken hands."""
    end = TlsEnd(proxy.client(port), context or trusting(), False, name)
    end.shake_hands()
    return end


def secure_pair(proxy: Proxy, **wish: Any) -> tuple[TlsEnd, socket.socket]:
    """A session whose TLS ends at the proxy: the client's end and the backend's."""
    backend = proxy.listening()
    near = secured(proxy, proxy.open(address_of(backend), certificates=(SHOP,), **wish))
    near.sendall(b"x")
    far = proxy.accepted(backend)
    assert receive_exactly(far, 1) == b"x"
    return near, far


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_may_speak_TLS_1_2_or_1_3(proxy: Proxy, version: ssl.TLSVersion) -> None:
    near = secured(proxy, proxy.open(proxy.backend().address, certificates=(SHOP,)), trusting(version))
    near.sendall(b"sealed")
    assert so_much(near, 6) == b"sealed"


def test_D07_a_version_that_is_too_old_is_refused_by_an_alert(proxy: Proxy) -> None:
    backend = proxy.backend()
    port = proxy.open(backend.address, certificates=(SHOP,), min_version="1.3")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        secured(proxy, port, trusting(ssl.TLSVersion.TLSv1_2))
    secured(proxy, port)


def test_D02_the_server_name_chooses_the_certificate_whatever_its_case(proxy: Proxy) -> None:
    port = proxy.open(proxy.backend().address, certificates=(SHOP, BLOG))
    for asked, shown in (("shop.test", SHOP), ("blog.test", BLOG), ("BLOG.test", BLOG), ("other.test", SHOP)):
        context = trusting()
        context.check_hostname = False
        assert secured(proxy, port, context, asked).tls.getpeercert(binary_form=True) == der(shown), asked


def der(made: Made) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made.own)


def test_D06_what_is_no_TLS_never_reaches_a_backend(proxy: Proxy) -> None:
    backend = proxy.listening()
    client = proxy.client(proxy.open(address_of(backend), certificates=(SHOP,)))
    client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
    assert ends(client) in ("end", "reset")
    backend.settimeout(0)
    with contextlib.suppress(BlockingIOError), backend.accept()[0] as far:  # some dial before the handshake
        far.settimeout(proxy.patience)
        assert receive_all(far) == b""


@differs(nginx=NO_CLOSE_NOTIFY)
def test_D10_the_end_of_a_backend_is_told_by_close_notify(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    far.sendall(b"goodbye")
    far.close()
    assert all_of(near) == b"goodbye"


@differs(haproxy="sends close_notify all the same: what was cut off looks whole")
def test_D10_a_backend_that_is_cut_off_ends_nothing_in_order(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    far.sendall(b"good")
    assert so_much(near, 4) == b"good"
    reset(far)
    assert how_it_ends(near) == "cut"


@differs(nginx=NO_CLOSE_NOTIFY)
def test_A01_a_client_that_has_ended_its_side_of_TLS_is_still_answered(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    near.sendall(b"question")
    near.end()
    assert receive_all(far) == b"question"
    far.sendall(b"answer")
    far.close()
    assert all_of(near) == b"answer"


@differs(nginx=NO_CLOSE_NOTIFY)
def test_A02_a_backend_that_has_ended_its_side_still_hears_a_client_in_TLS(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    far.sendall(b"goodbye")
    far.shutdown(socket.SHUT_WR)
    assert all_of(near) == b"goodbye"
    near.sendall(b"one more thing")
    near.end()
    assert receive_all(far) == b"one more thing"


@differs(nginx="ends the connection to the backend in order, as without TLS")
def test_A03_a_reset_of_a_client_in_TLS_reaches_the_backend_as_a_reset(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    near.cut()
    assert ends(far) == "reset"


@differs(nginx=NO_CLOSE_NOTIFY)
def test_A05_much_data_in_TLS_arrives_exactly_and_is_ended_in_order(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    sender = threading.Thread(target=lambda: (far.sendall(MUCH), far.close()))
    sender.start()
    assert all_of(near) == MUCH
    sender.join()


def test_A06_much_data_out_of_TLS_arrives_exactly(proxy: Proxy) -> None:
    near, far = secure_pair(proxy)
    sender = threading.Thread(target=lambda: (near.sendall(MUCH), near.end()))
    sender.start()
    assert receive_all(far) == MUCH
    sender.join()


def test_A07_a_backend_may_speak_first_in_TLS(proxy: Proxy) -> None:
    near = secured(proxy, proxy.open(proxy.backend(greeting(b"220 ready")).address, certificates=(SHOP,)))
    assert so_much(near, 9) == b"220 ready"


def test_D14_the_protocol_is_one_that_both_have(proxy: Proxy) -> None:
    port = proxy.open(proxy.backend().address, certificates=(SHOP,), alpn=("http/1.1",))
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert secured(proxy, port, context).tls.selected_alpn_protocol() == "http/1.1"


def test_a_client_has_to_show_a_certificate_that_is_trusted(proxy: Proxy, tmp_path: Path) -> None:
    port = proxy.open(proxy.backend(greeting(b"hello")).address, certificates=(SHOP,), clients_by=USERS)
    for who, wanted in ((USER, b"hello"), (make("user"), b""), (None, b"")):
        context = trusting()
        if who is not None:
            file = tmp_path / "user.pem"
            file.write_text(who.key + who.chain)
            context.load_cert_chain(file)
        assert greeted(proxy, port, context) == wanted


def greeted(proxy: Proxy, port: Address, context: ssl.SSLContext) -> bytes:
    """What a client hears in TLS; nothing if it is refused."""
    try:
        return so_much(secured(proxy, port, context), 5)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_D16_a_PROXY_header_may_stand_before_the_handshake(proxy: Proxy) -> None:
    backend = proxy.backend(greeting(b"hello"))
    port = proxy.open(backend.address, certificates=(SHOP,), accept_proxy=("127.0.0.0/8",))
    client = proxy.client(port)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # what follows waits for more, so both are one segment
    client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n")
    near = TlsEnd(client, trusting(), False, "shop.test")
    near.shake_hands()
    assert so_much(near, 5) == b"hello"


# TLS to backends.


def secure_backend(proxy: Proxy, tmp_path: Path, made: Made, text: bytes = b"hello") -> Backend:
    """A backend that shows this and greets in TLS."""
    file = tmp_path / f"{made.fingerprint}.pem"
    file.write_text(made.key + made.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def serve(conn: socket.socket) -> None:
        end = TlsEnd(conn, context, True)
        end.shake_hands()
        end.sendall(text)
        while data := end.recv():
            end.sendall(data)
        end.end()

    return proxy.backend(serve)


def test_a_backend_that_shows_what_it_should_is_spoken_to_in_TLS(proxy: Proxy, tmp_path: Path) -> None:
    backend = secure_backend(proxy, tmp_path, SHOP)
    client = proxy.client(proxy.open(backend.address, backends_by=CA, backend_name="shop.test"))
    assert receive_exactly(client, 5) == b"hello"
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"question"


@pytest.mark.parametrize("made", [BLOG, make("shop.test")], ids=["other-name", "other-authority"])
def test_a_backend_that_shows_something_else_hears_nothing(proxy: Proxy, tmp_path: Path, made: Made) -> None:
    backend = secure_backend(proxy, tmp_path, made)
    client = proxy.client(proxy.open(backend.address, backends_by=CA, backend_name="shop.test"))
    assert ends(client) in ("end", "reset")


def test_D17_a_backend_that_speaks_in_the_clear_is_not_passed_on(proxy: Proxy) -> None:
    backend = proxy.backend(greeting(b"in the clear, which nobody should read"))
    client = proxy.client(proxy.open(backend.address, backends_by=CA, backend_name="shop.test"))
    try:
        assert receive_all(client) == b""
    except ConnectionResetError:
        pass


# TLS passed on by server name.


def routed(proxy: Proxy, tmp_path: Path) -> Address:
    """A port that is shared by name: two have one each, and a third the rest."""
    shop, blog = secure_backend(proxy, tmp_path, SHOP, b"shop!"), secure_backend(proxy, tmp_path, BLOG, b"blog!")
    rest = secure_backend(proxy, tmp_path, issued_by(CA, "other.test"), b"other")
    return proxy.open(rest.address, names={"shop.test": shop.address, "blog.test": blog.address})


def test_the_server_name_chooses_the_backend_and_TLS_is_left_as_it_is(proxy: Proxy, tmp_path: Path) -> None:
    port = routed(proxy, tmp_path)
    for name, wanted in (("shop.test", b"shop!"), ("blog.test", b"blog!"), ("other.test", b"other")):
        assert so_much(secured(proxy, port, name=name), 5) == wanted


def test_D02_case_means_nothing_in_a_server_name_that_chooses_a_backend(proxy: Proxy, tmp_path: Path) -> None:
    port = routed(proxy, tmp_path)
    assert so_much(secured(proxy, port, name="BLOG.test"), 5) == b"blog!"


def test_D03_a_ClientHello_may_come_byte_by_byte(proxy: Proxy, tmp_path: Path) -> None:
    assert first_byte(proxy, tmp_path, records(message(hello("blog.test"))), 1) == b"blog"


@differs(haproxy="looks for the name in the first record only, and takes it for none")
def test_D03_a_ClientHello_may_come_in_several_records(proxy: Proxy, tmp_path: Path) -> None:
    said = records(message(hello("blog.test")), 50)
    assert first_byte(proxy, tmp_path, said, len(said)) == b"blog"


def test_D04_a_ClientHello_may_be_large(proxy: Proxy, tmp_path: Path) -> None:
    said = records(message(hello("blog.test", filling=10_000)))
    assert first_byte(proxy, tmp_path, said, len(said)) == b"blog"


def first_byte(proxy: Proxy, tmp_path: Path, said: bytes, size: int) -> bytes:
    """Who hears a ClientHello that comes in pieces of this size, and whether all of it."""
    heard: dict[bytes, bytes] = {}

    def hearing(name: bytes) -> Backend:
        def serve(conn: socket.socket) -> None:
            heard[name] = receive_exactly(conn, len(said))
            conn.sendall(name)

        return proxy.backend(serve)

    port = proxy.open(hearing(b"rest").address, names={"blog.test": hearing(b"blog").address})
    client = proxy.client(port)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(said), size):
        client.sendall(said[at : at + size])
    who = receive_exactly(client, 4)
    assert heard == {who: said}
    return who
