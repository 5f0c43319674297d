"""What every relay has to do alike, whoever speaks TLS on which side of it."""

from __future__ import annotations

import hashlib
import random
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from harbor.dataplane.reactor import STREAM_EDGES, WHOLE
from harbor.dataplane.tls import TlsEnd as RelayEnd
from harbor.model import Reason
from harbor.model.tls import BackendTls
from support.certificates import Issued, issue, terms
from support.ends import AnEnd, PlainEnd, TlsEnd, all_of, how_it_ends, so_much
from support.needs import plain_source
from support.plane import RunningPlane
from support.sockets import address_of
from support.waiting import eventually

BULK: Final = random.Random(7).randbytes(1 << 20) * 24
KINDS: Final = {  # who speaks TLS: the client, the backend
    "plain": (False, False),
    "tls": (True, False),
    "to_tls": (False, True),
    "tls_to_tls": (True, True),
}
Relay = Callable[..., tuple[int, AnEnd, AnEnd]]


@pytest.fixture
def cert(tmp_path: Path) -> Issued:
    return issue(tmp_path, "harbor.test", "127.0.0.1")


@pytest.fixture(params=list(KINDS))
def relay(request: pytest.FixtureRequest, plane: RunningPlane, cert: Issued) -> Relay:
    """Makes a session: the port, the client's end and the backend's end."""
    client_tls, backend_tls = KINDS[request.param]
    asking = ssl.create_default_context(cafile=cert.certificate)
    answering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    answering.load_cert_chain(cert.file)

    def make(receive_buffer: int | None = None) -> tuple[int, AnEnd, AnEnd]:
        backend = plane.listening()
        port = plane.open(
            tls=terms(cert) if client_tls else None,
            backend_tls=BackendTls(ca_file=str(cert.certificate)) if backend_tls else None,
        )
        plane.backends(port, [address_of(backend)])

        def far() -> AnEnd:
            sock = plane.keep(backend.accept()[0])
            sock.settimeout(10)
            if not backend_tls:
                return PlainEnd(sock)
            end = TlsEnd(sock, answering, server_side=True)
            end.shake_hands()
            return end

        with ThreadPoolExecutor() as pool:
            coming = pool.submit(far)
            sock = plane.client(port, receive_buffer=receive_buffer)
            near: AnEnd = PlainEnd(sock)
            if client_tls:
                near = TlsEnd(sock, asking, server_side=False, name="harbor.test")
                near.shake_hands()
            back = coming.result(10)
        plane.await_open(port)
        return port, near, back

    return make


def test_both_sides_are_heard(plane: RunningPlane, relay: Relay) -> None:
    port, near, far = relay()
    for size in (1, 100, 16_384, 100_000):
        near.sendall(BULK[:size])
        assert so_much(far, size) == BULK[:size]
        far.sendall(BULK[:size])
        assert so_much(near, size) == BULK[:size]
    near.end()
    assert all_of(far) == b""
    far.end()
    assert all_of(near) == b""
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_A07_a_backend_may_speak_first(relay: Relay) -> None:
    _, near, far = relay()
    far.sendall(b"220 harbor ESMTP\r\n")
    assert so_much(near, 18) == b"220 harbor ESMTP\r\n"


def test_A01_an_answer_after_the_clients_end_is_delivered_whole(plane: RunningPlane, relay: Relay) -> None:
    port, near, far = relay()
    near.sendall(b"question")
    near.end()
    assert all_of(far) == b"question"
    far.sendall(b"answer")
    far.end()
    assert all_of(near) == b"answer"
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_A01_an_answer_that_is_on_its_way_at_the_clients_end_is_delivered_whole(
    plane: RunningPlane, relay: Relay
) -> None:
    """The backend's bytes lie in the relay's socket when it passes the client's end on."""
    port, near, far = relay()

    def both() -> None:  # at once, so that the relay finds both
        near.sendall(b"that is all")
        near.end()
        far.sendall(BULK[:50_000])

    plane.call(both)
    far.sendall(BULK[50_000:100_000])
    assert all_of(far) == b"that is all"
    far.end()
    assert all_of(near) == BULK[:100_000]
    plane.await_end(port, Reason.CLIENT_CLOSED)


def test_A02_a_client_may_go_on_sending_after_the_backends_end(plane: RunningPlane, relay: Relay) -> None:
    port, near, far = relay()

    def both() -> None:
        far.sendall(b"all I have to say")
        far.end()
        near.sendall(BULK[:50_000])

    plane.call(both)
    near.sendall(BULK[50_000:100_000])
    assert all_of(near) == b"all I have to say"
    near.end()
    assert all_of(far) == BULK[:100_000]
    plane.await_end(port, Reason.BACKEND_CLOSED)


def test_A03_a_client_reset_reaches_the_backend(plane: RunningPlane, relay: Relay) -> None:
    port, near, far = relay()
    near.sendall(b"half a requ")
    assert so_much(far, 11) == b"half a requ"
    near.cut()
    assert how_it_ends(far) == "cut"
    plane.await_end(port, Reason.CLIENT_RESET)


def test_A04_a_backend_reset_reaches_the_client_after_what_came_before(plane: RunningPlane, relay: Relay) -> None:
    port, near, far = relay()
    far.sendall(b"half an answ")
    eventually(lambda: plane.sessions()[0].bytes_out == 12)
    far.cut()
    plane.await_end(port, Reason.BACKEND_RESET)
    assert so_much(near, 12) == b"half an answ"
    assert how_it_ends(near) == "cut"


@pytest.mark.parametrize("way", ["down", "up"], ids=["A05_download", "A06_upload"])
def test_A05_A06_a_slow_reader_gets_every_byte_and_costs_bounded_memory(
    plane: RunningPlane, relay: Relay, way: str
) -> None:
    port, near, far = relay()
    source, sink = (far, near) if way == "down" else (near, far)

    def send() -> None:
        source.sendall(BULK)
        source.end()

    sender = threading.Thread(target=send)
    sender.start()
    eventually(lambda: plane.plane.reactor.held > 0, what="the reader is full")
    assert plane.plane.reactor.held <= WHOLE
    assert hashlib.sha256(all_of(sink)).digest() == hashlib.sha256(BULK).digest()
    sender.join()
    sink.end()
    assert all_of(source) == b""
    plane.await_end(port, Reason.BACKEND_CLOSED if way == "down" else Reason.CLIENT_CLOSED)


def test_A08_single_bytes_arrive_in_order_both_ways(relay: Relay) -> None:
    _, near, far = relay()
    text = BULK[:4000]
    for start in range(len(text)):
        near.sendall(text[start : start + 1])
        far.sendall(text[start : start + 1])
    assert so_much(near, len(text)) == text
    assert so_much(far, len(text)) == text


def test_both_ends_in_the_same_turn_are_one_orderly_end(plane: RunningPlane, relay: Relay) -> None:
    port, near, far = relay()

    def both() -> None:
        near.sendall(b"last words")
        near.end()
        far.end()

    plane.call(both)
    assert all_of(far) == b"last words"
    assert all_of(near) == b""
    eventually(lambda: sum(plane.closed(port).values()) == 1)
    assert set(plane.closed(port)) <= {Reason.CLIENT_CLOSED, Reason.BACKEND_CLOSED}


@plain_source
def test_A05_an_end_that_the_kernel_has_no_room_for_is_said_once_it_has(
    plane: RunningPlane, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[RelayEnd] = []
    end = RelayEnd.end

    def reluctant(self: RelayEnd) -> None:
        if self not in refused:
            refused.append(self)
            plane.plane.reactor.renew(self._fd, STREAM_EDGES)  # as if room came later
            raise BlockingIOError
        end(self)

    monkeypatch.setattr(RelayEnd, "end", reluctant)
    port, near, far = relay()
    far.sendall(BULK[:1000])
    far.end()
    near.end()
    assert all_of(far) == b""
    assert all_of(near) == BULK[:1000]
    eventually(lambda: sum(plane.closed(port).values()) == 1)
    assert set(plane.closed(port)) <= {Reason.CLIENT_CLOSED, Reason.BACKEND_CLOSED}
