"""Backends that registered by DNS name: their addresses are looked up, judged, and looked up again.

The data path only ever sees an address that was admitted, so a name that later points somewhere forbidden cannot
lead a session there: the last good address stays.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from harbor.errors import HarborError, Refused
from harbor.model import Address
from harbor.policy.admission import Admission
from harbor.sources.dns import REFRESH, Addresses, LookupFailed

log = structlog.get_logger("harbor.node")

RETRY: Final = 2.0  # seconds between lookups of a name that has no address at all


@dataclass(slots=True)
class Name:
    """What one backend's name means now. ``due`` is the monotonic time of the next lookup."""

    host: str
    port: int
    address: Address | None
    due: float


class Names:
    """Which backends have names, and the task that follows them."""

    def __init__(
        self, resolver: Addresses, admission: Admission, resolved: Callable[[str, str, Address], None]
    ) -> None:
        self._resolver = resolver
        self._admission = admission
        self._resolved = resolved
        self._known: dict[tuple[str, str], Name] = {}
        self._newcomer = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def first_address(self, host: str, port: int) -> Address | None:
        """An admitted address of the name; None while it has none. Errors: ``Refused`` if all are forbidden."""
        try:
            return self._choose(await self._resolver.addresses(host), port, None)
        except LookupFailed as error:
            log.info("name.unresolved", detail=str(error))
            return None

    def follow(self, service_id: str, backend_id: str, host: str, port: int, address: Address | None) -> None:
        """Keep this backend's address up to date; without one it is looked up at once."""
        due = time.monotonic() + (0.0 if address is None else REFRESH)
        self._known[service_id, backend_id] = Name(host, port, address, due)
        self._newcomer.set()
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._follow(), name="names")

    def forget(self, service_id: str, backend_id: str) -> None:
        """The backend has gone, or has a numeric address now."""
        self._known.pop((service_id, backend_id), None)

    def forget_service(self, service_id: str) -> None:
        """The service has gone, and its backends with it."""
        for key in [key for key in self._known if key[0] == service_id]:
            del self._known[key]

    async def close(self) -> None:
        """Stop looking."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    async def _follow(self) -> None:
        while self._known:
            pause = min(name.due for name in self._known.values()) - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, pause)):
                    await self._newcomer.wait()
            except TimeoutError:
                pass
            self._newcomer.clear()
            now = time.monotonic()
            await asyncio.gather(*(self._refresh(key, name) for key, name in self._known.items() if name.due <= now))

    async def _refresh(self, key: tuple[str, str], name: Name) -> None:
        address = name.address
        try:
            address = self._choose(await self._resolver.addresses(name.host), name.port, name.address)
        except (LookupFailed, HarborError) as error:
            log.warning("name.unresolved", backend=key[1], detail=str(error), kept=str(name.address))
        name.due = time.monotonic() + (RETRY if address is None else REFRESH)
        # Meanwhile the backend may have gone, or have registered by another name.
        if address is not None and address != name.address and self._known.get(key) is name:
            name.address = address
            self._resolved(*key, address)

    def _choose(self, hosts: list[str], port: int, before: Address | None) -> Address:
        """The address in use if the name still has it, else the first that is admitted."""
        refusal: Refused | None = None
        admitted: list[Address] = []
        for host in hosts:
            try:
                self._admission.check(Address(host, port))
            except Refused as error:
                refusal = error
            else:
                admitted.append(Address(host, port))
        if before in admitted:
            return before
        if admitted:
            return admitted[0]
        assert refusal is not None
        raise refusal
