"""What a TCP session carries: every byte, every end, every reset, in bounded memory."""

from __future__ import annotations

import fcntl
import hashlib
import random
import select
import socket
import struct
import threading

import pytest

from harbor.dataplane.linger import discard_until_end
from harbor.dataplane.reactor import PIECE, WHOLE
from harbor.dataplane.sockets import SIOCOUTQ
from harbor.dataplane.stream import Stream
from harbor.model import Reason
from support.backends import echo, greeting, sending
from support.needs import plain_source
from support.plane import RunningPlane
from support.sockets import address_of, ends, is_silent, receive_all, receive_exactly, reset
from support.waiting import eventually

MIB = 1 << 20
BULK = random.Random(5).randbytes(MIB) * 50


def test_A01_an_answer_after_the_clients_end_is_delivered_whole(plane: RunningPlane, host: str) -> None:
    port, near, far = plane.pair(host)
    near.sendall(b"question")
    near.shutdown(socket.SHUT_WR)
    assert receive_all(far) == b"question"
    eventually(lambda: plane.sessions()[0].state == "half_closed")
    far.sendall(b"answer")
    far.close()
    assert receive_all(near) == b"answer"
    near.close()
    plane.await_end(port, Reason.CLIENT_CLOSED)
    counters = plane.counters(port)
    assert (counters.bytes_in, counters.bytes_out, counters.active) == (8, 6, 0)


def test_A02_a_client_may_go_on_sending_after_the_backends_end(plane: RunningPlane, host: str) -> None:
    port, near, far = plane.pair(host)
    far.sendall(b"all I have to say")
    far.shutdown(socket.SHUT_WR)
    assert receive_all(near) == b"all I have to say"
    for number in range(20):
        near.sendall(b"%02d" % number)
        assert receive_exactly(far, 2) == b"%02d" % number
    near.close()
    assert receive_all(far) == b""
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_A03_a_client_reset_reaches_the_backend(plane: RunningPlane, host: str) -> None:
    port, near, far = plane.pair(host)
    near.sendall(b"x" * 1000)
    assert receive_exactly(far, 1000) == b"x" * 1000
    reset(near)
    assert ends(far) == "reset"
    plane.await_end(port, Reason.CLIENT_RESET)


def test_A03_a_client_reset_reaches_a_backend_that_does_not_read(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    near.setblocking(False)
    _fill(near)
    eventually(lambda: plane.plane.reactor.held > 0)
    reset(near)
    plane.await_end(port, Reason.CLIENT_RESET)
    assert ends(far) == "reset"


def test_A04_a_backend_reset_reaches_the_client(plane: RunningPlane, host: str) -> None:
    port, near, far = plane.pair(host)
    far.sendall(b"half an answ")
    assert receive_exactly(near, 12) == b"half an answ"
    reset(far)
    assert ends(near) == "reset"
    plane.await_end(port, Reason.BACKEND_RESET)


def test_A04_what_a_backend_sent_before_its_reset_still_arrives(plane: RunningPlane) -> None:
    port, near, far = plane.pair()
    far.sendall(b"x" * 1000)
    eventually(lambda: plane.sessions()[0].bytes_out == 1000)
    reset(far)
    plane.await_end(port, Reason.BACKEND_RESET)
    assert receive_exactly(near, 1000) == b"x" * 1000
    assert ends(near) == "reset"


def test_A04_a_reset_found_while_sending_is_not_taken_for_an_orderly_end(plane: RunningPlane) -> None:
    port, near, far = plane.pair()

    def both() -> None:
        near.sendall(b"news for a backend that is gone")  # comes first, so the relay sends before it reads
        reset(far)

    plane.call(both)
    assert ends(near) == "reset"
    plane.await_end(port, Reason.BACKEND_RESET)


def test_A04_a_reset_does_not_wait_for_a_slow_reader(plane: RunningPlane) -> None:
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend, receive_buffer=4096)
    while not plane.plane.reactor.held:
        far.sendall(BULK[:PIECE])
    reset(far)
    plane.await_end(port, Reason.BACKEND_RESET)
    assert ends(near) == "reset"


@pytest.mark.parametrize("way", ["down", "up"], ids=["A05_download", "A06_upload"])
def test_A05_A06_a_slow_reader_gets_every_byte_and_costs_bounded_memory(plane: RunningPlane, way: str) -> None:
    port, near, far = plane.pair()
    source, sink = (far, near) if way == "down" else (near, far)

    def send() -> None:
        source.sendall(BULK)
        source.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    moved = lambda: (lambda view: view.bytes_in + view.bytes_out)(plane.sessions()[0])  # noqa: E731
    eventually(lambda: plane.plane.reactor.held > 0, what="the reader is full")
    stuck = moved()
    assert stuck < len(BULK)
    for _ in range(20):  # it stays so: nothing is read for somebody who does not take it
        assert 0 < plane.call(lambda: plane.plane.reactor.held) <= WHOLE
    assert moved() == stuck
    got = hashlib.sha256(receive_all(sink)).digest()
    assert got == hashlib.sha256(BULK).digest()
    sender.join()
    assert plane.plane.reactor.held == 0
    sink.close()
    source.close()
    plane.await_end(port, Reason.BACKEND_CLOSED if way == "down" else Reason.CLIENT_CLOSED)
    counters = plane.counters(port)
    assert counters.bytes_in + counters.bytes_out == len(BULK)


@plain_source
def test_A05_many_slow_readers_cost_a_piece_each(plane: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harbor.dataplane.stream.HELD_BUDGET", WHOLE)
    backend = plane.backend(sending(b"x" * (16 * MIB)))
    port = plane.open()
    plane.backends(port, [backend.address])
    clients = [plane.client(port, receive_buffer=4096) for _ in range(20)]
    eventually(lambda: _quiet(plane))
    assert plane.plane.reactor.held <= 2 * WHOLE + len(clients) * PIECE
    for client in clients:
        reset(client)
    plane.await_end(port, Reason.CLIENT_RESET, len(clients))


@plain_source
def test_no_copy_is_kept_while_the_peer_keeps_up(plane: RunningPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    hold = Stream.hold

    def noting(stream: Stream, rest: memoryview) -> None:
        held.append(len(rest))
        hold(stream, rest)

    monkeypatch.setattr(Stream, "hold", noting)
    port, near, far = plane.pair()
    for _ in range(400):  # a piece goes in only when the one before is out
        far.sendall(BULK[:PIECE])
        assert receive_exactly(near, PIECE) == BULK[:PIECE]
    assert held == []
    assert plane.counters(port).bytes_out == 400 * PIECE
    near.setblocking(False)
    _fill(near)  # and the proof that it would have been noticed
    eventually(lambda: held != [])


def test_A07_a_backend_may_speak_first(plane: RunningPlane, host: str) -> None:
    backend = plane.backend(greeting(b"220 harbor ESMTP\r\n"), host)
    port = plane.open(host=host)
    plane.backends(port, [backend.address])
    assert receive_exactly(plane.client(port, host), 18) == b"220 harbor ESMTP\r\n"


def test_A08_single_bytes_arrive_in_order_both_ways(plane: RunningPlane) -> None:
    _, near, far = plane.pair()
    text = random.Random(8).randbytes(65_536)
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def dribble(sock: socket.socket) -> None:
        for start in range(len(text)):
            sock.send(text[start : start + 1])

    senders = [threading.Thread(target=dribble, args=(sock,)) for sock in (near, far)]
    for sender in senders:
        sender.start()
    assert receive_exactly(near, len(text)) == text
    assert receive_exactly(far, len(text)) == text
    for sender in senders:
        sender.join()


def test_A16_a_whole_answer_survives_a_backend_that_refuses_the_rest_of_the_request(plane: RunningPlane) -> None:
    """Like 413: the backend answers and closes at the first bytes of a request of which more keeps coming."""
    port, near, far = plane.pair()
    near.sendall(b"request")
    assert receive_exactly(far, 7) == b"request"
    far.sendall(BULK[:100_000])
    far.close()
    eventually(lambda: plane.sessions()[0].state == "half_closed")
    for _ in range(10):
        near.sendall(b"more of it")
    plane.await_end(port, Reason.BACKEND_CLOSED)
    near.sendall(b"and more, long after")
    assert receive_all(near) == BULK[:100_000]


def test_A16_a_whole_answer_survives_even_while_its_reader_is_slow(plane: RunningPlane) -> None:
    """The backend's end is still queued behind what the client has not read when the refusal comes."""
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    near, far = plane.session(port, backend, receive_buffer=4096)
    sent = 0
    while not plane.plane.reactor.held:
        far.sendall(BULK[:PIECE])
        sent += PIECE
        # Only what the relay's kernel has taken survives the backend's end.
        eventually(lambda: _unsent(far) == 0)
    far.sendall(b"last words")
    far.close()
    near.sendall(b"more of the request")
    eventually(lambda: _is_refused(plane, near))
    answer = receive_all(near)
    assert len(answer) == sent + 10
    assert answer.endswith(b"last words")
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_A16_a_client_that_never_stops_sending_does_not_hold_up_the_loop(
    plane: RunningPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harbor.dataplane.linger.DISCARD_FOR", 0.2)

    class Endless:
        """A socket in which there is always more to read."""

        reads = 0
        closed = False

        def __init__(self) -> None:
            self._pair = socket.socketpair()
            self._pair[1].send(b"x")

        def fileno(self) -> int:
            return self._pair[0].fileno()

        def recv_into(self, buffer: bytearray) -> int:
            self.reads += 1
            return len(buffer)

        def detach(self) -> int:
            self.closed = True
            self._pair[1].close()
            return self._pair[0].detach()

    client = Endless()
    assert plane.plane.descriptors.take(1)
    plane.call(lambda: discard_until_end(plane.plane.reactor, plane.plane.descriptors, client))  # type: ignore[arg-type]
    for _ in range(3):
        before = client.reads
        eventually(lambda: client.reads > before)  # noqa: B023 - called at once
        plane.call(lambda: None)
    eventually(lambda: client.closed)


def test_A17_a_storm_of_silent_connections_leaves_nothing_behind(plane: RunningPlane) -> None:
    backend = plane.backend(echo)
    port = plane.open()
    plane.backends(port, [backend.address])
    for number in range(1000):
        client = plane.client(port)
        if number % 2:
            client.close()
        else:
            reset(client)
    eventually(lambda: sum(plane.closed(port).values()) == 1000)
    eventually(lambda: backend.live == 0)
    assert plane.counters(port).opened == 1000
    assert set(plane.closed(port)) <= {Reason.CLIENT_CLOSED, Reason.CLIENT_RESET}
    assert plane.plane.descriptors.used == 0


def test_A19_urgent_data_leaves_the_stream_intact(plane: RunningPlane) -> None:
    port, near, far = plane.pair()

    def send() -> None:  # all of it before the relay looks: the kernel's reads stop at the urgent mark
        near.sendall(b"before ")
        near.send(b"!", socket.MSG_OOB)
        near.sendall(b"after ")

    for _ in range(3):
        plane.call(send)
        assert receive_exactly(far, 13) == b"before after "
    far.sendall(b"still here")
    assert receive_exactly(near, 10) == b"still here"
    near.close()
    assert receive_all(far) == b""
    far.close()
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_both_ends_in_the_same_turn_are_one_orderly_end(plane: RunningPlane) -> None:
    port, near, far = plane.pair()

    def both() -> None:
        near.sendall(b"last words")
        near.close()
        far.shutdown(socket.SHUT_WR)

    plane.call(both)
    assert receive_all(far) == b"last words"
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_a_client_that_dies_while_it_is_sent_to_resets_its_backend(plane: RunningPlane) -> None:
    port, near, far = plane.pair()

    def both() -> None:
        far.sendall(b"an answer for nobody")
        reset(near)

    plane.call(both)
    assert ends(far) == "reset"
    plane.await_end(port, Reason.CLIENT_RESET)


def test_no_session_disturbs_another(plane: RunningPlane) -> None:
    """One is stuck, one is reset, one half closed; the fourth notices nothing."""
    backend = plane.listening()
    port = plane.open()
    plane.backends(port, [address_of(backend)])
    stuck, broken, half, well = (plane.session(port, backend) for _ in range(4))
    stuck[0].setblocking(False)
    _fill(stuck[0])
    reset(broken[0])
    half[0].shutdown(socket.SHUT_WR)
    well[0].sendall(b"ping")
    assert receive_exactly(well[1], 4) == b"ping"
    well[1].sendall(b"pong")
    assert receive_exactly(well[0], 4) == b"pong"
    assert is_silent(half[0])


def _fill(sock: socket.socket) -> int:
    """Send until nobody takes any more; returns how many bytes went."""
    sent = 0
    while True:
        try:
            count = sock.send(BULK[:MIB])
        except BlockingIOError:
            try:
                eventually(lambda: _writable(sock), within=0.3)
            except AssertionError:
                return sent
            continue
        sent += count


def _writable(sock: socket.socket) -> bool:
    return bool(select.select([], [sock], [], 0)[1])


def _unsent(sock: socket.socket) -> int:
    """Bytes that the other kernel has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQ, bytes(4)))[0])


def _quiet(plane: RunningPlane) -> bool:
    """Whether nothing moves any more."""
    before = [(view.id, view.bytes_in, view.bytes_out) for view in plane.sessions()]
    held = plane.plane.reactor.held
    try:
        eventually(
            lambda: before != [(view.id, view.bytes_in, view.bytes_out) for view in plane.sessions()], within=0.2
        )
    except AssertionError:
        return held == plane.plane.reactor.held and held > 0
    return False


def _is_refused(plane: RunningPlane, near: socket.socket) -> bool:
    """Send on, until the backend's refusal has reached the relay."""
    near.send(b"x")
    views = plane.sessions()
    return not views or any(stream.fault for stream in _streams(plane))


def _streams(plane: RunningPlane) -> list[object]:
    def look() -> list[object]:
        return [
            stream
            for port in plane.plane._ports.values()
            if port.tcp is not None
            for session in port.tcp.sessions.values()
            for stream in (session.inbound, session.outbound)
            if stream is not None
        ]

    return plane.call(look)
