"""Backends that registered by DNS name: their addresses are looked up, judged, and looked up again.

The data path only ever sees an address that was admitted, so a name that later points somewhere forbidden cannot
lead a session there: the last good address stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from harbor.errors import HarborError, Refused
from harbor.model import Address
from harbor.policy.admission import Admission
from harbor.sources.dns import REFRESH, LookupFailed, Resolver

log = structlog.get_logger("harbor.node")

RETRY: Final = 2.0  # seconds between rounds while a name has no address at all


class Names:
    """Which backends have names, and the task that follows them."""

    def __init__(self, admission: Admission, resolved: Callable[[str, str, Address], None]) -> None:
        self._admission = admission
        self._resolved = resolved
        self._resolver = Resolver()
        self._known: dict[tuple[str, str], tuple[str, int, Address | None]] = {}
        self._follower: asyncio.Task[None] | None = None

    async def first_address(self, host: str, port: int) -> Address | None:
        """An admitted address of the name; None while it has none. Errors: ``Refused`` if all are forbidden."""
        try:
            return self._choose(await self._resolver.addresses(host), port, None)
        except LookupFailed as error:
            log.info("name.unresolved", detail=str(error))
            return None

    def follow(self, service_id: str, backend_id: str, host: str, port: int, address: Address | None) -> None:
        """Keep this backend's address up to date."""
        self._known[service_id, backend_id] = (host, port, address)
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._follow(), name="names")

    def forget(self, service_id: str, backend_id: str) -> None:
        """The backend has gone, or has a numeric address now."""
        self._known.pop((service_id, backend_id), None)

    async def close(self) -> None:
        """Stop looking."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    async def _follow(self) -> None:
        while self._known:
            unresolved = any(address is None for _, _, address in self._known.values())
            await asyncio.sleep(RETRY if unresolved else REFRESH)
            await asyncio.gather(*(self._refresh(key) for key in list(self._known)))

    async def _refresh(self, key: tuple[str, str]) -> None:
        host, port, before = self._known.get(key, ("", 0, None))
        if not host:
            return
        try:
            address = self._choose(await self._resolver.addresses(host), port, before)
        except (LookupFailed, HarborError) as error:
            log.warning("name.unresolved", backend=key[1], detail=str(error), kept=str(before))
            return
        if address != before and self._known.get(key) == (host, port, before):
            self._known[key] = (host, port, address)
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
