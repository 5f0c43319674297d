"""A disk that is full, or slow: changes wait or are refused, traffic does not notice."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harbor.model import Address
from support.daemon import Api, Serve
from support.needs import needs, needs_root
from support.port_block import open_ports
from support.running_node import MakeBackend
from support.sockets import connected
from support.waiting import eventually


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """The state directory, on a disk of half a megabyte."""
    needs_root()
    state = directory / "state"
    state.mkdir(mode=0o700)
    subprocess.run([needs("mount"), "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", state], check=True)
    yield state
    subprocess.run([needs("umount"), "--lazy", state], check=True)


class Ballast:
    """A file that takes what room there is."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "ballast"

    def __enter__(self) -> Ballast:
        self.fill()
        return self

    def fill(self) -> None:
        """Leave no byte free; who is refused gives some back."""
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


def test_G10_on_a_full_disk_changes_are_refused_ports_stay_free_and_traffic_goes_on(
    serve: Serve, small_disk: Path, backend: MakeBackend, ports: range
) -> None:
    daemon = serve(some=ports[:5])
    port = daemon.api.create("old").body["port"]
    address = backend().address
    daemon.api.put("old", "b", address)
    with connected(Address("127.0.0.1", port)) as live:
        with Ballast(small_disk) as ballast:
            for n in range(20):  # more than there are ports: none is lost by a refusal
                ballast.fill()
                answer = daemon.api.create(f"s{n}")
                assert (answer.status, answer.code) == (503, "store_failed")
                assert "free some disk space" in answer.body["detail"]
            ballast.fill()
            assert daemon.api("DELETE", "/v1/services/old").status == 503
            assert open_ports(ports).keys() == {port}
            assert daemon.api("GET", "/v1/ports").body["free"] == 4
            readiness = daemon.api("GET", "/readyz")
            assert readiness.status == 503
            assert "the state cannot be written: " in readiness.body["problems"][0]
            assert daemon.api("GET", "/healthz").status == 200
            live.sendall(b"still here")
            assert live.recv(10) == b"still here"
            with connected(Address("127.0.0.1", port)) as new:
                new.sendall(b"new")
                assert new.recv(3) == b"new"
        assert {daemon.api.create(f"s{n}").status for n in range(4)} == {201}
        assert daemon.api("GET", "/readyz").status == 200
    daemon.stop()
    assert len(serve(some=ports[:5]).api.services()) == 5


def test_G10_a_daemon_does_not_start_on_a_full_disk_without_saying_so(serve: Serve, small_disk: Path) -> None:
    with Ballast(small_disk):
        daemon = serve(wait=False)
        assert daemon.await_exit() == 1
        (line,) = daemon.log.splitlines()
        assert line.startswith(f"harbor: {small_disk}")
        assert "free some disk space" in line or "full" in line
    serve().stop()


def test_G13_a_slow_disk_holds_up_changes_and_nothing_else(serve: Serve, backend: MakeBackend) -> None:
    daemon = serve()
    port = daemon.api.create("web").body["port"]
    daemon.api.put("web", "b", backend().address)
    slow, quick = Api(daemon.state / "harbor.sock"), daemon.api
    with (
        contextlib.closing(slow),
        daemon.under_strace("fdatasync:delay_enter=1500000"),
        ThreadPoolExecutor(1) as pool,
        connected(Address("127.0.0.1", port)) as live,
    ):
        creating = pool.submit(slow.create, "slow")
        exchanges = answers = 0
        while not creating.done():
            live.sendall(b"%08d" % exchanges)
            assert live.recv(8) == b"%08d" % exchanges
            exchanges += 1
            if exchanges % 10 == 0:
                assert quick.services().keys() >= {"web"}
                answers += 1
        assert creating.result().status == 201
    # It had more than a second; who waits for the disk manages one.
    assert exchanges > 20
    assert answers > 2
    eventually(lambda: quick.services().keys() == {"web", "slow"})
