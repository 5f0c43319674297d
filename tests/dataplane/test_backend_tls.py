"""TLS to backends: who they have to be, what is said when they are not, and that nothing else reaches a client."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from harbor.dataplane.tls import SLICE, TlsEnd
from harbor.model import Address, Reason, Route
from harbor.model.tls import BackendTls
from support.backends import Serve, echo
from support.certificates import Issued, issue, terms
from support.ends import TlsEnd as FarEnd
from support.ends import all_of
from support.needs import needs, plain_source
from support.pairs import Made, make
from support.plane import Planes, Reacting, RunningPlane
from support.programs import programs
from support.sockets import address_of, ends, free_port, receive_all, receive_exactly
from support.waiting import eventually

GET: Final = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"
CA: Final = make("Test CA", is_ca=True)


@pytest.fixture
def ca(tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    file.write_text(CA.own)
    return str(file)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Made], ssl.SSLContext]:
    """What a server with this certificate needs."""

    def context(one: Made) -> ssl.SSLContext:
        file = tmp_path / f"{one.x509.serial_number:x}.pem"
        file.write_text(one.key + one.chain)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(file)
        return server

    return context


def over_tls(context: ssl.SSLContext, serve: Serve = echo) -> Serve:
    """The same backend, in TLS."""

    def serve_tls(conn: socket.socket) -> None:
        with context.wrap_socket(conn, server_side=True) as tls:
            serve(tls)

    return serve_tls


def is_heard(plane: RunningPlane, port: int) -> bool:
    with plane.client(port) as client:
        client.sendall(b"ping")
        return receive_exactly(client, 4) == b"ping"


@pytest.mark.parametrize(
    ("certificate", "server_name", "host"),
    [
        (make("app.internal", by=CA), None, "app.internal"),
        (make("*.apps.internal", by=CA), None, "one.apps.internal"),
        (make("app.internal", by=CA), "app.internal", None),
        (make("app.internal", by=CA), "app.internal", "other.internal"),
        (make("127.0.0.1", by=CA), None, None),
        (make("127.0.0.1", by=CA), "127.0.0.1", "other.internal"),
    ],
    ids=["by host", "wildcard", "by name", "name before host", "by address", "address as name"],
)
def test_a_backend_is_accepted_that_is_who_it_should_be(
    plane: RunningPlane, ca: str, made: Callable[[Made], ssl.SSLContext],
    certificate: Made, server_name: str | None, host: str | None,
) -> None:  # fmt: skip
    asked: list[str | None] = []
    server = made(certificate)
    server.sni_callback = lambda _tls, name, _context: asked.append(name)
    backend = plane.backend(over_tls(server))
    port = plane.open(backend_tls=BackendTls(server_name=server_name, ca_file=ca))
    plane.routes(port, [Route("b1", backend.address, host=host)])
    assert is_heard(plane, port)
    wanted = server_name or host
    assert asked == [None if wanted in (None, "127.0.0.1") else wanted]


REFUSED: Final = [
    (make("127.0.0.1", by=CA, days=-1), "certificate has expired"),
    (make("127.0.0.1", by=CA, begins=5), "certificate is not yet valid"),
    (make("127.0.0.2", by=CA), "name mismatch: IP address mismatch, certificate is not valid for '127.0.0.1'"),
    (make("app.internal", by=CA), "name mismatch"),
    (make("127.0.0.1"), "self-signed certificate"),
    (make("127.0.0.1", by=make("Other CA", is_ca=True)), "unable to get local issuer certificate"),
]


@pytest.mark.parametrize(("certificate", "words"), REFUSED, ids=[words[:24] for _, words in REFUSED])
def test_a_backend_that_is_not_is_refused_in_words_and_the_next_is_tried(
    planes: Planes, ca: str, made: Callable[[Made], ssl.SSLContext], certificate: Made, words: str
) -> None:
    plane = planes(observer=Reacting())
    wrong, right = plane.backend(over_tls(made(certificate))), plane.backend(over_tls(made(make("127.0.0.1", by=CA))))
    port = plane.open(backend_tls=BackendTls(ca_file=ca))
    plane.backends(port, [wrong.address, right.address])
    assert is_heard(plane, port)
    failure = plane.observer.failures[0]  # type: ignore[attr-defined]
    assert failure.backend_id == "b1"
    assert failure.detail.startswith(f"TLS with {wrong.address}: ")
    assert words in failure.detail
    plane.backends(port, [wrong.address])
    client = plane.client(port)
    client.sendall(b"secret")
    assert ends(client) in ("end", "reset")
    eventually(lambda: plane.closed(port).get(Reason.BACKEND_TLS_FAILED) == 1)


def test_who_is_named_is_trusted_root_or_not(
    plane: RunningPlane, tmp_path: Path, made: Callable[[Made], ssl.SSLContext]
) -> None:
    between = make("Team CA", by=CA, is_ca=True)
    file = tmp_path / "team.pem"
    file.write_text(between.own)
    port = plane.open(backend_tls=BackendTls(ca_file=str(file)))
    plane.backends(port, [plane.backend(over_tls(made(make("127.0.0.1", by=between)))).address])
    assert is_heard(plane, port)


def test_first_words_that_come_with_the_end_of_the_handshake_reach_the_client(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))
    server.maximum_version = ssl.TLSVersion.TLSv1_2  # there the server has the last word of the handshake

    def greet(conn: socket.socket) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        with server.wrap_socket(conn, server_side=True) as tls:
            tls.sendall(b"220 hello")
            tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            tls.recv(1)

    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(greet).address])
    with plane.client(port) as client:
        assert receive_exactly(client, 9) == b"220 hello"


def test_a_name_that_stands_only_in_the_subject_counts_for_nothing(
    plane: RunningPlane, ca: str, made: Callable[[Made], ssl.SSLContext]
) -> None:
    port = plane.open(backend_tls=BackendTls(server_name="app.internal", ca_file=ca))
    plane.backends(port, [plane.backend(over_tls(made(make(subject="app.internal", by=CA)))).address])
    assert ends(plane.client(port)) in ("end", "reset")
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_none_of_that_matters_where_nothing_is_verified(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext], number: int
) -> None:
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(over_tls(made(REFUSED[number][0]))).address])
    assert is_heard(plane, port)


def test_without_a_ca_of_its_own_a_service_trusts_whom_the_system_trusts(
    plane: RunningPlane, ca: str, made: Callable[[Made], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = plane.backend(over_tls(made(make("127.0.0.1", by=CA))))
    port = plane.open(backend_tls=BackendTls())
    plane.backends(port, [backend.address])
    ends(plane.client(port))
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    port = plane.open(backend_tls=BackendTls())
    plane.backends(port, [backend.address])
    assert is_heard(plane, port)


@pytest.mark.parametrize("said", [b"220 plaintext first\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\x17\x03\x03\x00\x05hello"])
@pytest.mark.parametrize("http", [False, True])
def test_D17_what_a_backend_says_before_its_handshake_never_reaches_the_client(
    plane: RunningPlane, said: bytes, http: bool
) -> None:
    def speak_first(conn: socket.socket) -> None:
        conn.sendall(said)
        receive_all(conn)

    port = plane.open(backend_tls=BackendTls(verify=False), http=http)
    plane.backends(port, [plane.backend(speak_first).address])
    client = plane.client(port)
    answer = receive_all(client)
    assert said not in answer
    assert answer[:12] == (b"HTTP/1.1 502" if http else b"")
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)


def test_D17_plaintext_before_a_true_handshake_breaks_it(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))

    def inject(conn: socket.socket) -> None:
        conn.sendall(b"\x17\x03\x03\x00\x08injected")  # as a man in the middle would
        over_tls(server)(conn)

    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(inject).address])
    assert receive_all(plane.client(port)) == b""
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)


def test_a_backend_that_does_not_speak_TLS_is_told_so(plane: RunningPlane) -> None:
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(lambda conn: conn.sendall(b"400 what is this?\r\n")).address])
    ends(plane.client(port))
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)
    assert "it does not speak TLS" in plane.observer.failures[0].detail  # type: ignore[attr-defined]


def test_a_backend_that_never_shakes_hands_costs_its_share_of_the_time_and_the_next_is_tried(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    silent = plane.listening()
    good = plane.backend(over_tls(made(make("127.0.0.1", by=CA))))
    port = plane.open(backend_tls=BackendTls(verify=False), connect_timeout=1)
    plane.backends(port, [address_of(silent), good.address])
    assert is_heard(plane, port)
    assert "did not shake hands in time" in plane.observer.failures[0].detail  # type: ignore[attr-defined]
    plane.backends(port, [address_of(silent)])
    ends(plane.client(port))
    eventually(lambda: plane.closed(port).get(Reason.BACKEND_TLS_FAILED) == 1)


def test_A12_a_client_that_leaves_during_the_handshake_with_its_backend_frees_everything(plane: RunningPlane) -> None:
    silent = plane.listening()
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [address_of(silent)])
    client = plane.client(port)
    far = plane.keep(silent.accept()[0])
    far.settimeout(10)
    assert far.recv(1) == b"\x16"  # the hello is there
    client.close()
    assert ends(far) in ("end", "reset")
    plane.await_end(port, Reason.CLIENT_RESET)


def test_a_backend_that_leaves_in_the_middle_of_its_handshake_is_passed_over(plane: RunningPlane) -> None:
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(lambda conn: conn.recv(100) and None).address])
    ends(plane.client(port))
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)
    assert "ended the connection during the handshake" in plane.observer.failures[0].detail  # type: ignore[attr-defined]


def test_D07_old_versions_are_not_spoken_to_backends(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))
    server.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_1
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(over_tls(server)).address])
    ends(plane.client(port))
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)
    assert "version" in plane.observer.failures[0].detail  # type: ignore[attr-defined]


def test_a_change_affects_the_next_session(plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]) -> None:
    server = made(make("127.0.0.1", by=CA))
    plain, secure = plane.backend(echo), plane.backend(over_tls(server))
    port = plane.open()
    plane.backends(port, [plain.address])
    old = plane.client(port)
    old.sendall(b"1")
    assert receive_exactly(old, 1) == b"1"
    plane.call(lambda: plane.plane.set_backend_tls(str(port), BackendTls(verify=False)))
    plane.backends(port, [secure.address])
    assert is_heard(plane, port)
    old.sendall(b"2")
    assert receive_exactly(old, 1) == b"2"
    plane.call(lambda: plane.plane.set_backend_tls(str(port), None))
    plane.backends(port, [plain.address])
    assert is_heard(plane, port)


def test_D10_a_backend_that_hangs_up_without_saying_so_is_no_orderly_end_to_the_client(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))

    def truncate(conn: socket.socket) -> None:
        end = FarEnd(conn, server, server_side=True)
        end.shake_hands()
        end.recv(1)  # else the reset may come before the client's connect() has returned
        end.sendall(b"half an answ")
        end.truncate()
        conn.recv(1)

    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(truncate).address])
    client = plane.client(port)
    client.sendall(b"?")
    assert receive_exactly(client, 12) == b"half an answ"
    assert ends(client) == "reset"
    plane.await_end(port, Reason.BACKEND_TRUNCATED)


def test_D10_a_client_that_is_cut_off_is_no_orderly_end_to_the_backend(
    plane: RunningPlane, tmp_path: Path, made: Callable[[Made], ssl.SSLContext]
) -> None:
    shown: Issued = issue(tmp_path, "harbor.test")
    server = made(make("127.0.0.1", by=CA))
    heard: list[object] = []

    def listen(conn: socket.socket) -> None:
        end = FarEnd(conn, server, server_side=True)
        end.shake_hands()
        try:
            heard.append(all_of(end))
        except OSError as error:
            heard.append(error)

    port = plane.open(tls=terms(shown), backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(listen).address])
    asking = ssl.create_default_context(cafile=shown.certificate)
    near = FarEnd(plane.client(port), asking, server_side=False, name="harbor.test")
    near.shake_hands()
    near.sendall(b"half a requ")
    eventually(lambda: plane.counters(port).bytes_in == 11)
    near.truncate()
    eventually(lambda: heard != [])
    assert isinstance(heard[0], OSError)
    plane.await_end(port, Reason.TLS_TRUNCATED)


def test_a_backend_that_wants_a_certificate_of_the_node_gets_none(
    plane: RunningPlane, ca: str, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(ca)
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(over_tls(server)).address])
    client = plane.client(port)
    assert ends(client) in ("end", "reset")
    eventually(lambda: sum(plane.closed(port).values()) == 1)
    assert set(plane.closed(port)) <= {Reason.BACKEND_TLS_FAILED, Reason.BACKEND_RESET}


def answering(conn: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += conn.recv(1)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize("client_tls", [False, True], ids=["plain client", "TLS client"])
def test_HTTP_is_read_along_between_two_sides_of_TLS(
    plane: RunningPlane, tmp_path: Path, made: Callable[[Made], ssl.SSLContext], client_tls: bool
) -> None:
    shown = issue(tmp_path, "harbor.test")
    server = made(make("127.0.0.1", by=CA))
    port = plane.open(http=True, tls=terms(shown) if client_tls else None, backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(over_tls(server, answering)).address])
    client = plane.client(port)
    if client_tls:
        asking = ssl.create_default_context(cafile=shown.certificate)
        client = plane.keep(asking.wrap_socket(client, server_hostname="harbor.test", suppress_ragged_eofs=False))
    client.sendall(GET)
    assert receive_all(client) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_a_page_says_that_the_applications_TLS_failed(plane: RunningPlane) -> None:
    port = plane.open(http=True, backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(lambda conn: conn.sendall(b"plain")).address])
    client = plane.client(port)
    client.sendall(GET)
    page = receive_all(client)
    assert page.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"TLS" in page
    plane.await_end(port, Reason.BACKEND_TLS_FAILED)


def test_a_server_that_never_says_that_it_ends_harms_no_answer_that_is_whole(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))

    def hang_up(conn: socket.socket) -> None:
        with server.wrap_socket(conn, server_side=True) as tls:
            answering(tls)  # and closed without close_notify, as many a server does

    port = plane.open(http=True, backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(hang_up).address])
    client = plane.client(port)
    client.sendall(GET.replace(b"Connection: close\r\n", b""))
    assert receive_all(client) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_an_answer_that_only_the_end_delimits_is_cut_where_that_was_not_announced(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext]
) -> None:
    server = made(make("127.0.0.1", by=CA))

    def hang_up(conn: socket.socket) -> None:
        with server.wrap_socket(conn, server_side=True) as tls:
            tls.recv(1000)
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf an answ")

    port = plane.open(http=True, backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(hang_up).address])
    client = plane.client(port)
    client.sendall(GET)
    assert ends(client) == "reset"
    plane.await_end(port, Reason.BACKEND_TRUNCATED)


@plain_source
def test_J02_handshakes_with_backends_wait_in_the_line_of_all_handshakes(
    plane: RunningPlane, made: Callable[[Made], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a step takes as long as all may between two polls, the reactor asks after each who else has news."""
    server = made(make("127.0.0.1", by=CA))
    port = plane.open(backend_tls=BackendTls(verify=False))
    plane.backends(port, [plane.backend(over_tls(server)).address])
    steps: list[int] = []
    handshake = TlsEnd.handshake

    def noting(end: TlsEnd) -> bool:
        steps.append(plane.plane.reactor.polls)
        time.sleep(SLICE)
        return handshake(end)

    monkeypatch.setattr(TlsEnd, "handshake", noting)
    clients = [plane.client(port) for _ in range(50)]
    for client in clients:
        client.sendall(b"x")
    for client in clients:
        assert receive_exactly(client, 1) == b"x"
    assert len(set(steps)) == len(steps)


def test_A05_an_end_waits_for_room_in_the_kernel_and_is_said_then(tmp_path: Path) -> None:
    """A socket that has room for the last data, and none for close_notify, which is as long as a few bytes."""
    cert = issue(tmp_path, "harbor.test")
    with contextlib.ExitStack() as stack:
        sizes = [*_fit(_shaken(stack, cert)[0], 500, [])]
        sizes += _fit(_shaken(stack, cert)[0], 7, sizes)  # a record of 7 bytes is as long as close_notify
        end, far, client, incoming = _shaken(stack, cert)
        for size in sizes:
            end.send(memoryview(bytes(size)))
        with pytest.raises(BlockingIOError):
            end.end()
        incoming.write(far.recv(1 << 16))
        end.end()
        incoming.write(far.recv(1 << 16))
        got = 0
        while data := client.read(1 << 16):  # to an end in order; a truncation would raise
            got += len(data)
        assert got == sum(sizes)


def _fit(end: TlsEnd, size: int, before: list[int]) -> list[int]:
    """So many messages of this size fit into a socket after those before."""
    for one in before:
        end.send(memoryview(bytes(one)))
    sizes: list[int] = []
    while len(sizes) < 10_000:
        try:
            end.send(memoryview(bytes(size)))
        except BlockingIOError:
            return sizes
        sizes.append(size)
    raise AssertionError("it never fills")


def _shaken(stack: contextlib.ExitStack, cert: Issued) -> tuple[TlsEnd, socket.socket, ssl.SSLObject, ssl.MemoryBIO]:
    """The relay's end on a small socket, the socket of its client, and the client, to be fed by hand."""
    near, far = (stack.enter_context(one) for one in socket.socketpair())
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    near.setblocking(False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert.file)
    end = TlsEnd(context, near, server_side=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = ssl.create_default_context(cafile=cert.certificate)
    client = asking.wrap_bio(incoming, outgoing, server_hostname="harbor.test")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            far.sendall(outgoing.read())
            end.handshake()
            incoming.write(far.recv(1 << 16))
    far.sendall(outgoing.read())
    assert end.handshake()
    incoming.write(far.recv(1 << 16))  # tickets
    return end, far, client, incoming


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_server_answers_through_it(plane: RunningPlane, tmp_path: Path, version: str) -> None:
    certificate = make("app.internal", by=CA)
    (tmp_path / "ca.pem").write_text(CA.own)
    (tmp_path / "app.pem").write_text(certificate.key + certificate.own)
    number = free_port()
    with programs(tmp_path) as started:
        started.start(
            needs("openssl"), "s_server", "-accept", number, "-cert", tmp_path / "app.pem", "-www", version, port=number
        )
        port = plane.open(http=True, backend_tls=BackendTls(ca_file=str(tmp_path / "ca.pem")))
        plane.routes(port, [Route("b1", Address("127.0.0.1", number), host="app.internal")])
        client = plane.client(port)
        client.sendall(b"GET / HTTP/1.0\r\nHost: app.internal\r\n\r\n")
        assert b"200 ok" in receive_all(client)[:40]


def test_nginx_answers_through_it_request_after_request(plane: RunningPlane, tmp_path: Path) -> None:
    certificate = make("app.internal", by=CA)
    (tmp_path / "ca.pem").write_text(CA.own)
    (tmp_path / "app.pem").write_text(certificate.own)
    (tmp_path / "app.key").write_text(certificate.key)
    number = free_port()
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;"
        f" fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        f" server {{ listen 127.0.0.1:{number} ssl; ssl_certificate app.pem; ssl_certificate_key app.key;\n"
        f"  location / {{ return 200 hello; }} }} }}\n"
    )
    with programs(tmp_path) as started:
        started.start(needs("nginx"), "-p", tmp_path, "-e", "stderr", "-c", conf, port=number)
        port = plane.open(
            http=True, backend_tls=BackendTls(ca_file=str(tmp_path / "ca.pem"), server_name="app.internal")
        )
        plane.backends(port, [Address("127.0.0.1", number)])
        client = plane.client(port)
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: app.internal\r\n\r\n")
            answer = b""
            while not answer.endswith(b"hello"):
                answer += client.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
