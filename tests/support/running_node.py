"""A real node over a real store, on a loop of its own, with a blocking face: tests tell real-socket stories to it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from harbor.config import Config, parse
from harbor.model import (
    Address,
    BackendView,
    Exposure,
    Protocol,
    ServiceView,
    ServiceWish,
    SessionQuery,
    SessionView,
    Tls,
)
from harbor.node import Node
from harbor.sources.dns import Addresses
from harbor.store import Store
from harbor.store.sqlite import SqliteStore
from support.backends import Backend
from support.datagram_backend import DatagramBackend
from support.plane import Complaints
from support.sockets import connected, datagrams
from support.waiting import eventually

T = TypeVar("T")
PATIENCE: Final = 20.0

uvloop.new_event_loop().close()  # libuv keeps a pipe of its own from the first loop on


def node_config(state_dir: Path, ports: range, extra: str = "", quarantine: float = 60.0) -> Config:
    """A configuration for tests: every backend is on this machine."""
    return parse(config_text(state_dir, ports, extra, quarantine), "test.yml")


def config_text(state_dir: Path, ports: range, extra: str = "", quarantine: float = 60.0) -> str:
    """The same as the file."""
    return f"""
state_dir: {state_dir}
api: {{listen: "127.0.0.1:0"}}
ports: {{ranges: ["{ports.start}-{ports.stop - 1}"], quarantine: {quarantine}}}
backends: {{allow: [127.0.0.0/8, "::1/128"]}}
{extra}"""


class RunningNode:
    """A node that was started. Services and backends go by their names.

    Closing: ``close()`` stops it in order, ``vanish()`` ends it as kill -9 would: its sockets are gone, and nothing
    is written that was not. Neither may leave a complaint in the log.
    """

    def __init__(
        self,
        config: Config,
        resolver: Addresses | None = None,
        store: Callable[[Store], Store] = lambda store: store,
        **more: Any,
    ) -> None:
        """``store`` may put something between node and store; more goes to ``Node``."""
        self.config = config
        self._complaints = Complaints()
        self._complaints.setLevel(logging.ERROR)
        logging.getLogger("harbor.dataplane").addHandler(self._complaints)
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self._complaints.lines.append(str(context)))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._closed = False
        self._stopping: concurrent.futures.Future[None] | None = None
        self.store = SqliteStore.open(config.state_dir)
        self.node = self.call(lambda: Node(config, store(self.store), resolver=resolver, **more))
        try:
            self.call(self.node.start)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RunningNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The node's own interface, from another thread.

    def call(self, fn: Callable[[], T]) -> T:
        """Run ``fn`` on the loop and return its result."""

        async def run() -> T:
            return fn()

        return self.wait(run())

    def begin(self, change: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a change and do not wait for it."""
        return asyncio.run_coroutine_threadsafe(change, self._loop)

    def wait(self, change: Coroutine[Any, Any, T]) -> T:
        """Carry a change out."""
        return self.begin(change).result(PATIENCE)

    def create(
        self, name: str, protocol: str | None = None, port: int | None = None, key: str | None = None, **policy: Any
    ) -> dict[str, Any]:
        """Lease a port; returns the service as JSON."""
        wish = ServiceWish(
            name, Protocol(protocol) if protocol else None, port, exposure=Exposure.PRIVATE, overrides=policy
        )
        fingerprint = f"{name} {protocol} {port} {policy}"
        return self.wait(self.node.create_service(wish, actor="test", key=key, fingerprint=fingerprint))[0]

    def share(self, name: str, port: int | None, *names: str, **wish: Any) -> dict[str, Any]:
        """Lease a port, perhaps one that others have, for these server names; returns the service as JSON."""
        made = ServiceWish(name, port=port, tls=Tls.PASSTHROUGH, server_names=names, **wish)
        return self.wait(self.node.create_service(made, actor="test"))[0]

    def update(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change a service; returns it as JSON."""
        return self.wait(self.node.update_service(name, changes, actor="test")).as_json()

    def delete(self, name: str) -> None:
        self.wait(self.node.delete_service(name, actor="test"))

    def bind(self, name: str, app: str, key: str | None = None, **more: Any) -> dict[str, Any]:
        """Bind an app; returns the binding with its token, as JSON."""
        change = self.node.bind_service(name, app, actor="test", key=key, fingerprint=f"{name} {app}", **more)
        return self.wait(change)[0]

    def unbind(self, name: str, app: str) -> None:
        self.wait(self.node.unbind_service(name, app, actor="test"))

    def bound(self, name: str) -> list[str]:
        """The apps that are bound to a service."""
        return [view.binding.app for view in self.call(lambda: self.node.bindings(name))]

    def environment(self, app: str) -> dict[str, str]:
        return self.call(lambda: self.node.app_environment(app))

    def put(self, name: str, backend_id: str, address: Address | tuple[str, int], **more: Any) -> BackendView:
        """Register a backend or renew its lease."""
        host, port = address
        change = self.node.put_backend(name, backend_id, host=host, port=port, actor="test", **more)
        return self.wait(change)[0]

    def remove(self, name: str, backend_id: str) -> None:
        self.wait(self.node.remove_backend(name, backend_id, actor="test"))

    def drain(self, name: str, backend_id: str) -> None:
        self.wait(self.node.drain_backend(name, backend_id, actor="test"))

    def service(self, name: str) -> ServiceView:
        return self.call(lambda: self.node.service(name))

    def services(self) -> dict[str, ServiceView]:
        return {view.service.name: view for view in self.call(self.node.services)}

    def port(self, name: str) -> int:
        return self.service(name).service.port

    def backends(self, name: str) -> dict[str, str]:
        """Backends in queue order: id -> state."""
        return {backend.id: backend.state.value for backend in self.service(name).backends}

    def backend(self, name: str, backend_id: str) -> BackendView:
        return next(backend for backend in self.service(name).backends if backend.id == backend_id)

    def closed(self, name: str) -> Mapping[str, int]:
        """How the sessions of a service have ended so far."""
        return {reason.value: count for reason, count in self.service(name).counters.closed.items()}

    def sessions(self, name: str | None = None) -> list[SessionView]:
        return [view for view, _ in self.call(lambda: self.node.sessions(SessionQuery(service_id=name)))]

    def events(self, kind: str) -> list[str]:
        """What the feed tells of one kind, oldest first."""
        return [event.message for event in self.call(lambda: self.node.events.recent(0, 10_000)) if event.kind == kind]

    # Traffic.

    def exchange(self, name: str, data: bytes = b"") -> bytes:
        """What a new TCP client is greeted with, or gets back for ``data``; raises what the client would see."""
        with connected(Address("127.0.0.1", self.port(name))) as client:
            client.sendall(data)
            return client.recv(1 << 16)

    def ask(self, name: str, data: bytes = b"ping") -> bytes:
        """What a new UDP client of the service gets back."""
        with datagrams() as client:
            client.sendto(data, ("127.0.0.1", self.port(name)))
            return client.recv(1 << 16)

    def await_backends(self, name: str, wanted: Mapping[str, str]) -> None:
        """Wait until the queue is this, order included."""
        eventually(
            lambda: list(self.backends(name).items()) == list(wanted.items()),
            what=f"backends of {name} are {dict(wanted)}",
        )

    # The end.

    def stopping(self, within: float = 0.0) -> concurrent.futures.Future[None]:
        """Begin to stop in order; ``close`` waits for it."""
        if self._stopping is None:
            self._stopping = self.begin(self.node.stop(within))
        return self._stopping

    def close(self, within: float = 0.0) -> None:
        """Stop in order."""
        if not self._closed:
            self.stopping(within).result(PATIENCE)
            self._end()

    def vanish(self) -> None:
        """End at once. What was handed to the store may still be written, as in a real crash."""
        if not self._closed:
            self.wait(self._cancel_all())
            self.call(self.node._plane.close)
            self._end()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self) -> None:
        self._closed = True
        self.wait(self.store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        logging.getLogger("harbor.dataplane").removeHandler(self._complaints)
        assert self._complaints.lines == [], "\n".join(self._complaints.lines)


# What the fixtures of tests/node give: each makes one thing, which is closed behind the test.
Start = Callable[..., RunningNode]
MakeBackend = Callable[..., Backend]
MakeDatagramBackend = Callable[..., DatagramBackend]
