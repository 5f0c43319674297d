"""HTTP on a port: heads are rewritten and refused, ends mean what HTTP says, upgrades become plain relays."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import pytest

from harbor.model import Address, Reason
from support.backends import Serve
from support.certificates import Issued, issue, terms
from support.needs import plain_source
from support.plane import RunningPlane
from support.sockets import address_of, ends, receive_all, receive_exactly, reset
from support.waiting import eventually

GET = b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n"


def answering(*answers: bytes) -> Serve:
    """A backend that gives these answers, each to one request head; then it closes."""

    def serve(conn: socket.socket) -> None:
        for answer in answers:
            read_head(conn)
            conn.sendall(answer)

    return serve


def read_head(conn: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive_exactly(conn, 1)
    return head


def answer(body: bytes, more: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def a_port(plane: RunningPlane, serve: Serve) -> int:
    port = plane.open(http=True)
    plane.backends(port, [plane.backend(serve).address])
    return port


def a_session(plane: RunningPlane) -> tuple[int, socket.socket, socket.socket]:
    """A port, the client's end and the backend's end."""
    backend = plane.listening()
    port = plane.open(http=True)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    return port, near, far


def said_to(near: socket.socket, status: int) -> bytes:
    text = receive_all(near)
    assert text.startswith(b"HTTP/1.1 %d " % status), text
    return text


def test_the_backend_learns_who_asks_and_the_client_gets_its_answer(plane: RunningPlane) -> None:
    _, near, far = a_session(plane)
    near.sendall(b"GET /a HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
    head = read_head(far)
    assert head.startswith(b"GET /a HTTP/1.1\r\n")
    assert b"\r\nHost: app.test\r\n" in head
    assert re.findall(rb"(?i)\r\nx-forwarded-for: *([^\r]*)", head) == [b"127.0.0.1"]
    assert b"9.9.9.9" not in head
    far.sendall(answer(b"hello"))
    assert receive_exactly(near, len(answer(b"hello"))) == answer(b"hello")


def test_F10_a_proxy_is_believed_as_long_as_the_policy_trusts_it(plane: RunningPlane) -> None:
    """Also while the service lives: a policy counts from the next connection on."""
    port, near, far = a_session(plane)
    ask = b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n\r\n"
    near.sendall(ask)
    assert b"192.0.2.9" not in read_head(far)
    backend = plane.listening()
    plane.backends(port, [address_of(backend)])
    for networks, wanted in ((("127.0.0.0/8", "::1/128"), b"192.0.2.9, 127.0.0.1"), (("192.0.2.0/24",), b"127.0.0.1")):
        plane.set_policy(port, trusted_proxies=networks)
        near, far = plane.session(port, backend)
        near.sendall(ask)
        head = read_head(far)
        assert re.findall(rb"\r\nX-Forwarded-For: ([^\r]*)", head) == [wanted]
        assert re.findall(rb"\r\nX-Forwarded-Proto: ([^\r]*)", head) == [b"https" if b"," in wanted else b"http"]


def test_a_connection_is_kept_for_request_after_request(plane: RunningPlane) -> None:
    port = a_port(plane, answering(answer(b"one"), answer(b"two"), answer(b"three", "Connection: close\r\n")))
    near = plane.client(port)
    for body in (b"one", b"two"):
        near.sendall(GET)
        assert receive_exactly(near, len(answer(body))) == answer(body)
    near.sendall(GET)
    assert receive_all(near).endswith(b"three")
    near.close()
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_requests_that_are_sent_ahead_are_answered_in_order(plane: RunningPlane) -> None:
    bodies = [b"%d" % number for number in range(20)]
    port = a_port(plane, answering(*(answer(body) for body in bodies)))
    near = plane.client(port)
    near.sendall(GET * len(bodies))
    expected = b"".join(answer(body) for body in bodies)
    assert receive_exactly(near, len(expected)) == expected


def test_a_large_body_passes_whole_both_ways(plane: RunningPlane) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB

    def serve(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(answer(receive_exactly(conn, len(body))))

    near = plane.client(a_port(plane, serve))
    near.sendall(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert receive_exactly(near, len(answer(body))) == answer(body)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["CL+TE", "two CL", "bare LF", "obs-fold", "no Host"],
)
def test_F10_what_two_programs_might_read_differently_reaches_no_backend(plane: RunningPlane, request_: bytes) -> None:
    port, near, far = a_session(plane)
    near.sendall(request_)
    said_to(near, 400)
    near.close()
    assert ends(far) == "reset"
    plane.await_end(port, Reason.BAD_REQUEST)


@plain_source
def test_F10_a_head_that_never_ends_is_answered_408(plane: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harbor.dataplane.http.HEAD_TIMEOUT", 0.2)
    monkeypatch.setattr("harbor.dataplane.tcp.SWEEP", 0.05)
    port, near, _ = a_session(plane)
    near.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
    said_to(near, 408)
    near.close()
    plane.await_end(port, Reason.BAD_REQUEST)


def test_without_a_backend_the_page_says_so(plane: RunningPlane) -> None:
    port = plane.open(http=True)
    near = plane.client(port)
    near.sendall(GET)
    assert b"No instance" in said_to(near, 503)
    near.close()
    plane.await_end(port, Reason.NO_BACKEND)


def test_a_backend_that_refuses_is_502(plane: RunningPlane) -> None:
    port = plane.open(http=True)
    nobody = plane.listening()
    address = address_of(nobody)
    nobody.close()
    plane.backends(port, [address])
    near = plane.client(port)
    near.sendall(GET)
    said_to(near, 502)
    near.close()
    plane.await_end(port, Reason.CONNECT_REFUSED)


def test_a_backend_that_does_not_answer_the_dial_is_504(plane: RunningPlane) -> None:
    backend = plane.listening(backlog=0)
    for _ in range(2):
        filler = plane.keep(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(backend.getsockname())
    port = plane.open(http=True, connect_timeout=0.2)
    plane.backends(port, [address_of(backend)])
    near = plane.client(port)
    near.sendall(GET)
    said_to(near, 504)
    near.close()
    plane.await_end(port, Reason.CONNECT_TIMEOUT)


@pytest.mark.parametrize("way", ["end", "reset"])
def test_a_backend_that_leaves_without_an_answer_is_502(plane: RunningPlane, way: str) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET)
    read_head(far)
    if way == "end":
        far.close()
    else:
        reset(far)
    said_to(near, 502)
    near.close()
    plane.await_end(port, Reason.BACKEND_CLOSED if way == "end" else Reason.BACKEND_RESET)


def test_an_answer_that_is_cut_short_stays_cut_short(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET)
    read_head(far)
    far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    far.close()
    with pytest.raises(ConnectionResetError):
        receive_all(near)
    plane.await_end(port, Reason.BACKEND_RESET)


def test_a_body_until_the_end_of_the_connection_arrives_whole(plane: RunningPlane) -> None:
    port = a_port(plane, answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000))
    near = plane.client(port)
    near.sendall(GET)
    text = receive_all(near)
    assert text.partition(b"\r\n\r\n")[2] == b"x" * 100_000
    near.close()
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_A01_a_client_that_has_no_more_to_ask_gets_its_last_answer(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET)
    near.shutdown(socket.SHUT_WR)
    read_head(far)
    far.sendall(answer(b"late"))
    assert receive_all(near) == answer(b"late")
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_nonsense_of_the_backend_is_502(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET)
    read_head(far)
    far.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    said_to(near, 502)
    near.close()
    plane.await_end(port, Reason.BAD_RESPONSE)


def test_an_upgrade_becomes_a_plain_relay(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b"pgrade: websocket" in read_head(far)
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    far.sendall(switched + b"\x81\x05first")
    assert receive_exactly(near, len(switched) + 7) == switched + b"\x81\x05first"
    near.sendall(b"\x00\x01\n\r\nanything")
    assert receive_exactly(far, 13) == b"\x00\x01\n\r\nanything"
    near.shutdown(socket.SHUT_WR)
    assert ends(far) == "end"
    far.sendall(b"and back")
    assert receive_exactly(near, 8) == b"and back"
    far.close()
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_a_slow_reader_gets_the_last_byte_before_the_end(plane: RunningPlane) -> None:
    body = b"x" * (8 << 20)
    port = a_port(plane, answering(answer(body, "Connection: close\r\n")))
    near = plane.client(port, receive_buffer=4096)
    near.sendall(GET)
    eventually(lambda: plane.plane.reactor.held > 0)
    assert receive_all(near).endswith(body)
    near.close()
    plane.await_end(port, Reason.BACKEND_CLOSED)


# With TLS


@pytest.fixture
def cert(tmp_path: Path) -> Issued:
    return issue(tmp_path, "app.test")


def an_https_port(plane: RunningPlane, cert: Issued, address: Address | None) -> int:
    port = plane.open(tls=terms(cert), http=True)
    if address is not None:
        plane.backends(port, [address])
    return port


def shake(plane: RunningPlane, port: int, cert: Issued) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.load_verify_locations(cert.certificate)
    client = context.wrap_socket(plane.client(port), server_hostname="app.test", suppress_ragged_eofs=False)
    plane.keep(client)
    return client


def test_over_TLS_the_backend_learns_that_it_was_https(plane: RunningPlane, cert: Issued) -> None:
    backend = plane.listening()
    near = shake(plane, an_https_port(plane, cert, address_of(backend)), cert)
    far = plane.keep(backend.accept()[0])
    near.sendall(GET)
    head = read_head(far).lower()
    assert b"\r\nx-forwarded-proto: https\r\n" in head
    far.sendall(answer(b"ok"))
    assert receive_exactly(near, len(answer(b"ok"))) == answer(b"ok")


def test_over_TLS_a_page_ends_in_order(plane: RunningPlane, cert: Issued) -> None:
    near = shake(plane, an_https_port(plane, cert, None), cert)
    assert receive_all(near).startswith(b"HTTP/1.1 503 ")  # and then close_notify, or this would raise


def test_a_plain_request_to_an_https_port_is_told_where_to_go(plane: RunningPlane, cert: Issued) -> None:
    port = an_https_port(plane, cert, None)
    near = plane.client(port)
    near.sendall(GET)
    assert b"\r\nLocation: https://app.test:%d/a\r\n" % port in said_to(near, 301)
    near.close()
    plane.await_end(port, Reason.TLS_HANDSHAKE_FAILED)
