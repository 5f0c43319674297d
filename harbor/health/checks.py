"""One check of one address: ask, read no more than needed, say what is wrong.

Every check has a socket of its own, takes at most its ``timeout``, keeps at most ``MOST_READ`` bytes, and leaves
nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import re
import socket
import struct
from collections.abc import Callable
from typing import Final

from harbor.health import dns
from harbor.model import Address
from harbor.model.health import CheckType, HealthCheck

MOST_READ: Final = 1 << 16  # bytes; an answer that has not shown what it must by then will not
LONGEST_LINE: Final = 8192  # bytes of an HTTP status line
LARGEST_DATAGRAM: Final = 65_535
RESET_WITHIN: Final = 0.05  # seconds in which a reset counts as a connection that was not accepted
SHOWN: Final = 60  # characters of a wrong answer that are told

NO_ANSWER: Final = "it closed without an answer"

# A failure of connect() that says something about this machine, not about the backend.
OUR_OWN: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\n]*)?\r?\n")

Open = Callable[[str, socket.SocketKind], socket.socket]  # a non-blocking socket that may dial this host


class CheckFailed(Exception):
    """The backend did not do what it should; says why."""


class CheckSkipped(Exception):
    """This machine could not ask; says nothing of the backend."""


async def look(check: HealthCheck, address: Address, open_socket: Open, header: bytes = b"") -> None:
    """Check this address; over TCP ``header`` is said before all else.

    Errors: ``CheckFailed`` that says what was asked and what is wrong, ``CheckSkipped``.
    """
    answer = bytearray()
    try:
        async with asyncio.timeout(check.timeout):
            await _ask(check, address, open_socket, header, answer)
    except TimeoutError:
        raise _failed(check, address, f"{_lacking(check, answer)} within {check.timeout:g} s") from None
    except OSError as error:
        if error.errno in OUR_OWN:
            raise CheckSkipped(os.strerror(error.errno)) from error
        raise _failed(check, address, os.strerror(error.errno or 0)) from error
    except CheckFailed as error:
        raise _failed(check, address, str(error)) from None


async def _ask(check: HealthCheck, address: Address, open_socket: Open, header: bytes, answer: bytearray) -> None:
    """The check itself; what has been read over TCP so far is in ``answer``."""
    datagrams = check.type in (CheckType.UDP, CheckType.DNS)
    with open_socket(address.host, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM) as sock:
        if datagrams:
            sock.connect(address)
        else:
            await _connect(sock, address)
            if header:
                await asyncio.get_running_loop().sock_sendall(sock, header)
        match check.type:
            case CheckType.TCP:
                await _stays(sock)
            case CheckType.HTTP:
                await _http(sock, check, address, answer)
            case CheckType.EXCHANGE:
                await _exchange(sock, check, answer)
            case CheckType.UDP:
                await _datagram(sock, check)
            case CheckType.DNS:
                await _dns(sock, check)
        if not datagrams:
            _leave(sock)


async def _connect(sock: socket.socket, address: Address) -> None:
    await asyncio.get_running_loop().sock_connect(sock, address)
    if sock.getsockname()[:2] == address:
        # Nobody listens, and the kernel took the backend's port as our source port: both ends are this socket.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "")


async def _stays(sock: socket.socket) -> None:
    """Whether the connection outlives its first moment; what a proxy accepts for a backend that is gone does not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RESET_WITHIN):
            await asyncio.get_running_loop().sock_recv(sock, 1)


async def _http(sock: socket.socket, check: HealthCheck, address: Address, answer: bytearray) -> None:
    loop = asyncio.get_running_loop()
    request = (
        f"GET {check.path or '/'} HTTP/1.1\r\nHost: {address}\r\n"
        "User-Agent: harbor-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    await loop.sock_sendall(sock, request.encode("ascii"))
    while b"\n" not in answer and len(answer) < LONGEST_LINE:
        more = await loop.sock_recv(sock, LONGEST_LINE)
        if not more:
            break
        answer += more
    line = _STATUS_LINE.match(answer)
    if line is None:
        raise CheckFailed(f"the answer is not HTTP: {_shown(answer)}" if answer else NO_ANSWER)
    status = int(line[1])
    if not check.accepts(status):
        raise CheckFailed(f"status {status}")


async def _exchange(sock: socket.socket, check: HealthCheck, answer: bytearray) -> None:
    loop = asyncio.get_running_loop()
    if check.send:
        await loop.sock_sendall(sock, check.payload)
    while not answer or check.wanted not in answer:
        more = await loop.sock_recv(sock, MOST_READ)
        answer += more
        if not more or len(answer) > MOST_READ:
            raise CheckFailed(_lacking(check, answer) if answer else NO_ANSWER)


async def _datagram(sock: socket.socket, check: HealthCheck) -> None:
    sock.send(check.payload)
    answer = await asyncio.get_running_loop().sock_recv(sock, LARGEST_DATAGRAM)
    if check.wanted not in answer:
        raise CheckFailed(f"the answer {_shown(answer)} has no {_shown(check.wanted)}")


async def _dns(sock: socket.socket, check: HealthCheck) -> None:
    asked = dns.query(random.getrandbits(16), *check.question)
    sock.send(asked)
    answer = await asyncio.get_running_loop().sock_recv(sock, LARGEST_DATAGRAM)
    try:
        code = dns.code_of(answer, asked)
    except ValueError as error:
        raise CheckFailed(str(error)) from None
    if check.expect and code != check.expect:
        raise CheckFailed(f"the answer is {code}, not {check.expect}")


def _leave(sock: socket.socket) -> None:
    """Say goodbye in order: unread bytes would make a reset of it, which servers write into their logs."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        left = MOST_READ
        while left > 0 and (data := sock.recv(left)):
            left -= len(data)


def _lacking(check: HealthCheck, answer: bytearray) -> str:
    """What an answer that has come so far, if any, does not have."""
    if not answer:
        return "no answer"
    return f"the answer {_shown(answer)} has no {_shown(check.wanted) if check.expect else 'end of line'}"


def _failed(check: HealthCheck, address: Address, why: str) -> CheckFailed:
    path = (check.path or "/") if check.type is CheckType.HTTP else ""
    return CheckFailed(f"{check.type.value} check of {address}{path}: {why}")


def _shown(data: bytes | bytearray) -> str:
    text = repr(bytes(data[: SHOWN + 1]))[1:]
    return text if len(data) <= SHOWN else f"{text[:SHOWN]}...'"
