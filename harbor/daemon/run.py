"""The composition root: makes the parts of a node, starts them in order, and stops them in the reverse one."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from harbor import __version__
from harbor.api.gateway.holdings import held, holds
from harbor.api.listening import tcp_listener, unix_listener
from harbor.api.server import ApiServer
from harbor.api.tokens import AdminToken
from harbor.config import Config, check
from harbor.daemon import machine
from harbor.daemon.logs import start_logging
from harbor.dataplane.budget import raise_limit
from harbor.errors import HarborError
from harbor.node import Node
from harbor.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from harbor.daemon.registration import Registration

log = structlog.get_logger("harbor.daemon")

API_GRACE: Final = 2.0  # seconds that requests under way get when the node stops
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
# Whoever sends these by habit must not end a node.
IGNORED: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node with its API up."""

    node: Node
    api: ApiServer


@asynccontextmanager
async def running_node(config: Config, *, drain: float | None = None) -> AsyncIterator[RunningNode]:
    """A node from its configuration: ports open and API answering inside the block, all closed behind it.

    Leaving the block takes no more sessions, waits up to ``drain`` seconds (default: ``defaults.drain_timeout``) for
    those that live, or less once ``node.hurry()`` is called.

    Errors: ``StateUnusable``, ``PortTaken`` for the API's address, ``Invalid`` for one without the TLS it needs.
    """
    ephemeral = machine.ephemeral_ports()
    warnings = check(config, local_port_range=ephemeral, lowest_port=machine.lowest_port())
    store = SqliteStore.open(config.state_dir)
    try:
        token = AdminToken.load_or_create(config.state_dir)
        node = Node(config, store, source_ports=machine.source_ports(config, ephemeral), warnings=tuple(warnings))
        api = registration = None
        try:
            api = _api(node, config, token)
            node.start()
            await api.start()
            registration = _registration(node, config, api)
            log.info("node.ready", node=config.node.id, version=__version__, api=api.url, **_counts(node))
            try:
                yield RunningNode(node, api)
            finally:
                log.info("node.stopping", sessions=node.describe()["sessions"])
                if registration is not None:
                    registration.leave()
        finally:
            await node.stop(config.defaults.policy().drain_timeout if drain is None else drain)
            if api is not None:
                await api.stop(API_GRACE)
            if registration is not None:
                await registration.close()
    finally:
        await store.close()
    log.info("node.stopped")


def serve(config: Config) -> int:
    """Run a node until SIGTERM or SIGINT; a second one ends it without waiting. Returns the exit code."""
    listener = start_logging(config.log)
    try:
        machine.check_python()
        os.umask(0o077)
        raise_limit()
        uvloop.run(_serve(config))
    except HarborError as error:
        print(f"harbor: {error}", file=sys.stderr)
        return 1
    finally:
        listener.stop()
    return 0


async def _serve(config: Config) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for ignored in (*IGNORED, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for stopping in STOPS:
        loop.add_signal_handler(stopping, stop.set)
    async with running_node(config) as running:
        # What has been made by now lives as long as the node: the collector need not look at it again.
        gc.freeze()
        # Of all files only certificates are read again, and they are noticed anyway: this is for who cannot wait.
        loop.add_signal_handler(signal.SIGHUP, running.node.look_at_certificates)
        await stop.wait()
        for stopping in STOPS:
            loop.add_signal_handler(stopping, running.node.hurry)


def _api(node: Node, config: Config, token: AdminToken) -> ApiServer:
    """The API on its sockets, which no backend may be from now on."""
    with ExitStack() as undo:
        tcp = undo.enter_context(tcp_listener(config.api))
        unix = undo.enter_context(unix_listener(config.state_dir))
        api = ApiServer(node, config, token, [tcp, unix])
        undo.pop_all()  # the sockets are the server's now
    if api.address is not None:
        node.api_addresses.add(api.address)
    return api


def _registration(node: Node, config: Config, api: ApiServer) -> Registration | None:
    """The gateway's registration with its cloud controller, begun; None where there is none to register with."""
    gateway = config.gateway
    if gateway is None or not gateway.cloud_controller:
        return None
    from harbor.daemon.registration import register  # brings an HTTP client, which few nodes need

    node.outside = lambda: api.standing.warnings(lambda handle: holds(node, handle))
    return register(gateway, api.standing, gateway.url or api.url_from(config.node.host), lambda: held(node))


def _counts(node: Node) -> dict[str, int]:
    described = node.describe()
    return {"services": described["services"], "degraded": len(described["degraded"])}
