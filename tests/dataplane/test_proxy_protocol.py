"""PROXY headers on sockets: who may send one, what follows it, when it comes too late, and what backends are told."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest

from harbor.dataplane import newcomers
from harbor.dataplane.tls import Handshake
from harbor.model import Address, Drop, Protocol, Reason, SessionQuery
from harbor.model.tls import BackendTls
from harbor.policy.proxy_header import LOCAL, SIGNATURE, tls_tlvs, write_simple, write_v1, write_v2
from support.backends import echo, greeting
from support.certificates import Issued, issue, terms
from support.needs import needs, plain_source
from support.plane import Planes, Reacting, RunningPlane
from support.sockets import address_of, ends, is_silent, listening, receive_all, receive_exactly, reset
from support.waiting import eventually

LOOPBACK: Final = ["127.0.0.0/8", "::1"]
CLIENT, SERVER = Address("192.0.2.7", 50000), Address("198.51.100.1", 443)
CLIENT6, SERVER6 = Address("2001:db8::7", 50000), Address("2001:db8::1", 443)
V1: Final = write_v1(CLIENT, SERVER)
V2: Final = write_v2(CLIENT, SERVER, Protocol.TCP)
V2_UDP: Final = write_v2(CLIENT, SERVER, Protocol.UDP)
HEADERS: Final = {
    "v1": (V1, CLIENT),
    "v1-tcp6": (write_v1(CLIENT6, SERVER6), CLIENT6),
    "v2": (V2, CLIENT),
    "v2-tcp6": (write_v2(CLIENT6, SERVER6, Protocol.TCP), CLIENT6),
    "v2-values": (
        write_v2(CLIENT, SERVER, Protocol.TCP, tls_tlvs("TLSv1.3", "shop.test", has_certificate=True)),
        CLIENT,
    ),
}
MEASURED: Final = Path(__file__).parents[1] / "support" / "measured_plane.py"


@pytest.fixture
def cert(tmp_path: Path) -> Issued:
    return issue(tmp_path, "harbor.test", "127.0.0.1")


@pytest.fixture
def port(plane: RunningPlane) -> int:
    """A port that takes headers, with an echoing backend."""
    number = plane.open(accept_proxy=LOOPBACK)
    plane.backends(number, [plane.backend().address])
    return number


def client_of(plane: RunningPlane, port: int) -> Address:
    """Who the client of the only session is, as views show it."""
    (view,) = plane.sessions(service_id=str(port))
    return view.client


def trusting(cert: Issued) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cert.certificate)
    return context


# Inward, TCP.


@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
def test_E01_the_client_is_whom_the_header_names(
    plane: RunningPlane, port: int, header: bytes, client: Address
) -> None:
    proxy = plane.client(port)
    proxy.sendall(header + b"payload")
    assert receive_exactly(proxy, 7) == b"payload"
    assert client_of(plane, port) == client


@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
def test_E06_a_header_that_comes_byte_by_byte_is_one_and_the_payload_is_exact(
    plane: RunningPlane, port: int, header: bytes, client: Address
) -> None:
    proxy = plane.client(port)
    proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(header) - 1):
        proxy.sendall(header[at : at + 1])
        if at % 16 == 0:
            eventually(lambda: len(plane.plane.newcomers) == 1)
    assert plane.sessions() == []
    payload = b"\r\n" + bytes(range(256)) * 5000  # more than is looked at, with the last byte of the header
    proxy.sendall(header[-1:] + payload[:700])
    assert receive_exactly(proxy, 700) == payload[:700]
    thread = threading.Thread(target=proxy.sendall, args=(payload[700:],))
    thread.start()
    assert receive_exactly(proxy, len(payload) - 700) == payload[700:]
    thread.join()
    assert client_of(plane, port) == client


def test_a_backend_is_dialled_once_the_header_is_whole_and_then_may_speak_first(plane: RunningPlane) -> None:
    backend = plane.backend(greeting(b"hello"))
    port = plane.open(accept_proxy=LOOPBACK)
    plane.backends(port, [backend.address])
    proxy = plane.client(port)
    proxy.sendall(V2[:-1])
    eventually(lambda: len(plane.plane.newcomers) == 1)
    assert (backend.accepted, plane.sessions()) == (0, [])
    proxy.sendall(V2[-1:])
    assert receive_exactly(proxy, 5) == b"hello"
    assert backend.accepted == 1


@plain_source
@pytest.mark.parametrize("said", [b"", b"P", b"PROXY TCP4 ", SIGNATURE, V2[:-1]])
def test_E07_a_header_that_does_not_come_ends_the_connection_at_the_deadline(
    plane: RunningPlane, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 3 <= newcomers.PATIENCE <= 10
    monkeypatch.setattr(newcomers, "PATIENCE", 0.3)
    port = plane.open(accept_proxy=LOOPBACK)
    proxy = plane.client(port)
    proxy.sendall(said)
    assert ends(proxy) in ("end", "reset")
    plane.await_end(port, Reason.PROXY_HEADER_INVALID)


@plain_source
def test_E07_a_byte_now_and_then_does_not_extend_the_deadline(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "PATIENCE", 0.5)
    port = plane.open(accept_proxy=LOOPBACK)
    proxy = plane.client(port)
    proxy.settimeout(0.03)
    line = b"PROXY UNKNOWN ".ljust(105, b"x")
    sent = 0
    while not plane.closed(port) and sent < len(line):
        try:
            proxy.sendall(line[sent : sent + 1])
            sent += 1
            proxy.recv(1)
        except TimeoutError:
            pass
        except OSError:
            break
    assert 0 < sent < len(line)
    plane.await_end(port, Reason.PROXY_HEADER_INVALID)


def test_E07_the_handshake_shares_the_deadline_of_the_header(plane: RunningPlane, cert: Issued) -> None:
    """It runs from accept: who was slow with the header has less for the handshake."""
    port = plane.open(accept_proxy=LOOPBACK, tls=terms(cert))
    proxy = plane.client(port)
    proxy.sendall(b"P")
    eventually(lambda: len(plane.plane.newcomers) == 1)
    (introduction,) = plane.call(lambda: list(plane.plane.newcomers._all))
    introduction._accepted -= newcomers.PATIENCE - 0.2  # as if it had been accepted earlier
    proxy.sendall(V1[1:])
    assert ends(proxy) in ("end", "reset")
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)


REFUSED: Final = {
    "E02": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "E03": V1.replace(b"\r\n", b"\n"),
    "E04": V1.replace(b"443", b"0443"),
    "E05": V1.replace(b" 443", b""),
    "E08": b"PROXY " + b"1" * 5000,
    "E09": V2[:12] + b"\x31" + V2[13:],
    "E11": V2[:14] + b"\xff\xff" + V2[16:],
    "E12": V2[:15] + b"\x0d" + V2[16:] + b"\x01",
    "E15": V2[:15] + b"\x13" + V2[16:] + b"\x03\x00\x04abcd",
    "E16-no-header": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_E16_a_connection_without_a_proper_header_never_reaches_the_backend(plane: RunningPlane, sent: bytes) -> None:
    backend = plane.backend()
    port = plane.open(accept_proxy=LOOPBACK)
    plane.backends(port, [backend.address])
    proxy = plane.client(port)
    proxy.sendall(sent)
    assert ends(proxy) in ("end", "reset")
    plane.await_end(port, Reason.PROXY_HEADER_INVALID)
    assert backend.accepted == 0


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
@pytest.mark.parametrize("said", [b"", V2[:-1]])
def test_E05_a_proxy_that_leaves_within_the_header_ends_its_connection_at_once(
    plane: RunningPlane, port: int, leave: object, said: bytes
) -> None:
    proxy = plane.client(port)
    proxy.sendall(said)
    eventually(lambda: len(plane.plane.newcomers) == 1)
    assert callable(leave)
    leave(proxy)
    plane.await_end(port, Reason.PROXY_HEADER_INVALID)


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_E10_a_proxy_that_speaks_for_itself_is_the_client(plane: RunningPlane, port: int, header: bytes) -> None:
    proxy = plane.client(port)
    proxy.sendall(header + b"check")
    assert receive_exactly(proxy, 5) == b"check"
    assert client_of(plane, port) == address_of(proxy)


def test_E13_no_name_in_a_header_is_shown_or_passed_on(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(accept_proxy=LOOPBACK, proxy_protocol="v2")
    plane.backends(port, [address_of(backend)])
    proxy = plane.client(port)
    proxy.sendall(V2[:15] + b"\x15" + V2[16:] + b"\x02\x00\x06\xff\n\x00\x1b[m" + b"payload")
    far = plane.keep(backend.accept()[0])
    assert receive_exactly(far, len(V2) + 7) == V2 + b"payload"
    assert client_of(plane, port) == CLIENT


def test_E14_a_client_of_the_other_family_is_told_and_told_on(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(accept_proxy=LOOPBACK, proxy_protocol="v1")
    plane.backends(port, [address_of(backend)])
    proxy = plane.client(port)
    proxy.sendall(write_v2(CLIENT6, SERVER6, Protocol.TCP) + b"x")
    far = plane.keep(backend.accept()[0])
    wanted = write_v1(CLIENT6, SERVER6) + b"x"
    assert receive_exactly(far, len(wanted)) == wanted


@pytest.mark.parametrize("header", [V1, V2, b""])
def test_E16_a_peer_that_is_not_trusted_is_refused_with_and_without_a_header(
    plane: RunningPlane, header: bytes
) -> None:
    backend = plane.backend()
    port = plane.open(accept_proxy=["192.0.2.0/24", "::2", "127.0.0.2"])
    plane.backends(port, [backend.address])
    stranger = plane.client(port)
    try:
        stranger.sendall(header)
    except OSError:
        pass  # it was quicker
    assert ends(stranger) in ("end", "reset")
    plane.await_end(port, Reason.PROXY_UNTRUSTED)
    assert backend.accepted == 0
    proxy = plane.client(port, source="127.0.0.2")
    proxy.sendall(V1 + b"in")
    assert receive_exactly(proxy, 2) == b"in"


def test_E16_an_ipv4_proxy_is_known_on_a_dual_stack_port(plane: RunningPlane) -> None:
    port = plane.open(host="::", accept_proxy=["127.0.0.1"])
    plane.backends(port, [plane.backend().address])
    proxy = plane.client(port)
    proxy.sendall(V2 + b"in")
    assert receive_exactly(proxy, 2) == b"in"


def test_E16_without_accept_proxy_a_header_is_payload(plane: RunningPlane) -> None:
    port = plane.open()
    plane.backends(port, [plane.backend().address])
    client = plane.client(port)
    client.sendall(V1)
    assert receive_exactly(client, len(V1)) == V1
    assert client_of(plane, port) == address_of(client)


def test_E16_whom_to_believe_may_change_while_sessions_live(plane: RunningPlane) -> None:
    port = plane.open()
    plane.backends(port, [plane.backend().address])
    before = plane.client(port)
    before.sendall(b"one")
    assert receive_exactly(before, 3) == b"one"
    plane.set_policy(port, accept_proxy=LOOPBACK)
    proxy = plane.client(port)
    proxy.sendall(V1 + b"two")
    assert receive_exactly(proxy, 3) == b"two"
    before.sendall(b"three")
    assert receive_exactly(before, 5) == b"three"
    assert {view.client for view in plane.sessions()} == {address_of(before), CLIENT}


def test_E18_a_second_header_is_payload(plane: RunningPlane, port: int) -> None:
    proxy = plane.client(port)
    proxy.sendall(V1 + V2 + V1)
    assert receive_exactly(proxy, len(V2 + V1)) == V2 + V1


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_D16_a_header_and_a_client_hello_in_one_segment_are_two_things(
    plane: RunningPlane, cert: Issued, header: bytes
) -> None:
    port = plane.open(accept_proxy=LOOPBACK, tls=terms(cert))
    plane.backends(port, [plane.backend().address])
    proxy = plane.client(port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(cert).wrap_bio(incoming, outgoing, server_hostname="harbor.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    proxy.sendall(header + outgoing.read())
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            incoming.write(proxy.recv(65536))
    tls.write(b"sealed")
    proxy.sendall(outgoing.read())
    answer = b""
    while len(answer) < 6:
        try:
            answer += tls.read(100)
        except ssl.SSLWantReadError:
            incoming.write(proxy.recv(65536))
    assert answer == b"sealed"
    assert client_of(plane, port) == CLIENT


def test_D16_a_hello_long_after_the_header_is_waited_for(plane: RunningPlane, cert: Issued) -> None:
    port = plane.open(accept_proxy=LOOPBACK, tls=terms(cert))
    plane.backends(port, [plane.backend().address])
    raw = plane.client(port)
    raw.sendall(V2)
    eventually(lambda: isinstance(next(iter(plane.plane.newcomers._all), None), Handshake))
    proxy = plane.keep(trusting(cert).wrap_socket(raw, server_hostname="harbor.test"))
    proxy.sendall(b"sealed")
    assert receive_exactly(proxy, 6) == b"sealed"


def test_requests_are_made_for_the_client_of_the_header(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(accept_proxy=LOOPBACK, http=True)
    plane.backends(port, [address_of(backend)])
    proxy = plane.client(port)
    proxy.sendall(V1 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    far = plane.keep(backend.accept()[0])
    head = b""
    while b"\r\n\r\n" not in head:
        head += far.recv(1000)
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in head
    assert head.startswith(b"GET / HTTP/1.1\r\n")


def test_a_port_that_closes_ends_those_it_has_not_heard_of(plane: RunningPlane, port: int) -> None:
    proxy = plane.client(port)
    proxy.sendall(b"PROXY")
    eventually(lambda: len(plane.plane.newcomers) == 1)
    plane.close_port(port)
    assert ends(proxy) in ("end", "reset")
    assert len(plane.plane.newcomers) == 0


def test_sessions_are_found_and_killed_by_the_client_of_the_header(plane: RunningPlane, port: int) -> None:
    proxy = plane.client(port)
    proxy.sendall(V1 + b"x")
    assert receive_exactly(proxy, 1) == b"x"
    assert plane.sessions(client="127.0.0.0/8") == []
    assert plane.call(lambda: plane.plane.kill(SessionQuery(client="192.0.2.7"))) == 1
    assert ends(proxy) == "reset"


# Outward, TCP.


def receive_header(far: socket.socket, wanted: bytes) -> None:
    assert receive_exactly(far, len(wanted)) == wanted


@pytest.mark.parametrize("mode", ["v1", "v2", "v2-every"])
def test_E17_the_backend_reads_the_header_before_a_byte_of_the_client(
    plane: RunningPlane, host: str, mode: str
) -> None:
    backend = plane.listening(host)
    port = plane.open(host=host, proxy_protocol=mode)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend, host=host)
    here, there = address_of(near), Address(host, port)
    wanted = write_v1(here, there) if mode == "v1" else write_v2(here, there, Protocol.TCP)
    receive_header(far, wanted)  # the client has said nothing yet
    near.sendall(b"hello")
    assert receive_exactly(far, 5) == b"hello"
    far.sendall(b"back")
    assert receive_exactly(near, 4) == b"back"
    plane.await_open(port)
    (view,) = plane.sessions()
    assert (view.bytes_in, view.bytes_out) == (5, 4)  # the header is ours, not the client's
    near.shutdown(socket.SHUT_WR)
    assert receive_all(far) == b""


@pytest.mark.parametrize("mode", ["v1", "v2"])
def test_E17_a_header_and_much_data_arrive_whole_and_in_order(plane: RunningPlane, mode: str) -> None:
    backend = plane.listening()
    port = plane.open(proxy_protocol=mode)
    plane.backends(port, [address_of(backend)])
    near = plane.client(port)
    data = bytes(range(256)) * 8192
    thread = threading.Thread(target=lambda: (near.sendall(data), near.shutdown(socket.SHUT_WR)))
    thread.start()
    far = plane.keep(backend.accept()[0])
    here = address_of(near)
    wanted = (
        write_v1(here, Address("127.0.0.1", port))
        if mode == "v1"
        else write_v2(here, Address("127.0.0.1", port), Protocol.TCP)
    )
    assert receive_all(far) == wanted + data
    thread.join()


def test_E17_a_backend_that_speaks_first_is_heard_and_told(plane: RunningPlane) -> None:
    told: list[bytes] = []

    def serve(conn: socket.socket) -> None:
        conn.sendall(b"220 ready\r\n")
        told.append(receive_exactly(conn, len(V2)))
        echo(conn)

    port = plane.open(proxy_protocol="v2")
    plane.backends(port, [plane.backend(serve).address])
    near = plane.client(port)
    assert receive_exactly(near, 11) == b"220 ready\r\n"
    near.sendall(b"x")
    assert receive_exactly(near, 1) == b"x"
    assert told == [write_v2(address_of(near), Address("127.0.0.1", port), Protocol.TCP)]


def test_E17_what_came_with_a_header_is_written_anew(plane: RunningPlane) -> None:
    """A chain of proxies: the backend is told of the client at its far end, in whichever version it wants."""
    backend = plane.listening()
    last = plane.open(accept_proxy=LOOPBACK, proxy_protocol="v1")
    plane.backends(last, [address_of(backend)])
    first = plane.open(proxy_protocol="v2")
    plane.backends(first, [Address("127.0.0.1", last)])
    near = plane.client(first)
    near.sendall(b"hello")
    far = plane.keep(backend.accept()[0])
    receive_header(far, write_v1(address_of(near), Address("127.0.0.1", first)) + b"hello")


@pytest.mark.parametrize("name", ["harbor.test", None])
def test_E17_the_header_tells_of_the_tls_that_ended_here(plane: RunningPlane, cert: Issued, name: str | None) -> None:
    backend = plane.listening()
    port = plane.open(proxy_protocol="v2", tls=terms(cert))
    plane.backends(port, [address_of(backend)])
    context = trusting(cert)
    context.check_hostname = name is not None
    near = plane.keep(context.wrap_socket(plane.client(port), server_hostname=name))
    near.sendall(b"hello")
    far = plane.keep(backend.accept()[0])
    tlvs = tls_tlvs(str(near.version()), name, has_certificate=False)
    receive_header(far, write_v2(address_of(near), Address("127.0.0.1", port), Protocol.TCP, tlvs) + b"hello")


def test_E17_the_header_comes_in_the_clear_before_tls_to_the_backend(plane: RunningPlane, cert: Issued) -> None:
    """As HAProxy sends it. All of it comes before the ClientHello, and the client's bytes after the handshake."""
    told: list[bytes] = []
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(cert.file)

    def serve(conn: socket.socket) -> None:
        told.append(receive_exactly(conn, len(V2)))
        with shown.wrap_socket(conn, server_side=True) as tls:
            echo(tls)

    port = plane.open(proxy_protocol="v2", backend_tls=BackendTls(ca_file=str(cert.certificate)))
    plane.backends(port, [plane.backend(serve).address])
    near = plane.client(port)
    near.sendall(b"hello")
    assert receive_exactly(near, 5) == b"hello"
    assert told == [write_v2(address_of(near), Address("127.0.0.1", port), Protocol.TCP)]


def test_E17_requests_follow_the_header(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open(proxy_protocol="v1", http=True)
    plane.backends(port, [address_of(backend)])
    near = plane.client(port)
    near.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    far = plane.keep(backend.accept()[0])
    receive_header(far, write_v1(address_of(near), Address("127.0.0.1", port)) + b"GET / HTTP/1.1\r\n")


def test_E17_whoever_takes_the_session_in_the_end_is_told_all(planes: Planes) -> None:
    plane = planes(observer=Reacting())
    dead = plane.listening()
    port = plane.open(proxy_protocol="v2")
    plane.backends(port, [address_of(dead), plane.backend().address])
    dead.close()
    near = plane.client(port)
    near.sendall(b"x")
    answer = receive_exactly(near, len(V2) + 1)
    assert answer == write_v2(address_of(near), Address("127.0.0.1", port), Protocol.TCP) + b"x"


def test_E17_the_mode_may_change_while_sessions_live(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    plane.set_policy(port, proxy_protocol="v1")
    near.sendall(b"old")
    assert receive_exactly(far, 3) == b"old"
    other, told = plane.session(port, backend)
    receive_header(told, write_v1(address_of(other), Address("127.0.0.1", port)))


@pytest.mark.parametrize(
    ("fault", "missing"), [("sendto:retval=5:when=1", 5), ("sendto:retval=51:when=1", 51)], ids=["part", "all-but-one"]
)
def test_E17_a_header_that_the_kernel_takes_in_parts_is_sent_to_its_end(fault: str, missing: int) -> None:
    """The kernel claims to have taken the first bytes: what follows has to be the rest, and then the client's."""
    with listening("::1") as backend:
        address = address_of(backend)
        policy = '{"proxy_protocol": "v2"}'
        command = [sys.executable, str(MEASURED), address.host, str(address.port), policy]
        strace = [needs("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", f"inject={fault}"]
        with subprocess.Popen([*strace, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), 10) as near, backend.accept()[0] as far:
                far.settimeout(10)
                near.sendall(b"hello")
                whole = write_v2(Address(*near.getsockname()), Address("127.0.0.1", port), Protocol.TCP) + b"hello"
                assert receive_exactly(far, len(whole) - missing) == whole[missing:]
            process.stdin.close()
            assert process.wait(30) == 0


def test_E17_simple_is_for_datagrams_and_leaves_connections_alone(plane: RunningPlane) -> None:
    _, near, far = plane.pair(proxy_protocol="simple")
    near.sendall(b"hello")
    assert receive_exactly(far, 5) == b"hello"


# Datagrams.


def udp(
    plane: RunningPlane, host: str = "127.0.0.1", listen: str | None = None, **policy: object
) -> tuple[int, Address, socket.socket]:
    """A UDP port with one backend: its number, where clients send, and the backend's socket."""
    backend = plane.datagrams(host)
    port = plane.open("udp", host=listen or host, **policy)
    plane.backends(port, [address_of(backend)])
    return port, Address(host, port), backend


@pytest.mark.parametrize("listen", [None, "wildcard"])
def test_C14_the_first_datagram_of_a_flow_has_the_header_and_the_payload_in_one(
    plane: RunningPlane, host: str, listen: str | None
) -> None:
    wildcard = "::" if ":" in host else "0.0.0.0"
    port, address, backend = udp(plane, host, wildcard if listen else None, proxy_protocol="v2")
    client = plane.datagrams(host)
    header = write_v2(address_of(client), address, Protocol.UDP)
    for text, wanted in ((b"one", header + b"one"), (b"", b""), (b"two", b"two")):
        client.sendto(text, address)
        data, flow = backend.recvfrom(65535)
        assert data == wanted
    backend.sendto(b"back", flow)
    assert client.recv(100) == b"back"
    (view,) = plane.sessions(service_id=str(port))
    assert (view.bytes_in, view.datagrams_in, view.bytes_out) == (6, 3, 4)


def test_C14_every_datagram_has_the_header_where_that_is_asked_for(plane: RunningPlane, host: str) -> None:
    _, address, backend = udp(plane, host, proxy_protocol="v2-every")
    client = plane.datagrams(host)
    header = write_v2(address_of(client), address, Protocol.UDP)
    for text in (b"one", b"", b"two"):
        client.sendto(text, address)
        assert backend.recv(65535) == header + text


def test_C14_the_38_bytes_of_simple_stand_before_every_datagram_both_ways(plane: RunningPlane, host: str) -> None:
    _, address, backend = udp(plane, host, proxy_protocol="simple")
    client = plane.datagrams(host)
    header = write_simple(address_of(client), address)
    assert len(header) == 38
    for text in (b"one", b"", b"two"):
        client.sendto(text, address)
        data, flow = backend.recvfrom(65535)
        assert data == header + text
        backend.sendto(header + text + b" back", flow)
        assert client.recv(65535) == text + b" back"


def test_C14_an_answer_without_its_header_is_dropped_and_counted(plane: RunningPlane) -> None:
    port, address, backend = udp(plane, proxy_protocol="simple")
    client = plane.datagrams()
    client.sendto(b"x", address)
    data, flow = backend.recvfrom(100)
    header = data[:38]
    backend.sendto(header + b"right", flow)
    assert client.recv(100) == b"right"
    for wrong in (header[:37], b"", b"no header", b"\x56\xed" + header[2:] + b"x", header[:-1] + b"\x00" + b"x"):
        backend.sendto(wrong, flow)
    backend.sendto(header + b"right", flow)
    assert client.recv(100) == b"right"
    assert plane.counters(port).dropped == {Drop.PROXY_HEADER_INVALID: 5}
    assert is_silent(client)


@pytest.mark.parametrize(("mode", "size"), [("v2", 28), ("v2-every", 28), ("simple", 38)])
def test_C14_a_datagram_with_no_room_for_the_header_is_dropped_and_counted(
    plane: RunningPlane, mode: str, size: int
) -> None:
    port, address, backend = udp(plane, proxy_protocol=mode)
    client = plane.datagrams()
    most = 65_507 - size
    client.sendto(bytes(most + 1), address)
    eventually(lambda: plane.counters(port).dropped.get(Drop.OVERSIZE) == 1)
    client.sendto(bytes(most), address)  # of the same flow; its first still has the header
    data = backend.recv(65_535)
    assert len(data) == 65_507
    assert plane.counters(port).dropped == {Drop.OVERSIZE: 1}
    assert plane.counters(port).datagrams_in == 1


def test_C14_a_flow_that_moves_to_another_backend_is_announced_there(planes: Planes) -> None:
    observer = Reacting()
    plane = planes(observer=observer)
    first, second = plane.datagrams(), plane.datagrams()
    port = plane.open("udp", proxy_protocol="v2")
    plane.backends(port, [address_of(first), address_of(second)])
    client, address = plane.datagrams(), Address("127.0.0.1", port)
    header = write_v2(address_of(client), address, Protocol.UDP)
    client.sendto(b"one", address)
    assert first.recv(100) == header + b"one"
    first.close()
    client.sendto(b"two", address)  # refused by ICMP, which the next one finds
    eventually(lambda: observer.failed() == ["b1"])
    client.sendto(b"three", address)
    assert second.recv(100) == header + b"three"
    client.sendto(b"four", address)
    assert second.recv(100) == b"four"


def test_C14_v1_has_no_form_for_datagrams_and_leaves_them_alone(plane: RunningPlane) -> None:
    _, address, backend = udp(plane, proxy_protocol="v1")
    client = plane.datagrams()
    client.sendto(b"x", address)
    assert backend.recv(100) == b"x"


@pytest.mark.parametrize("listen", [None, "0.0.0.0"])
@pytest.mark.parametrize("every", [False, True], ids=["first", "every"])
def test_E06_a_header_in_front_of_a_datagram_names_the_client_and_replies_go_to_the_proxy(
    plane: RunningPlane, listen: str | None, every: bool
) -> None:
    port, address, backend = udp(plane, listen=listen, accept_proxy=LOOPBACK)
    proxy = plane.datagrams()
    proxy.sendto(V2_UDP + b"one", address)
    data, flow = backend.recvfrom(100)
    assert data == b"one"
    for text in (b"two", b"", b"three" * 10_000):
        proxy.sendto(V2_UDP + text if every else text, address)
        assert backend.recvfrom(65535) == (text, flow)
    backend.sendto(b"back", flow)
    assert proxy.recvfrom(100) == (b"back", address)
    assert client_of(plane, port) == CLIENT
    assert plane.counters(port).dropped == {}


def test_E10_a_proxy_that_speaks_for_itself_in_a_datagram_is_the_client(plane: RunningPlane) -> None:
    port, address, backend = udp(plane, accept_proxy=LOOPBACK)
    proxy = plane.datagrams()
    proxy.sendto(LOCAL + b"check", address)
    assert backend.recv(100) == b"check"
    assert client_of(plane, port) == address_of(proxy)


def test_E16_a_datagram_of_somebody_else_or_without_a_header_is_dropped_and_counted(plane: RunningPlane) -> None:
    port, address, backend = udp(plane, accept_proxy=["127.0.0.2"])
    stranger, proxy = plane.datagrams(), plane.datagrams("127.0.0.2")
    stranger.sendto(V2_UDP + b"x", address)
    for wrong in (b"", b"no header", V2_UDP[:-1], V2 + b"x", V1 + b"x", V2_UDP[:15] + b"\xff" + b"x" * 600):
        proxy.sendto(wrong, address)
    proxy.sendto(V2_UDP + b"right", address)
    assert backend.recv(100) == b"right"
    assert plane.counters(port).dropped == {Drop.PROXY_UNTRUSTED: 1, Drop.PROXY_HEADER_INVALID: 6}


def test_E16_a_client_behind_a_proxy_cannot_pass_for_another(plane: RunningPlane) -> None:
    """Its proxy sends a header with the first datagram only, so what follows is the client's own, headers too."""
    port, address, backend = udp(plane, accept_proxy=LOOPBACK)
    proxy = plane.datagrams()
    proxy.sendto(V2_UDP + b"one", address)
    assert backend.recv(100) == b"one"
    proxy.sendto(write_v2(CLIENT6, SERVER6, Protocol.UDP) + b"forged", address)
    proxy.sendto(b"two", address)
    assert backend.recv(100) == b"two"
    assert client_of(plane, port) == CLIENT
    assert plane.counters(port).dropped == {Drop.PROXY_HEADER_INVALID: 1}


def test_E18_the_second_header_of_a_datagram_is_payload(plane: RunningPlane) -> None:
    _, address, backend = udp(plane, accept_proxy=LOOPBACK)
    proxy = plane.datagrams()
    for _ in range(2):
        proxy.sendto(V2_UDP + V2_UDP + b"x", address)
        assert backend.recv(200) == V2_UDP + b"x"


def test_E16_a_flow_that_is_older_than_the_rule_goes_on_as_it_was(plane: RunningPlane) -> None:
    port, address, backend = udp(plane)
    client = plane.datagrams()
    client.sendto(b"one", address)
    assert backend.recv(100) == b"one"
    plane.set_policy(port, accept_proxy=LOOPBACK)
    client.sendto(V2_UDP + b"two", address)
    assert backend.recv(100) == V2_UDP + b"two"
    assert client_of(plane, port) == address_of(client)


def test_E17_datagrams_through_two_nodes_keep_their_client(plane: RunningPlane) -> None:
    for mode in ("v2", "v2-every"):
        backend = plane.datagrams()
        last = plane.open("udp", accept_proxy=LOOPBACK, proxy_protocol="simple")
        plane.backends(last, [address_of(backend)])
        first = plane.open("udp", proxy_protocol=mode)
        plane.backends(first, [Address("127.0.0.1", last)])
        client, address = plane.datagrams(), Address("127.0.0.1", first)
        header = write_simple(address_of(client), address)
        for text in (b"one", b"two"):
            client.sendto(text, address)
            data, flow = backend.recvfrom(100)
            assert data == header + text
            backend.sendto(header + b"back", flow)
            assert client.recv(100) == b"back"


def test_E17_a_promoted_flow_keeps_the_client_of_its_header(planes: Planes) -> None:
    plane = planes(observer=Reacting())
    first, second = plane.datagrams(), plane.datagrams()
    port = plane.open("udp", accept_proxy=LOOPBACK, proxy_protocol="v2-every")
    plane.backends(port, [address_of(first), address_of(second)])
    proxy, address = plane.datagrams(), Address("127.0.0.1", port)
    proxy.sendto(V2_UDP + b"one", address)
    assert first.recv(100) == V2_UDP + b"one"
    plane.backends(port, [address_of(second)])
    proxy.sendto(b"two", address)
    assert second.recv(100) == V2_UDP + b"two"
    assert client_of(plane, port) == CLIENT
