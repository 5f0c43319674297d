"""One check of one address: what passes, what fails and in which words. Real sockets on either side."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from harbor.health import checks, dns
from harbor.health.checks import MOST_READ, CheckFailed, CheckSkipped, look
from harbor.model import Address
from harbor.model.health import CheckType, HealthCheck
from support.backends import Backend, Serve, greeting, resetting_after, sending
from support.datagram_backend import DatagramBackend
from support.running_node import MakeBackend
from support.sockets import PATIENCE, address_of, datagrams, free_port, reset


@pytest.fixture
def backend() -> Iterator[MakeBackend]:
    with contextlib.ExitStack() as stack:

        def make(serve: Serve, host: str = "127.0.0.1") -> Backend:
            return stack.enter_context(contextlib.closing(Backend(serve, host)))

        yield make


def opened(host: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


def check(kind: str, **members: Any) -> HealthCheck:
    return HealthCheck(CheckType(kind), **{"timeout": PATIENCE, **members})


async def failure(check: HealthCheck, address: Address) -> str | None:
    """Why it fails, without what was asked; None if it passes."""
    try:
        await look(check, address, opened)
    except CheckFailed as error:
        asked, _, why = str(error).partition(": ")
        assert asked.startswith(f"{check.type.value} check of {address}")
        return why
    return None


def answering(answer: bytes, asked: list[bytes] | None = None) -> Serve:
    """Answer what comes first, then wait for the end."""

    def serve(conn: socket.socket) -> None:
        data = conn.recv(1 << 16)
        if asked is not None:
            asked.append(data)
        conn.sendall(answer)
        while conn.recv(1 << 16):
            pass

    return serve


def silent(conn: socket.socket) -> None:
    while conn.recv(1 << 16):
        pass


# -- tcp --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_tcp_passes_where_somebody_accepts(backend: MakeBackend, host: str) -> None:
    for serve in (silent, greeting(b"220 hello\r\n"), sending(b"")):
        assert await failure(check("tcp"), backend(serve, host).address) is None


async def test_tcp_fails_where_nobody_listens_and_where_the_connection_is_reset_at_once(backend: MakeBackend) -> None:
    assert await failure(check("tcp"), Address("127.0.0.1", free_port())) == "Connection refused"
    assert await failure(check("tcp"), backend(reset).address) == "Connection reset by peer"


async def test_a_check_that_meets_itself_fails() -> None:
    """The kernel may give a socket the very port that it dials as its source port."""
    port = free_port()

    def bound(host: str, kind: socket.SocketKind) -> socket.socket:
        sock = opened(host, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        return sock

    with pytest.raises(CheckFailed, match=r"Connection refused$"):
        await look(check("tcp"), Address("127.0.0.1", port), bound)


async def test_the_backend_sees_an_orderly_end(backend: MakeBackend) -> None:
    ends: list[bytes] = []

    def serve(conn: socket.socket) -> None:
        conn.sendall(b"welcome, and much more than a check wants to know")
        ends.append(conn.recv(1))  # raises if it was reset

    with contextlib.closing(Backend(serve)) as served:
        assert await failure(check("tcp"), served.address) is None
    assert ends == [b""]


# -- http -------------------------------------------------------------------------------------------------------------


async def test_http_asks_for_the_path_and_passes_with_a_good_status(backend: MakeBackend) -> None:
    asked: list[bytes] = []
    at = backend(answering(b"HTTP/1.1 204 No Content\r\n\r\n", asked)).address
    assert await failure(check("http", path="/ok?a=b"), at) is None
    head, *fields = asked[0].decode().split("\r\n")
    assert head == "GET /ok?a=b HTTP/1.1"
    assert {f"Host: {at}", "Connection: close"} <= set(fields)
    assert await failure(check("http", status=204), at) is None
    assert await failure(check("http", status=("3xx", 200)), at) == "status 204"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "status 503"),
        (b"HTTP/1.1 404\r\n\r\n", "status 404"),
        (b"HTTP/1.1 two hundred\n", r"the answer is not HTTP: 'HTTP/1.1 two hundred\n'"),
        (b"\x15\x03\x01\n", r"the answer is not HTTP: '\x15\x03\x01\n'"),
    ],
)
async def test_http_fails_with_any_other_answer(backend: MakeBackend, answer: bytes, why: str) -> None:
    assert await failure(check("http"), backend(answering(answer)).address) == why


async def test_http_reads_no_more_than_it_needs(backend: MakeBackend) -> None:
    endless = backend(answering(b"x" * (1 << 20))).address
    assert "is not HTTP" in (await failure(check("http"), endless) or "")
    large = backend(answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 24))).address
    assert await failure(check("http"), large) is None


async def test_http_that_ends_without_an_answer_fails(backend: MakeBackend) -> None:
    def hang_up(conn: socket.socket) -> None:
        conn.recv(1 << 16)

    assert await failure(check("http"), backend(hang_up).address) == "it closed without an answer"
    assert await failure(check("http"), backend(resetting_after(b"")).address) == "Connection reset by peer"


# -- exchange ---------------------------------------------------------------------------------------------------------


async def test_exchange_sends_bytes_and_finds_what_it_expects_however_it_arrives(backend: MakeBackend) -> None:
    asked: list[bytes] = []

    def serve(conn: socket.socket) -> None:
        asked.append(conn.recv(100))
        for byte in b"noise +PONG\r\n":
            conn.sendall(bytes((byte,)))
        conn.recv(1)

    at = backend(serve).address
    assert await failure(check("exchange", send="PI\\x00NG\\r\\n", expect="+PONG\\r\\n"), at) is None
    assert asked == [b"PI\x00NG\r\n"]


async def test_exchange_takes_any_answer_if_it_expects_none_and_waits_for_a_greeting_if_it_sends_none(
    backend: MakeBackend,
) -> None:
    at = backend(greeting(b"220 mail.example.org\r\n")).address
    assert await failure(check("exchange"), at) is None
    assert await failure(check("exchange", expect="220 "), at) is None


async def test_exchange_fails_with_another_answer_with_none_and_with_one_without_end(backend: MakeBackend) -> None:
    wrong = backend(sending(b"-NOAUTH\r\n")).address
    assert await failure(check("exchange", expect="+PONG"), wrong) == r"the answer '-NOAUTH\r\n' has no '+PONG'"
    assert await failure(check("exchange"), backend(sending(b"")).address) == "it closed without an answer"
    endless = backend(sending(b"x" * 8 * MOST_READ)).address
    assert (await failure(check("exchange", expect="y"), endless) or "").endswith("...' has no 'y'")


# -- udp and dns ------------------------------------------------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[DatagramBackend]:
    with contextlib.closing(DatagramBackend("b")) as backend:
        yield backend


async def test_udp_passes_with_the_expected_answer_or_any(echo: DatagramBackend) -> None:
    assert await failure(check("udp", send="\\x01ping", expect="b:\\x01ping"), echo.address) is None
    assert await failure(check("udp"), echo.address) is None
    assert await failure(check("udp", send="a", expect="c"), echo.address) == "the answer 'b:a' has no 'c'"


async def test_udp_fails_where_nobody_listens_and_where_nobody_answers(echo: DatagramBackend) -> None:
    echo.mute()
    assert await failure(check("udp", timeout=0.1), echo.address) == "no answer within 0.1 s"
    assert await failure(check("udp"), Address("127.0.0.1", free_port())) == "Connection refused"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda reply: reply, None),
        (lambda reply: reply[:3] + b"\x85" + reply[4:], None),  # REFUSED is an answer
        (lambda reply: reply[:11], "the answer is too short for DNS"),
        (lambda reply: b"\0\0" + reply[2:] if reply[:2] != b"\0\0" else b"\1" + reply[1:], "the answer is no reply"),
        (lambda reply: reply[:2] + b"\x01" + reply[3:], "the answer is no reply"),
        (lambda reply: reply[:-4] + b"\0\x10\0\1", "the answer is to another question"),
    ],
)
async def test_dns_passes_with_a_reply_to_its_question(change: Any, why: str | None) -> None:
    loop = asyncio.get_running_loop()
    with datagrams() as server:
        server.setblocking(False)
        looking = asyncio.create_task(failure(check("dns"), address_of(server)))
        asked, client = await loop.sock_recvfrom(server, 512)
        assert asked[12:] == b"\0\0\x02\0\1"
        await loop.sock_sendto(server, change(asked[:2] + b"\x84\0" + asked[4:]), client)
        said = await looking
    assert said is None if why is None else (said or "").startswith(why)


def test_dns_names_what_a_server_answered() -> None:
    asked = dns.query(7, ("example", "org"), 1)
    assert asked == b"\0\7\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1"
    assert dns.code_of(asked[:2] + b"\x80\3" + asked[4:].upper(), asked) == "NXDOMAIN"
    assert dns.code_of(asked[:2] + b"\x80\1" + bytes(8), asked) == "FORMERR"
    assert dns.code_of(asked[:2] + b"\x80\x0b" + asked[4:], asked) == "code 11"


async def test_dns_may_insist_on_a_code() -> None:
    loop = asyncio.get_running_loop()
    with datagrams() as server:
        server.setblocking(False)
        looking = asyncio.create_task(failure(check("dns", expect="NOERROR"), address_of(server)))
        asked, client = await loop.sock_recvfrom(server, 512)
        await loop.sock_sendto(server, asked[:2] + b"\x80\x02" + asked[4:], client)
        assert await looking == "the answer is SERVFAIL, not NOERROR"


# -- Bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "exchange"])
async def test_B08_a_backend_that_accepts_and_never_answers_fails_in_time(backend: MakeBackend, kind: str) -> None:
    assert await failure(check(kind, timeout=0.1), backend(silent).address) == "no answer within 0.1 s"


async def test_B08_a_backend_that_answers_byte_by_byte_gets_no_more_time(backend: MakeBackend) -> None:
    def drip(conn: socket.socket) -> None:
        conn.settimeout(0.02)
        while True:
            conn.sendall(b"H")
            with contextlib.suppress(TimeoutError):
                if not conn.recv(1 << 16):
                    break

    said = await failure(check("http", timeout=0.2), backend(drip).address)
    assert said in [f"the answer '{'H' * count}' has no end of line within 0.2 s" for count in range(1, 50)]


async def test_what_is_this_machines_own_trouble_says_nothing_of_the_backend() -> None:
    def out_of_descriptors(host: str, kind: socket.SocketKind) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(CheckSkipped, match="Too many open files"):
        await look(check("tcp"), Address("127.0.0.1", 1), out_of_descriptors)
    assert errno.ECONNREFUSED not in checks.OUR_OWN
