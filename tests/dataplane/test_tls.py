"""TLS on a port: handshakes, names, alerts, ends in order and others, and who may take how long."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from harbor.errors import PortTaken
from harbor.model import Reason
from harbor.model.tls import TlsRules, TlsTerms, UnknownName, Verify
from support.backends import echo, greeting, sending
from support.certificates import Issued, issue, terms
from support.needs import plain_source
from support.pairs import make, revocations
from support.plane import RunningPlane
from support.sockets import address_of, ends, receive_all, receive_exactly, reset
from support.tls_client import TlsClient
from support.waiting import eventually

BULK: Final = bytes(range(256)) * 4096 * 4  # 4 MiB
MOST_IN_A_SLICE: Final = 40  # hellos: no processor answers one in less than 25 µs


@pytest.fixture
def cert(tmp_path: Path) -> Issued:
    return issue(tmp_path, "harbor.test", "127.0.0.1")


def trusting(*issued: Issued) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for one in issued:
        context.load_verify_locations(one.certificate)
    return context


def shake(plane: RunningPlane, port: int, context: ssl.SSLContext, name: str | None = "harbor.test") -> ssl.SSLSocket:
    """A client that has shaken hands; a truncated end is an error to it."""
    raw = plane.client(port)
    tls = context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False)
    plane.keep(tls)
    return tls


def open_echo(plane: RunningPlane, tls: TlsTerms, serve: Callable[[socket.socket], None] = echo) -> int:
    port = plane.open(tls=tls)
    plane.backends(port, [plane.backend(serve).address])
    return port


def anybody() -> ssl.SSLContext:
    """A client that does not care who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def alert_of(error: ssl.SSLError) -> str:
    return str(error.reason)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_trusts_the_certificate_talks_to_the_backend(
    plane: RunningPlane, cert: Issued, version: ssl.TLSVersion
) -> None:
    port = open_echo(plane, terms(cert))
    context = trusting(cert)
    context.minimum_version = context.maximum_version = version
    client = shake(plane, port, context)
    for size in (1, 100, 16_384, 100_000):
        client.sendall(BULK[:size])
        assert receive_exactly(client, size) == BULK[:size]
    client.unwrap()
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_a_backend_that_speaks_first_is_heard(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert), greeting(b"220 ready\r\n"))
    assert receive_exactly(shake(plane, port, trusting(cert)), 11) == b"220 ready\r\n"


def test_what_comes_with_the_end_of_the_handshake_is_not_lost(plane: RunningPlane, cert: Issued) -> None:
    """The client's first words lie in the same segment as its Finished."""
    port = open_echo(plane, terms(cert))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(cert).wrap_bio(incoming, outgoing, server_hostname="harbor.test")
    raw = plane.client(port)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(65536))
    tls.write(b"first words")
    raw.sendall(outgoing.read())
    eventually(lambda: _read(raw, incoming, tls) == b"first words")


def _read(raw: socket.socket, incoming: ssl.MemoryBIO, tls: ssl.SSLObject) -> bytes:
    try:
        return tls.read(100)
    except ssl.SSLWantReadError:
        incoming.write(raw.recv(65536))
        return b""


def test_D03_a_client_hello_that_comes_byte_by_byte_is_one(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(cert).wrap_bio(incoming, outgoing, server_hostname="harbor.test")
    raw = plane.client(port)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    for byte in outgoing.read():
        raw.sendall(bytes([byte]))
    answer = raw.recv(65536)
    assert answer[0] == 22  # a handshake record: the server's hello


def test_much_data_passes_whole_both_ways(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert))
    client = shake(plane, port, trusting(cert))
    for begin in range(0, len(BULK), 1 << 18):  # one after the other: a TLS socket is not for two threads
        piece = BULK[begin : begin + (1 << 18)]
        client.sendall(piece)
        assert receive_exactly(client, len(piece)) == piece


def test_A05_a_reader_that_stops_costs_bounded_memory_and_loses_nothing(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert), sending(BULK * 3))
    client = shake(plane, port, trusting(cert))
    eventually(lambda: plane.plane.reactor.held > 0)
    assert plane.plane.reactor.held <= 512 * 1024
    assert receive_all(client) == BULK * 3  # and then an end in order, or this would raise
    client.unwrap()
    assert plane.plane.reactor.held == 0


def test_D10_both_ends_say_that_they_end(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert), sending(b"all there is"))
    client = shake(plane, port, trusting(cert))
    assert receive_all(client) == b"all there is"
    client.unwrap()  # raises if the other side did not say close_notify
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_A02_a_client_may_go_on_sending_after_the_backends_end(plane: RunningPlane, cert: Issued) -> None:
    """Much of what it sends lies in the node unread when the backend ends: close_notify must not be at its cost."""
    backend = plane.listening()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [address_of(backend)])
    near = TlsClient(plane.client(port), trusting(cert), "harbor.test")
    far = plane.keep(backend.accept()[0])
    sender = threading.Thread(target=lambda: (near.sendall(BULK * 2), near.end()))
    sender.start()
    eventually(lambda: plane.plane.reactor.held > 0)
    far.shutdown(socket.SHUT_WR)
    eventually(lambda: plane.sessions()[0].state == "half_closed")
    assert receive_all(far) == BULK * 2
    sender.join()
    assert near.recv(100) == b""  # close_notify, or this would raise
    plane.await_end(port, Reason.BACKEND_CLOSED)


@pytest.mark.parametrize("http", [False, True], ids=["bytes", "http"])
def test_D10_close_notify_is_said_even_where_the_last_bytes_have_filled_the_socket(
    plane: RunningPlane, cert: Issued, http: bool
) -> None:
    """How much that is depends on the kernel, so all of the neighbourhood is tried."""
    backend = plane.listening()
    port = plane.open(tls=terms(cert), http=http)
    plane.backends(port, [address_of(backend)])
    head = b"HTTP/1.1 200 OK\r\n\r\n" if http else b""
    for size in range(1000, 4000, 150):
        near = TlsClient(plane.client(port, receive_buffer=4096), trusting(cert), "harbor.test")
        far = plane.keep(backend.accept()[0])
        plane.await_open(port)
        plane.call(lambda: _smallest_send_buffer(plane, port))
        if http:
            near.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            receive_exactly(far, 1)
        said = head + BULK[:size]
        for begin in range(0, len(said), 500):
            far.sendall(said[begin : begin + 500])
            eventually(lambda: plane.sessions()[0].bytes_out >= begin or plane.plane.reactor.held)  # noqa: B023
        far.shutdown(socket.SHUT_WR)
        eventually(lambda: _is_answered(plane))
        assert receive_all(near) == said  # and then close_notify, or this would raise
        near.raw.close()
        eventually(lambda: not plane.sessions())


def _smallest_send_buffer(plane: RunningPlane, port: int) -> None:
    for session in plane.plane._ports[str(port)].tcp.sessions.values():
        session.client_socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def _is_answered(plane: RunningPlane) -> bool:
    """Whether the backend's end was read, or waits behind what is held."""
    views = plane.sessions()
    return plane.plane.reactor.held > 0 or not views or views[0].state == "half_closed"


def test_D10_a_client_that_hangs_up_without_saying_so_is_a_reset_to_the_backend(
    plane: RunningPlane, cert: Issued
) -> None:
    backend = plane.listening()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [address_of(backend)])
    client = shake(plane, port, trusting(cert))
    far = plane.keep(backend.accept()[0])
    far.settimeout(10)
    client.sendall(b"half a requ")
    assert receive_exactly(far, 11) == b"half a requ"
    client.shutdown(socket.SHUT_WR)
    assert ends(far) == "reset"
    plane.await_end(port, Reason.TLS_TRUNCATED)


def test_A04_a_backend_that_is_reset_leaves_the_client_without_an_end_in_order(
    plane: RunningPlane, cert: Issued
) -> None:
    backend = plane.listening()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [address_of(backend)])
    client = shake(plane, port, trusting(cert))
    far = plane.keep(backend.accept()[0])
    reset(far)
    with pytest.raises(OSError, match=r"(?i)reset|EOF"):
        client.recv(100)
    plane.await_end(port, Reason.BACKEND_RESET)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("a.test", "a"),
        ("A.TEST", "a"),
        ("x.wild.test", "wild"),
        ("exact.wild.test", "exact"),
        ("x.y.wild.test", "a"),
        (None, "a"),
        ("stranger.test", "a"),
    ],
)
def test_D02_the_name_decides_which_certificate_is_shown(
    plane: RunningPlane, tmp_path: Path, asked: str | None, shown: str
) -> None:
    known = {
        "a": issue(tmp_path, "a.test"),
        "wild": issue(tmp_path, "*.wild.test"),
        "exact": issue(tmp_path, "exact.wild.test"),
    }
    port = open_echo(plane, terms(*known.values()))
    client = shake(plane, port, anybody(), asked)
    assert client.getpeercert(binary_form=True) == _der(known[shown])


@pytest.mark.parametrize(("asked", "told"), [("A.test", "a.test"), ("stranger.test", None), (None, None)])
def test_a_session_tells_the_name_that_decided(
    plane: RunningPlane, tmp_path: Path, asked: str | None, told: str | None
) -> None:
    port = open_echo(plane, terms(issue(tmp_path, "b.test"), issue(tmp_path, "a.test")))
    shake(plane, port, anybody(), asked)
    eventually(lambda: [one.server_name for one in plane.sessions()] == [told])


def _der(issued: Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.x509.public_bytes(Encoding.DER)


def test_D01_an_unknown_name_is_refused_with_its_alert_where_the_rules_say_so(
    plane: RunningPlane, cert: Issued
) -> None:
    port = open_echo(plane, terms(cert, unknown_name=UnknownName.REJECT))
    for name in ("stranger.test", None):
        with pytest.raises(ssl.SSLError) as failure:
            shake(plane, port, anybody(), name)
        assert alert_of(failure.value) == "TLSV1_UNRECOGNIZED_NAME"
    assert shake(plane, port, trusting(cert)).version() == "TLSv1.3"
    eventually(lambda: plane.closed(port).get(Reason.TLS_HANDSHAKE_FAILED) == 2)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(600)])
def test_D06_who_does_not_speak_TLS_is_closed_and_the_backend_hears_nothing(
    plane: RunningPlane, cert: Issued, first: bytes
) -> None:
    backend = plane.backend()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [backend.address])
    client = plane.client(port)
    client.sendall(first)
    answer = receive_all(client)
    assert answer == b"" or answer[0] == 21  # nothing, or an alert
    client.close()
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)
    assert backend.accepted == 0


@pytest.mark.parametrize("offered", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_D07_old_versions_are_refused_with_the_right_alert(
    plane: RunningPlane, cert: Issued, offered: ssl.TLSVersion
) -> None:
    port = open_echo(plane, terms(cert))
    context = anybody()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = offered
    with pytest.raises(ssl.SSLError) as failure:
        shake(plane, port, context)
    assert alert_of(failure.value) == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_D07_a_service_may_insist_on_TLS_1_3(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert, min_version="1.3"))
    context = trusting(cert)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as failure:
        shake(plane, port, context)
    assert alert_of(failure.value) == "TLSV1_ALERT_PROTOCOL_VERSION"
    assert shake(plane, port, trusting(cert)).version() == "TLSv1.3"


def test_D08_a_ticket_of_one_service_is_worth_nothing_at_another(plane: RunningPlane, cert: Issued) -> None:
    ports = [open_echo(plane, terms(cert)) for _ in range(2)]
    context = trusting(cert)
    session = _ticket(plane, ports[0], context)
    for port, reused in ((ports[0], True), (ports[1], False)):
        again = context.wrap_socket(plane.client(port), server_hostname="harbor.test", session=session)
        plane.keep(again)
        assert again.session_reused is reused


def _ticket(plane: RunningPlane, port: int, context: ssl.SSLContext) -> Any:
    first = shake(plane, port, context)
    first.sendall(b"x")
    receive_exactly(first, 1)  # a ticket of TLS 1.3 comes with the first data
    session = first.session
    assert session is not None
    first.unwrap()
    return session


def test_D09_early_data_is_not_accepted(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert))
    session = _ticket(plane, port, trusting(cert))
    assert session.has_ticket
    assert b"\x00\x2a" not in session.id  # and OpenSSL would only offer it if the server had allowed some
    door = plane.plane._ports[str(port)].tcp.door
    assert all(context.num_tickets > 0 for context in door._contexts.values())


def test_D11_another_certificate_is_shown_from_the_next_handshake_on_and_sessions_live(
    plane: RunningPlane, tmp_path: Path, cert: Issued
) -> None:
    port = open_echo(plane, terms(cert))
    context = trusting(cert)
    old = shake(plane, port, context)
    ticket = _ticket(plane, port, context)
    renewed = issue(tmp_path, "harbor.test")
    plane.call(lambda: plane.plane.set_tls(str(port), terms(renewed)))
    new = shake(plane, port, trusting(renewed))
    assert new.getpeercert(binary_form=True) == _der(renewed)
    old.sendall(b"still here")
    assert receive_exactly(old, 10) == b"still here"
    resumed = context.wrap_socket(plane.client(port), server_hostname="harbor.test", session=ticket)
    plane.keep(resumed)
    assert resumed.session_reused  # tickets survive


def test_D12_a_certificate_that_cannot_be_loaded_leaves_the_former(
    plane: RunningPlane, tmp_path: Path, cert: Issued
) -> None:
    port = open_echo(plane, terms(cert))
    bad = issue(tmp_path, "harbor.test")
    bad.file.write_bytes(bad.certificate.read_bytes())  # no key
    with pytest.raises(OSError, match=r".") as failure:
        plane.call(lambda: plane.plane.set_tls(str(port), terms(bad)))
    assert isinstance(failure.value, ssl.SSLError)
    assert shake(plane, port, trusting(cert)).getpeercert(binary_form=True) == _der(cert)


def test_D12_a_port_whose_certificate_is_lost_is_not_opened_and_leaves_nothing(
    plane: RunningPlane, cert: Issued
) -> None:
    lost = terms(cert)
    cert.file.unlink()
    with pytest.raises(PortTaken, match="cannot show its certificate"):
        plane.open(tls=lost, port=plane.free_number())


def test_D14_a_protocol_is_negotiated_only_where_the_service_offers_some(plane: RunningPlane, cert: Issued) -> None:
    silent, offering = open_echo(plane, terms(cert)), open_echo(plane, terms(cert, alpn=("http/1.1",)))
    context = trusting(cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert shake(plane, silent, context).selected_alpn_protocol() is None
    assert shake(plane, offering, context).selected_alpn_protocol() == "http/1.1"
    context.set_alpn_protocols(["h2"])
    assert shake(plane, offering, context).selected_alpn_protocol() is None


def test_D15_what_is_sent_before_the_handshake_is_never_taken_for_data(plane: RunningPlane, cert: Issued) -> None:
    backend = plane.backend()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [backend.address])
    client = plane.client(port)
    client.sendall(b"\x17\x03\x03\x00\x05hello")  # an application data record, before any handshake
    client.shutdown(socket.SHUT_WR)
    receive_all(client)
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)
    assert backend.accepted == 0


def test_a_client_without_the_certificate_that_is_asked_for_is_refused(
    plane: RunningPlane, tmp_path: Path, cert: Issued
) -> None:
    authority = issue(tmp_path, "authority.test", is_ca=True)
    member = issue(tmp_path, "member.test", by=authority)
    stranger = issue(tmp_path, "stranger.test")
    port = open_echo(plane, terms(cert, ca=authority, verify=Verify.REQUIRED))
    for shown, alert in ((None, "TLSV13_ALERT_CERTIFICATE_REQUIRED"), (stranger, "TLSV1_ALERT_UNKNOWN_CA")):
        context = trusting(cert)
        if shown is not None:
            context.load_cert_chain(shown.file)
        with pytest.raises(ssl.SSLError) as failure:
            shake(plane, port, context).recv(1)  # TLS 1.3 clients learn it after their own part
        assert alert_of(failure.value) == alert
    context = trusting(cert)
    context.load_cert_chain(member.file)
    client = shake(plane, port, context)
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"hello"


def test_a_list_of_revoked_certificates_that_has_run_out_refuses_all_clients(
    plane: RunningPlane, tmp_path: Path, cert: Issued
) -> None:
    authority = make("Clients CA", is_ca=True)
    member = make("member.test", by=authority)
    for name, text in (("ca", authority.own), ("member", member.key + member.own)):
        (tmp_path / f"{name}.pem").write_text(text)
    for days, is_heard in ((7, True), (-1, False)):
        (tmp_path / f"crl{days}.pem").write_text(revocations(authority, days=days))
        shown = TlsTerms(
            TlsRules(verify=Verify.REQUIRED),
            (cert.identity(),),
            str(tmp_path / "ca.pem"),
            str(tmp_path / f"crl{days}.pem"),
        )
        port = open_echo(plane, shown)
        context = trusting(cert)
        context.load_cert_chain(tmp_path / "member.pem")
        client = shake(plane, port, context)  # of TLS 1.3: what the server thinks of it, it says afterwards
        client.sendall(b"hello")
        if is_heard:
            assert receive_exactly(client, 5) == b"hello"
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                client.recv(5)
            plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)


def _hello(extension: int, padding: int) -> bytes:
    """A client's hello with one more extension of so many bytes, as its handshake message."""
    record = _client_hello()
    message = record[5:]
    at = 4 + 2 + 32
    at += 1 + message[at]  # session id
    at += 2 + int.from_bytes(message[at : at + 2], "big")  # cipher suites
    at += 1 + message[at]  # compression
    extensions = message[at + 2 :]
    more = extension.to_bytes(2, "big") + padding.to_bytes(2, "big") + bytes(padding)
    if extension == KEY_SHARE:
        extensions, more = _with_share(extensions, padding), b""
    body = message[4:at] + (len(extensions) + len(more)).to_bytes(2, "big") + more + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def _with_share(extensions: bytes, size: int) -> bytes:
    """The same with a key of so many bytes for X25519MLKEM768 before the client's others."""
    found = bytearray()
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2], "big")
        length = int.from_bytes(extensions[at + 2 : at + 4], "big")
        value = extensions[at + 4 : at + 4 + length]
        if kind == KEY_SHARE:
            shares = b"\x11\xec" + size.to_bytes(2, "big") + bytes(size) + value[2:]
            value = len(shares).to_bytes(2, "big") + shares
        elif kind == GROUPS:
            value = (len(value)).to_bytes(2, "big") + b"\x11\xec" + value[2:]
        found += kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        at += 4 + length
    return bytes(found)


def _records(message: bytes) -> bytes:
    parts = [message[begin : begin + 16_384] for begin in range(0, len(message), 16_384)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


KEY_SHARE: Final = 51
GROUPS: Final = 10
UNKNOWN: Final = 0xFE0D - 1


def test_D15_what_follows_a_hello_in_plain_text_is_never_taken_for_data(plane: RunningPlane, cert: Issued) -> None:
    backend = plane.backend()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [backend.address])
    client = plane.client(port)
    client.sendall(_client_hello() + b"\x17\x03\x03\x00\x05hello" + b"GET / HTTP/1.1\r\n\r\n")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client)[0] == 22  # the server's part of the handshake, and then its alert
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)
    assert backend.accepted == 0


@pytest.mark.parametrize(
    ("extension", "size"), [(KEY_SHARE, 1216), (UNKNOWN, 1500), (UNKNOWN, 15_900), (UNKNOWN, 16_384)]
)
def test_D04_a_long_client_hello_is_answered(plane: RunningPlane, cert: Issued, extension: int, size: int) -> None:
    """A key for a hybrid with ML-KEM has 1,216 bytes; one of 16 KiB takes two records."""
    port = open_echo(plane, terms(cert))
    client = plane.client(port)
    client.sendall(_records(_hello(extension, size)))
    answer = receive_exactly(client, 6)
    assert (answer[0], answer[5]) == (22, 2)  # a handshake record with the server's hello


@pytest.mark.parametrize("declared", [200_000, 0xFFFFFF])
def test_D04_a_hello_that_says_that_it_is_huge_is_refused_at_once(
    plane: RunningPlane, cert: Issued, declared: int
) -> None:
    backend = plane.backend()
    port = plane.open(tls=terms(cert))
    plane.backends(port, [backend.address])
    client = plane.client(port)
    client.sendall(b"\x16\x03\x01\x00\x06\x01" + declared.to_bytes(3, "big") + b"\x03\x03")
    assert receive_exactly(client, 1) == b"\x15"  # an alert
    client.close()
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)
    assert backend.accepted == 0


def test_D04_hellos_that_declare_64_KiB_and_do_not_come_cost_bounded_memory(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert))
    before = _resident()
    clients = [plane.client(port) for _ in range(200)]
    for client in clients:
        client.sendall(b"\x16\x03\x01\x00\x06\x01" + (65_000).to_bytes(3, "big") + b"\x03\x03")
    eventually(lambda: len(plane.plane.newcomers) == 200)
    assert _resident() - before < 200 * 160 * 1024
    through = shake(plane, port, trusting(cert))
    through.sendall(b"through")
    assert receive_exactly(through, 7) == b"through"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@plain_source
@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_D05_who_does_not_finish_its_handshake_is_closed_at_the_deadline(
    plane: RunningPlane, cert: Issued, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.newcomers.PATIENCE", 0.3)
    port = open_echo(plane, terms(cert))
    client = plane.client(port)
    client.sendall(said)
    assert ends(client) in ("end", "reset")
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)


@plain_source
def test_D05_a_byte_now_and_then_does_not_extend_the_deadline(
    plane: RunningPlane, cert: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.newcomers.PATIENCE", 0.5)
    port = open_echo(plane, terms(cert))
    client = plane.client(port)
    client.settimeout(0.05)
    client.sendall(b"\x16\x03\x01\x02\x00\x01")
    begun = time.monotonic()
    while not plane.closed(port):
        try:
            client.sendall(b"\x00")
            client.recv(1)
        except TimeoutError:
            pass
        except OSError:
            break
        assert time.monotonic() - begun < 10
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)


@plain_source
def test_D18_J02_when_too_many_shake_hands_the_oldest_gives_way(
    plane: RunningPlane, cert: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.newcomers.MOST", 20)
    port = open_echo(plane, terms(cert))
    idle = [plane.client(port) for _ in range(60)]
    eventually(lambda: plane.closed(port).get(Reason.LIMIT_NODE) == 40)
    client = shake(plane, port, trusting(cert))
    client.sendall(b"through")
    assert receive_exactly(client, 7) == b"through"
    assert ends(idle[0]) in ("end", "reset")


def test_D18_a_flood_of_handshakes_leaves_plain_forwarding_its_turns(plane: RunningPlane, cert: Issued) -> None:
    """Two hundred hellos are answered a few at a time, and between them the reactor asks who else has news."""
    tls_port = open_echo(plane, terms(cert))
    clients = [plane.client(tls_port) for _ in range(200)]
    eventually(lambda: len(plane.plane.newcomers) == 200)
    hello, before = _client_hello(), plane.plane.reactor.polls

    def all_at_once() -> None:
        for client in clients:
            client.sendall(hello)

    plane.call(all_at_once)
    for client in clients:
        assert client.recv(1) == b"\x16"  # the server's part of the handshake
    assert plane.plane.reactor.polls - before >= 200 // MOST_IN_A_SLICE


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        anybody().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_port_that_closes_ends_its_handshakes(plane: RunningPlane, cert: Issued) -> None:
    port = open_echo(plane, terms(cert))
    client = plane.client(port)
    client.sendall(b"\x16")
    eventually(lambda: len(plane.plane.newcomers) == 1)
    plane.close_port(port)
    assert ends(client) in ("end", "reset")
    assert len(plane.plane.newcomers) == 0


def test_an_idle_session_is_cut_as_any_other(plane: RunningPlane, cert: Issued) -> None:
    port = plane.open(tls=terms(cert), idle_timeout=0.2)
    plane.backends(port, [plane.backend().address])
    client = shake(plane, port, trusting(cert))
    with pytest.raises(OSError, match=r"(?i)reset|EOF"):
        client.recv(1)
    plane.await_end(port, Reason.IDLE_TIMEOUT)
