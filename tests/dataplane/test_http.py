"""HTTP on a port: heads are rewritten and refused, ends mean what HTTP says, upgrades become plain relays."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from pathlib import Path

import pytest

from harbor.dataplane.sockets import RESET_ON_CLOSE
from harbor.model import Address, Reason
from harbor.policy.http import HttpRelay
from support.backends import Serve, echo
from support.certificates import Issued, issue, terms
from support.needs import plain_source
from support.plane import RunningPlane
from support.sockets import address_of, connected, ends, receive_all, receive_exactly, reset
from support.tls_client import TlsClient
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


PORTION = answer(bytes(range(250)) * 64)


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


def test_A04_an_answer_without_a_length_is_not_whole_because_a_reset_was_found_while_sending(
    plane: RunningPlane,
) -> None:
    port, near, far = a_session(plane)
    near.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
    read_head(far)
    begun = b"HTTP/1.1 200 OK\r\n\r\nhalf"
    far.sendall(begun)
    assert receive_exactly(near, len(begun)) == begun

    def both() -> None:
        near.sendall(b"more of the body")  # comes first, so the relay sends before it reads
        reset(far)

    plane.call(both)
    with pytest.raises(ConnectionResetError):
        receive_all(near)
    plane.await_end(port, Reason.BACKEND_RESET)


def test_A16_a_whole_answer_stays_whole_though_the_backend_is_reset_before_a_slow_reader_has_it(
    plane: RunningPlane,
) -> None:
    kept: list[socket.socket] = []
    port = a_port(plane, lambda conn: (kept.append(conn), keep_answering(conn)))
    near = plane.client(port, receive_buffer=4096)
    plane.await_open(port)
    answers = ask_too_much(plane, near)
    kept[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    kept[0].shutdown(socket.SHUT_RD)  # its thread closes it
    eventually(lambda: not plane.sessions() or the_relay(plane).is_over)
    assert receive_all(near) == answers
    near.close()
    plane.await_end(port, Reason.BACKEND_RESET)


def test_A03_a_client_that_has_sent_ahead_and_is_reset_is_noticed_at_once(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET + GET)
    read_head(far)
    reset(near)
    assert ends(far) == "reset"
    plane.await_end(port, Reason.CLIENT_RESET)


@pytest.mark.parametrize("begun", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabc"])
def test_F10_a_request_that_ends_too_early_is_400_and_the_backend_is_reset(plane: RunningPlane, begun: bytes) -> None:
    port, near, far = a_session(plane)
    near.sendall(begun)
    near.shutdown(socket.SHUT_WR)
    assert b"ended before it was whole" in said_to(near, 400)
    assert ends(far) == "reset"
    plane.await_end(port, Reason.CLIENT_RESET)


def test_F10_a_request_that_ends_too_early_while_it_is_answered_ends_with_a_reset(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
    read_head(far)
    begun = b"HTTP/1.1 200 OK\r\n\r\nhalf"
    far.sendall(begun)
    assert receive_exactly(near, len(begun)) == begun
    near.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        receive_all(near)
    assert ends(far) == "reset"
    plane.await_end(port, Reason.CLIENT_RESET)


def test_F10_a_request_that_ends_too_early_does_not_cost_the_answer_before_it(plane: RunningPlane) -> None:
    port = a_port(plane, keep_answering)
    near = plane.client(port, receive_buffer=4096)
    plane.await_open(port)
    answers = ask_too_much(plane, near)
    near.sendall(b"GET / HT")
    near.shutdown(socket.SHUT_WR)
    eventually(lambda: the_relay(plane).is_over)
    text = receive_all(near)
    assert text.startswith(answers)
    assert text[len(answers) :].startswith(b"HTTP/1.1 400 ")
    plane.await_end(port, Reason.CLIENT_RESET)


@plain_source
def test_F10_a_backend_that_reads_slowly_is_not_the_clients_fault(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.http.BODY_TIMEOUT", 0.2)
    monkeypatch.setattr("harbor.dataplane.tcp.SWEEP", 0.02)
    port, near, far = a_session(plane)
    body = bytes(16 << 20)
    sender = threading.Thread(
        target=lambda: near.sendall(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    )
    sender.start()
    eventually(lambda: plane.plane.reactor.held > 0)
    age = plane.sessions()[0].age
    eventually(lambda: not plane.sessions() or plane.sessions()[0].age > age + 1)  # long past its time
    read_head(far)
    assert receive_exactly(far, len(body)) == body
    sender.join()
    far.sendall(PORTION)
    assert receive_exactly(near, len(PORTION)) == PORTION
    assert plane.closed(port) == {}


def test_an_answer_that_turns_out_to_be_wrong_ends_with_a_reset(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET)
    read_head(far)
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    far.sendall(begun)
    assert receive_exactly(near, len(begun)) == begun
    far.sendall(b"not a size\r\n")
    with pytest.raises(ConnectionResetError):
        receive_all(near)
    plane.await_end(port, Reason.BAD_RESPONSE)
    assert ends(far) == "reset"


def test_F10_a_body_that_turns_out_to_be_wrong_while_it_is_answered_ends_with_a_reset(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    read_head(far)
    begun = b"HTTP/1.1 200 OK\r\n\r\n"  # until the end of the connection, so that an end in order would make it whole
    far.sendall(begun)
    assert receive_exactly(near, len(begun)) == begun
    near.sendall(b"not a size\r\n")
    with pytest.raises(ConnectionResetError):
        receive_all(near)
    plane.await_end(port, Reason.BAD_REQUEST)
    assert ends(far) == "reset"


def test_what_nobody_asked_for_does_not_cost_the_answer_before_it(plane: RunningPlane) -> None:
    port, near, far = a_session(plane)
    near.sendall(GET)
    read_head(far)
    far.sendall(answer(b"whole"))
    assert receive_exactly(near, len(answer(b"whole"))) == answer(b"whole")
    far.sendall(answer(b"more"))
    assert receive_all(near) == b""
    near.close()
    plane.await_end(port, Reason.BAD_RESPONSE)


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


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CONNECT = b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 Connected\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "agreed"), [(UPGRADE, SWITCHED), (CONNECT, CONNECTED)], ids=["Upgrade", "CONNECT"]
)
@pytest.mark.parametrize("ahead", [b"", b"sent ahead"], ids=["silent", "ahead"])
def test_A01_a_client_that_ended_before_the_backend_agreed_has_ended_to_the_backend_too(
    plane: RunningPlane, request_: bytes, agreed: bytes, ahead: bytes
) -> None:
    port, near, far = a_session(plane)
    near.sendall(request_ + ahead)
    near.shutdown(socket.SHUT_WR)
    read_head(far)
    if not ahead:  # else it is not read so far
        eventually(lambda: plane.sessions()[0].state == "half_closed")
    far.sendall(agreed)
    assert receive_all(far) == ahead
    far.sendall(b"and back")
    assert receive_exactly(near, len(agreed) + 8) == agreed + b"and back"
    far.close()
    assert receive_all(near) == b""
    plane.await_end(port, Reason.CLIENT_CLOSED)


def tunnelling(conn: socket.socket) -> None:
    """A backend that makes a tunnel to wherever CONNECT says, like a forward proxy."""
    host, _, port = read_head(conn).split()[1].decode().partition(":")
    with connected(Address(host, int(port))) as far:
        conn.sendall(CONNECTED)
        back = threading.Thread(target=pour, args=(far, conn))
        back.start()
        pour(conn, far)
        back.join()


def pour(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(1 << 16):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


def test_A01_a_tunnel_through_the_backend_carries_everything_and_both_ends(plane: RunningPlane) -> None:
    target, body = plane.backend(echo).address, bytes(range(256)) * 4096
    port = a_port(plane, tunnelling)
    near = plane.client(port)
    near.sendall(b"CONNECT %s:%d HTTP/1.1\r\nHost: h\r\n\r\n" % (target.host.encode(), target.port))
    assert receive_exactly(near, len(CONNECTED)) == CONNECTED
    sender = threading.Thread(target=lambda: (near.sendall(body), near.shutdown(socket.SHUT_WR)))
    sender.start()
    assert receive_all(near) == body
    sender.join()
    near.close()
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_what_was_sent_ahead_goes_on_once_a_slow_backend_has_read_what_is_before_it(plane: RunningPlane) -> None:
    """The backend answers before it reads the bodies. The tail of one is held, and the next request behind it."""
    backend = plane.listening()
    backend.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    port = plane.open(http=True)
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend)
    rounds = 0
    while not plane.plane.reactor.held:  # one after the other, so that each is read in one piece
        near.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n" + bytes(16_000) + GET)
        rounds += 1
        for _ in range(2):
            eventually(lambda: the_relay(plane).waits_for_backend)
            far.sendall(PORTION)
            assert receive_exactly(near, len(PORTION)) == PORTION
            if plane.plane.reactor.held:
                break
    for _ in range(rounds):
        assert read_head(far).startswith(b"POST ")
        receive_exactly(far, 16_000)
        assert read_head(far).startswith(b"GET ")


def keep_answering(conn: socket.socket) -> None:
    """A backend that answers whatever is asked with ``PORTION``, which comes in one piece, and keeps the connection."""
    while conn.recv(1, socket.MSG_PEEK):
        read_head(conn)
        conn.sendall(PORTION)


def ask_too_much(plane: RunningPlane, near: socket.socket) -> bytes:
    """Ask without reading, until an answer is held; returns all that is still to come of them."""
    answers = b""
    while not plane.plane.reactor.held:
        before = plane.call(lambda: the_relay(plane).requests)
        near.sendall(GET)
        eventually(lambda: the_relay(plane).requests > before and the_relay(plane).is_idle)  # noqa: B023
        answers += PORTION
    return answers


def the_relay(plane: RunningPlane) -> HttpRelay:
    """That of the only session."""
    (port,) = plane.plane._ports.values()
    (session,) = port.tcp.sessions.values()
    return session.http


def test_A01_a_slow_reader_that_has_no_more_to_ask_gets_all_of_its_answer(plane: RunningPlane) -> None:
    port = a_port(plane, keep_answering)
    near = plane.client(port, receive_buffer=4096)
    plane.await_open(port)
    answers = ask_too_much(plane, near)
    near.shutdown(socket.SHUT_WR)
    eventually(lambda: plane.sessions()[0].state == "half_closed")
    assert receive_all(near) == answers
    near.close()
    plane.await_end(port, Reason.CLIENT_CLOSED)


@pytest.mark.parametrize("way", ["stays", "is reset"])
def test_F10_a_wrong_request_does_not_cost_the_answer_before_it(plane: RunningPlane, way: str) -> None:
    kept: list[socket.socket] = []
    port = a_port(plane, lambda conn: (kept.append(conn), keep_answering(conn)))
    near = plane.client(port, receive_buffer=4096)
    plane.await_open(port)
    answers = ask_too_much(plane, near)
    near.sendall(b"GET / HTTP/1.1\r\n\r\n")
    eventually(lambda: the_relay(plane).is_over)
    if way == "is reset":
        kept[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        kept[0].shutdown(socket.SHUT_RD)  # its thread closes it
        eventually(lambda: kept[0].fileno() < 0)
    near.sendall(b"anything more")
    near.shutdown(socket.SHUT_WR)
    text = receive_all(near)
    assert text.startswith(answers)
    assert text[len(answers) :].startswith(b"HTTP/1.1 400 ")
    assert text.endswith(b"</html>\n")
    near.close()
    plane.await_end(port, Reason.BAD_REQUEST)


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


def shake(plane: RunningPlane, port: int, cert: Issued, receive_buffer: int | None = None) -> TlsClient:
    context = ssl.create_default_context()
    context.load_verify_locations(cert.certificate)
    return TlsClient(plane.client(port, receive_buffer=receive_buffer), context, "app.test")


def test_over_TLS_the_backend_learns_that_it_was_https(plane: RunningPlane, cert: Issued) -> None:
    backend = plane.listening()
    near = shake(plane, an_https_port(plane, cert, address_of(backend)), cert)
    far = plane.keep(backend.accept()[0])
    near.sendall(GET)
    head = read_head(far).lower()
    assert b"\r\nx-forwarded-proto: https\r\n" in head
    far.sendall(answer(b"ok"))
    assert receive_exactly(near, len(answer(b"ok"))) == answer(b"ok")


def test_A01_over_TLS_a_slow_reader_that_has_no_more_to_ask_gets_all_of_its_answer(
    plane: RunningPlane, cert: Issued
) -> None:
    port = an_https_port(plane, cert, plane.backend(keep_answering).address)
    near = shake(plane, port, cert, receive_buffer=4096)
    plane.await_open(port)
    answers = ask_too_much(plane, near)
    near.end()
    eventually(lambda: plane.sessions()[0].state == "half_closed")
    assert receive_all(near) == answers  # and then close_notify, or this would raise
    plane.await_end(port, Reason.CLIENT_CLOSED)


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
