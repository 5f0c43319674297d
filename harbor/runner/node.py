"""What the supervisor asks of a node, over its API."""

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from harbor.client import Client, Place, RefusedByNode, Unreachable, segment
from harbor.errors import HarborError
from harbor.runner.environment import Bound
from harbor.runner.stackato import Wanted

LOOK_EVERY: Final = 0.2  # seconds between looks at whether the sessions of a draining backend are over
GRACE: Final = 2.0  # seconds beyond drain_timeout, for the node to do what it says
MANY: Final = 1000  # sessions that are looked at, at most, for whether one of them is TCP
# Refusals that no waiting mends: the address, the name or the token is wrong.
HOPELESS: Final = range(400, 404)


@dataclass(frozen=True, slots=True)
class Leased:
    """A service as its instances need to know it."""

    name: str
    protocol: str
    port: int
    drain_timeout: float
    made: bool = False

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("tcp", "udp") if self.protocol == "both" else (self.protocol,)


class Node:
    """A node, reached through an open client.

    Errors: every method raises ``Unreachable`` or ``RefusedByNode``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def provide(self, app: str, wanted: Sequence[Wanted]) -> set[str]:
        """Make the services that are missing and bind all to the app; returns the names of those that were made."""
        made = set()
        for one in wanted:
            if (await self.service(one.name, one)).made:
                made.add(one.name)
            await self._bind(one.name, app)
        return made

    async def bound(self, app: str) -> Bound | None:
        """What the app is bound to; None: to nothing."""
        try:
            return Bound.parse((await self._client.send("GET", f"/v1/apps/{segment(app)}/env", tries=2)).body)
        except RefusedByNode as error:
            if error.code != "app_not_found":
                raise
        return None

    async def service(self, name: str, wanted: Wanted | None = None) -> Leased:
        """A service, which is made if it is missing and ``wanted``."""
        path = f"/v1/services/{segment(name)}"
        try:
            return _leased((await self._client.send("GET", path, tries=2)).body)
        except RefusedByNode as error:
            if error.status != 404 or wanted is None:
                raise
        wish = {"name": name} | ({} if wanted.plan is None else {"plan": wanted.plan})
        key = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            return _leased((await self._client.send("POST", "/v1/services", wish, key, tries=2)).body, made=True)
        except RefusedByNode as error:
            if error.code != "service_exists":  # somebody was faster
                raise
        return _leased((await self._client.send("GET", path, tries=2)).body)

    async def leased_ranges(self) -> list[range]:
        """The ranges of ports that the node leases."""
        body = (await self._client.send("GET", "/v1/ports", tries=2)).body
        ends = [text.partition("-")[::2] for text in body["ranges"]]
        return [range(int(first), int(last or first) + 1) for first, last in ends]

    async def register(self, service: str, host: str, port: int, ttl: float, instance: str) -> bool:
        """Register a backend or renew its lease; whether it is new."""
        body = {"host": host, "port": port, "ttl": ttl, "instance": instance}
        return (await self._client.send("PUT", _backend(service, host, port), body, tries=2)).status == 201

    async def deregister(self, service: str, host: str, port: int) -> None:
        """Take a backend out; one that is not there is out already."""
        try:
            await self._client.send("DELETE", _backend(service, host, port), tries=2)
        except RefusedByNode as error:
            if error.status != 404:
                raise

    async def drain(self, service: Leased, host: str, port: int) -> None:
        """Give a backend no new sessions and return once its TCP sessions are over, or ``drain_timeout`` is.

        UDP flows are not waited for: each moves to another backend on its next datagram.
        """
        try:
            async with asyncio.timeout(service.drain_timeout + GRACE):
                await self._client.send("POST", f"{_backend(service.name, host, port)}/drain", tries=2)
                while service.protocol != "udp" and await self._is_busy(service, host, port):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            return
        except RefusedByNode as error:
            if error.status != 404:
                raise

    async def _is_busy(self, service: Leased, host: str, port: int) -> bool:
        found = (await self._client.send("GET", f"/v1/services/{segment(service.name)}/backends", tries=2)).body
        active = next((one["active"] for one in found if one["id"] == backend_id(host, port)), 0)
        if not active or service.protocol == "tcp":
            return bool(active)
        query = f"service={segment(service.name)}&backend={segment(backend_id(host, port))}&limit={MANY}"
        sessions = (await self._client.send("GET", f"/v1/sessions?{query}", tries=2)).body
        return any(session["protocol"] == "tcp" for session in sessions)

    async def _bind(self, service: str, app: str) -> None:
        try:
            await self._client.send("POST", f"/v1/services/{segment(service)}/bindings", {"app": app}, tries=2)
        except RefusedByNode as error:
            if error.code != "binding_exists":
                raise


def address(host: str, port: int) -> str:
    """Host and port as one text; IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_hopeless(error: HarborError) -> bool:
    """Whether asking again cannot help."""
    return isinstance(error, RefusedByNode) and error.status in HOPELESS


def local_address(where: Place) -> str:
    """The address of this machine by which it reaches the node, and so most likely is reached by it.

    Errors: ``Unreachable`` if the node's name has no address, or no network leads there.
    """
    if where.socket is not None:
        return "127.0.0.1"
    parts = urlsplit(where.url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.connect(address)  # no packet leaves: it only asks the kernel which way it would go
            return str(sock.getsockname()[0])
    except OSError as error:
        raise Unreachable(f"{where.url} is not reached from here: {error.strerror}") from error


def backend_id(host: str, port: int) -> str:
    """An id from the address, as ``harbor register`` makes it: unique on a node, whoever registers there."""
    text = re.sub(r"[^A-Za-z0-9._-]", "-", f"{host}-{port}").lstrip("._-")
    return text[-63:].lstrip("._-")


def _backend(service: str, host: str, port: int) -> str:
    return f"/v1/services/{segment(service)}/backends/{segment(backend_id(host, port))}"


def _leased(body: dict[str, Any], made: bool = False) -> Leased:
    return Leased(body["name"], body["protocol"], body["port"], body["policy"]["drain_timeout"], made)
