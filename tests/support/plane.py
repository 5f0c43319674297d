"""A data plane on a loop of its own, with a blocking face: tests tell real-socket stories to it.

Every plane is inspected when it is closed: whatever a test did, no descriptor, handler, dial, budget, held byte or
session count may be left, and no handler may have raised.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import uvloop

from harbor.dataplane.budget import Descriptors
from harbor.dataplane.plane import DataPlane, Observer
from harbor.dataplane.sockets import Liveness
from harbor.model import (
    Address,
    Opening,
    Policy,
    Protocol,
    Reason,
    Route,
    ServiceCounters,
    SessionQuery,
    SessionView,
)
from harbor.model.tls import BackendTls, TlsTerms
from harbor.policy.rotation import Slot
from support.backends import Backend, Serve, echo
from support.sockets import address_of, connected, datagrams, listening, on_free_port
from support.waiting import eventually

T = TypeVar("T")
PATIENCE: Final = 15.0

uvloop.new_event_loop().close()  # libuv keeps a pipe of its own from the first loop on


@dataclass(frozen=True)
class Failure:
    """One call of ``backend_failed``."""

    service_id: str
    backend_id: str
    address: Address
    detail: str


class Witness:
    """An observer that writes down what it is told and changes nothing."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
        self.failures.append(Failure(service_id, backend_id, address, detail))

    def failed(self) -> list[str]:
        """The backends that failed, one entry per call."""
        return [failure.backend_id for failure in self.failures]


class Reacting(Witness):
    """Like the node: takes a backend that failed out of its service at once."""

    def __init__(self) -> None:
        super().__init__()
        self.plane: DataPlane | None = None
        self.routes: dict[str, list[Route]] = {}

    def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
        super().backend_failed(service_id, backend_id, address, detail)
        self.set_up(service_id, backend_id, up=False)

    def set_up(self, service_id: str, backend_id: str, up: bool) -> None:
        """Call it on the loop."""
        assert self.plane is not None
        self.routes[service_id] = [
            Route(route.backend_id, route.address, up if route.backend_id == backend_id else route.up)
            for route in self.routes[service_id]
        ]
        self.plane.set_backends(service_id, self.routes[service_id])


class Complaints(logging.Handler):
    """What the data plane logged: a handler that raised is a bug, whatever the test looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class RunningPlane:
    """Ports are named by their number, or by their service where several share one; backends ``b1``, ``b2`` … by their
    place in the list.

    Closing: ``close()`` closes what the test made through this, then the plane, and inspects what is left.
    """

    def __init__(
        self,
        observer: Observer | None = None,
        descriptors: Descriptors | None = None,
        liveness: Liveness | None = None,
        source_ports: bytes | None = None,
    ) -> None:
        self._descriptors_before = open_descriptors()
        self._stack = contextlib.ExitStack()
        self._complaints = Complaints()
        logging.getLogger("harbor.dataplane").addHandler(self._complaints)
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self._complaints.lines.append(str(context)))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._slots: dict[int, Slot] = {}
        self.observer = observer or Witness()
        self.plane = self.call(
            lambda: DataPlane(
                self._loop,
                self.observer,
                descriptors=descriptors or Descriptors(100_000),
                liveness=liveness,
                source_ports=source_ports,
            )
        )
        if isinstance(self.observer, Reacting):
            self.observer.plane = self.plane

    # The plane's own interface, from another thread.

    def call(self, fn: Callable[[], T]) -> T:
        """Run ``fn`` on the loop, between two turns, and return its result."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(fn())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(PATIENCE)

    def open(
        self,
        protocol: str = "tcp",
        host: str = "127.0.0.1",
        port: int = 0,
        tls: TlsTerms | None = None,
        http: bool = False,
        backend_tls: BackendTls | None = None,
        **policy: Any,
    ) -> int:
        """Open a port and return its number."""

        def bind(number: int) -> int:
            opening = Opening(
                str(number),
                f"port-{number}",
                Protocol(protocol),
                host,
                number,
                Policy().with_overrides(policy),
                tls,
                http,
                backend_tls,
            )
            self.plane.bind(opening)
            self.plane.open(opening.service_id)
            return number

        return self.call(lambda: bind(port) if port else on_free_port(bind))

    def share(self, port: int, service: str, *names: str, host: str = "127.0.0.1", **policy: Any) -> str:
        """Let a service have the port too, which may be open for others, for these names; returns the service."""
        made = Policy().with_overrides(policy)
        opening = Opening(service, service, Protocol.TCP, host, port, made, server_names=names)

        def bind() -> None:
            self.plane.bind(opening)
            self.plane.open(service)

        self.call(bind)
        return service

    def free_number(self) -> int:
        """A port that was free for both protocols a moment ago."""
        number = self.open("both")
        self.close_port(number)
        return number

    def backends(self, port: int | str, addresses: Sequence[Address], up: Sequence[bool] = ()) -> None:
        """Let the port forward to these, in this order."""
        ups = list(up) or [True] * len(addresses)
        self.routes(port, [Route(f"b{n}", addresses[n - 1], ups[n - 1]) for n in range(1, len(addresses) + 1)])

    def routes(self, port: int | str, routes: Sequence[Route]) -> None:
        """Let the port forward to these, whatever their names."""

        def turn() -> None:
            if isinstance(self.observer, Reacting):
                self.observer.routes[str(port)] = list(routes)
            self.plane.set_backends(str(port), routes)
            for slot in self._open_port(port).slots.values():
                self._slots[id(slot)] = slot

        self.call(turn)

    def set_policy(self, port: int | str, **policy: Any) -> None:
        self.call(lambda: self.plane.set_policy(str(port), Policy().with_overrides(policy)))

    def release(self, port: int | str, backend_id: str, within: float | None) -> None:
        self.call(lambda: self.plane.release(str(port), backend_id, within))

    def release_gently(self, port: int, backend_id: str, within: float) -> None:
        """As an operator drains: UDP flows stay until they end or their time is over."""
        self.call(lambda: self.plane.release(str(port), backend_id, within, keeps_flows=True))

    def kill(self, **query: str) -> int:
        return self.call(lambda: self.plane.kill(SessionQuery(**query)))

    def sessions(self, **query: str) -> list[SessionView]:
        return self.call(lambda: self.plane.sessions(SessionQuery(**query)))

    def counters(self, port: int | str) -> ServiceCounters:
        return self.call(lambda: self.plane.counters(str(port)))

    def close_port(self, port: int | str, reason: Reason = Reason.SERVICE_DELETED) -> None:
        self.call(lambda: self.plane.close_port(str(port), reason))

    # What tests wait for.

    def closed(self, port: int | str) -> dict[Reason, int]:
        """How the sessions of a port have ended so far."""
        return dict(self.counters(port).closed)

    def await_end(self, port: int | str, reason: Reason, count: int = 1) -> None:
        """Wait until so many sessions, and no others, have ended with this reason."""
        eventually(lambda: sum(self.closed(port).values()) >= count, what=f"{count} sessions of {port} have ended")
        assert self.closed(port) == {reason: count}

    def await_active(self, port: int | str, count: int) -> None:
        eventually(lambda: self.counters(port).active == count, what=f"{count} sessions of {port}")

    # The sockets of a story; all are closed with the plane.

    def keep(self, sock: socket.socket) -> socket.socket:
        return self._stack.enter_context(sock)

    def backend(self, serve: Serve = echo, host: str = "127.0.0.1", port: int = 0) -> Backend:
        """A TCP backend in threads."""
        return self._stack.enter_context(contextlib.closing(Backend(serve, host, port)))

    def listening(self, host: str = "127.0.0.1", backlog: int = 128, port: int = 0) -> socket.socket:
        """A TCP backend that the test serves itself."""
        return self.keep(listening(host, backlog, port))

    def client(
        self, port: int, host: str = "127.0.0.1", source: str | None = None, receive_buffer: int | None = None
    ) -> socket.socket:
        """A TCP client of the port."""
        return self.keep(connected(Address(host, port), source, receive_buffer))

    def datagrams(self, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
        """A UDP client or backend."""
        return self.keep(datagrams(host, port))

    def session(self, port: int, backend: socket.socket, **client: Any) -> tuple[socket.socket, socket.socket]:
        """A new session's two ends: the client's socket and the backend's, which ``backend`` accepted."""
        near = self.client(port, **client)
        far, _ = backend.accept()
        far.settimeout(near.gettimeout())
        return near, self.keep(far)

    def pair(self, host: str = "127.0.0.1", **policy: Any) -> tuple[int, socket.socket, socket.socket]:
        """A TCP port with one session: its number, the client's end and the backend's end."""
        backend = self.listening(host)
        port = self.open(host=host, **policy)
        self.backends(port, [address_of(backend)])
        near, far = self.session(port, backend, host=host)
        self.await_open(port)
        return port, near, far

    def await_open(self, port: int | str, count: int = 1) -> None:
        """Wait until so many sessions have reached their backend."""
        eventually(lambda: [view.state for view in self.sessions(service_id=str(port))].count("open") == count)

    def close(self) -> None:
        """End everything; nothing may be left."""
        try:
            self._stack.close()
            self.call(self._close_ports)
            eventually(lambda: self.plane.descriptors.used == 0, what="clients that linger are gone")
            self.call(self.plane.close)
            left = self.call(self._left)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE)
            self._loop.close()
            logging.getLogger("harbor.dataplane").removeHandler(self._complaints)
        assert left == {}, f"left behind: {left}"
        assert self._complaints.lines == [], "\n".join(self._complaints.lines)
        leaked = {fd: what for fd, what in open_descriptors().items() if fd not in self._descriptors_before}
        assert leaked == {}, f"still open: {leaked}"

    def _close_ports(self) -> None:
        for service_id in list(self.plane._ports):
            self.plane.close_port(service_id, Reason.SHUTDOWN)

    def _left(self) -> dict[str, Any]:
        plane, reactor = self.plane, self.plane.reactor
        counts = {
            "watched": reactor.watched(),
            "held": reactor.held,
            "ready": len(reactor._ready),
            "discarded": len(reactor._discarded),
            "dialling": len(plane.dialling),
            "newcomers": len(plane.newcomers),
            "descriptors": plane.descriptors.used,
            "sessions": plane.session_count(),
            "active": sum(slot.active for slot in self._slots.values()),
        }
        return {name: count for name, count in counts.items() if count}

    def _open_port(self, port: int | str) -> Any:
        return self.plane._ports[str(port)]


def open_descriptors() -> dict[str, str]:
    """What this process has open: descriptor -> what it is."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the directory
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


Planes = Callable[..., RunningPlane]  # what makes special planes in a test
