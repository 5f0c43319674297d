"""TCP: ends, resets, order and exactness of bytes, dials that fail."""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

import pytest

from conformance.differences import differs
from conformance.proxy import Proxy
from harbor.model import Address
from support.backends import greeting
from support.sockets import address_of, ends, receive_all, receive_exactly, reset
from support.waiting import eventually

MUCH: Final = bytes(range(256)) * (32 << 12)  # 32 MiB, more than all buffers on the way hold
LINES: Final = b"0123456789abcdef" * 256


def fill(sock: socket.socket) -> int:
    """Send until nothing more is taken, for a while; returns how much of ``MUCH`` went."""
    sent, stuck_since = 0, time.monotonic()
    sock.setblocking(False)
    while sent < len(MUCH) and time.monotonic() - stuck_since < 0.2:
        try:
            sent += sock.send(MUCH[sent : sent + (1 << 18)])
            stuck_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    return sent


def send_rest(sock: socket.socket, sent: int, patience: float) -> threading.Thread:
    """Send the rest of ``MUCH`` and the end, in a thread."""

    def run() -> None:
        sock.settimeout(patience)
        sock.sendall(MUCH[sent:])
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_A01_a_client_that_has_ended_its_side_is_still_answered(proxy: Proxy) -> None:
    near, far = proxy.pair()
    near.sendall(b"question")
    near.shutdown(socket.SHUT_WR)
    assert receive_all(far) == b"question"
    far.sendall(b"answer")
    far.close()
    assert receive_all(near) == b"answer"


def test_A02_a_backend_that_has_ended_its_side_still_hears_the_client(proxy: Proxy) -> None:
    near, far = proxy.pair()
    far.sendall(b"goodbye")
    far.shutdown(socket.SHUT_WR)
    assert receive_all(near) == b"goodbye"
    near.sendall(b"one more thing")
    near.close()
    assert receive_all(far) == b"one more thing"


@differs(nginx="ends the connection to the backend in order, as if the client had said all that it wanted to say")
def test_A03_a_reset_of_the_client_reaches_the_backend_as_a_reset(proxy: Proxy) -> None:
    near, far = proxy.pair()
    near.sendall(b"x")
    receive_exactly(far, 1)
    reset(near)
    assert ends(far) == "reset"


def test_A04_a_backend_that_dies_in_mid_transfer_ends_the_session_of_its_client(proxy: Proxy) -> None:
    near, far = proxy.pair()
    fill(far)
    reset(far)
    assert ends(near) in ("end", "reset")


def test_A05_a_client_that_reads_late_gets_everything(proxy: Proxy) -> None:
    near, far = proxy.pair()
    sent = fill(far)
    assert sent < len(MUCH)  # the backend had to wait for the client
    sender = send_rest(far, sent, proxy.patience)
    assert receive_all(near) == MUCH
    sender.join()


def test_A06_a_backend_that_reads_late_gets_everything(proxy: Proxy) -> None:
    near, far = proxy.pair()
    sent = fill(near)
    assert sent < len(MUCH)
    sender = send_rest(near, sent, proxy.patience)
    assert receive_all(far) == MUCH
    sender.join()


def test_A07_a_backend_may_speak_first(proxy: Proxy) -> None:
    client = proxy.client(proxy.open(proxy.backend(greeting(b"220 ready\r\n")).address))
    assert receive_exactly(client, 11) == b"220 ready\r\n"


def test_A08_segments_of_one_byte_arrive_in_order_both_ways(proxy: Proxy) -> None:
    client = proxy.client(proxy.open(proxy.backend().address))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(LINES)):
        client.sendall(LINES[at : at + 1])
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client) == LINES


def test_A09_where_a_backend_refuses_the_next_one_is_dialled(proxy: Proxy) -> None:
    port = proxy.open(proxy.refusing(), proxy.backend(greeting(b"here")).address)
    for _ in range(4):
        client = proxy.client(port)
        assert receive_exactly(client, 4) == b"here"


def test_A10_where_all_backends_refuse_the_client_is_let_go(proxy: Proxy) -> None:
    port = proxy.open(proxy.refusing(), proxy.refusing())
    assert ends(proxy.client(port)) in ("end", "reset")


def test_A11_where_a_backend_does_not_answer_the_next_one_is_dialled(proxy: Proxy) -> None:
    silent = address_of(proxy.listening(backlog=0))
    proxy.client(silent)  # there is room for one in its queue, and the kernel answers no other
    port = proxy.open(silent, proxy.backend(greeting(b"here")).address, connect_timeout=1)
    assert receive_exactly(proxy.client(port), 4) == b"here"


def dialling(address: Address) -> bool:
    """Whether somebody on this machine is still waiting for an answer from this address."""
    wanted = f":{address.port:04X} 02 "  # SYN_SENT
    with open("/proc/net/tcp") as table:
        return any(wanted in line for line in table)


@differs(nginx="looks at the client only once the backend has answered, and dials on until `proxy_connect_timeout`")
def test_A12_a_client_that_leaves_ends_the_dial_for_it(proxy: Proxy) -> None:
    silent = address_of(proxy.listening(backlog=0))
    proxy.client(silent)  # as above
    client = proxy.client(proxy.open(silent, connect_timeout=30))
    eventually(lambda: dialling(silent), proxy.patience, "the dial is under way")
    reset(client)
    eventually(lambda: not dialling(silent), proxy.patience, "the dial has ended")


def test_A13_a_session_without_a_byte_for_too_long_is_closed_on_both_sides(proxy: Proxy) -> None:
    near, far = proxy.pair(idle_timeout=0.3)
    assert ends(near) in ("end", "reset")
    assert ends(far) in ("end", "reset")


def test_A15_a_session_in_which_one_side_talks_is_not_idle(proxy: Proxy) -> None:
    near, far = proxy.pair(idle_timeout=1)
    begun = time.monotonic()
    while time.monotonic() < begun + 1.5:
        far.sendall(b".")
        assert near.recv(1) == b"."
        time.sleep(0.05)


def test_A16_an_answer_is_whole_though_the_backend_did_not_read_all_of_the_question(proxy: Proxy) -> None:
    """Its kernel resets the connection when it closes, behind the answer."""
    near, far = proxy.pair()
    near.sendall(b"question" * 1000)
    receive_exactly(far, 8)
    far.sendall(LINES)
    assert receive_exactly(near, len(LINES) - 1) == LINES[:-1]
    far.close()
    assert receive_exactly(near, 1) == LINES[-1:]


def test_A17_connections_that_come_and_go_without_data_leave_nothing_behind(proxy: Proxy) -> None:
    backend = proxy.backend()
    port = proxy.open(backend.address)
    for number in range(200):
        client = proxy.client(port)
        reset(client) if number % 2 else client.close()
    last = proxy.client(port)
    last.sendall(b"still there")
    assert receive_exactly(last, 11) == b"still there"
    eventually(lambda: backend.live == 1, proxy.patience, "only the last is left")


@pytest.mark.parametrize(("client", "backend"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("::1", "::1")])
def test_A21_clients_and_backends_may_be_of_different_families(proxy: Proxy, client: str, backend: str) -> None:
    port = proxy.open(proxy.backend(greeting(b"hello"), backend).address, host=client)
    assert receive_exactly(proxy.client(port), 5) == b"hello"


def test_one_session_that_ends_badly_is_nothing_to_the_others(proxy: Proxy) -> None:
    backend = proxy.listening()
    port = proxy.open(address_of(backend))
    pairs = []
    for _ in range(3):
        near = proxy.client(port)
        pairs.append((near, proxy.accepted(backend)))
    fill(pairs[0][1])
    reset(pairs[0][1])
    reset(pairs[1][0])
    near, far = pairs[2]
    near.sendall(b"still there")
    assert receive_exactly(far, 11) == b"still there"
