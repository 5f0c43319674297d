"""Listeners of services: ports chosen by binding them, and bound again when something held them at start.

A service whose port cannot be bound is *degraded*: it keeps its lease, says why and who squats, and is tried again
with growing pauses until it heals. Nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

from harbor.dataplane.plane import DataPlane
from harbor.dataplane.squatter import find_squatter
from harbor.errors import PortTaken, Refused
from harbor.model import Opening, Protocol, Service
from harbor.policy.ports import Ports

FIRST_RETRY: Final = 1.0  # seconds; most squatters are short-lived (an ephemeral source port, a slow exit)
LAST_RETRY: Final = 30.0  # seconds; the pause doubles up to this
LOOK_EVERY: Final = 0.25  # seconds between looks at who is due, while anybody is degraded


@dataclass(slots=True)
class Degraded:
    """A port that is not open, and why. ``opening`` makes what is to be bound anew for each try."""

    port: int
    protocol: Protocol
    opening: Callable[[], Opening]
    trouble: str
    squatter: str | None = None  # "" once it was looked for in vain
    pause: float = FIRST_RETRY
    retry_at: float = 0.0

    @property
    def reason(self) -> str:
        """In words, with who squats as far as that is known."""
        return f"{self.trouble}: {self.squatter}" if self.squatter else self.trouble


class Listeners:
    """Binds ports through the plane, and keeps account of those it could not bind."""

    def __init__(self, plane: DataPlane, ports: Ports, healed: Callable[[Opening], None]) -> None:
        self._plane = plane
        self._ports = ports
        self._healed = healed
        self._random = random.Random()
        self._degraded: dict[str, Degraded] = {}
        self._healer: asyncio.Task[None] | None = None

    def reason(self, service_id: str) -> str | None:
        """Why the service is degraded; None if it is not."""
        degraded = self._degraded.get(service_id)
        return None if degraded is None else degraded.reason

    @property
    def degraded(self) -> int:
        """How many services have no port."""
        return len(self._degraded)

    async def pinned(self, opening: Opening) -> None:
        """Bind exactly this port. Errors: ``PortTaken``, which names the squatter if /proc shows it."""
        try:
            self._plane.bind(opening)
        except PortTaken as error:
            squatter = await _squatter(opening.port, opening.protocol)
            raise PortTaken(f"{error}: {squatter}" if squatter else str(error), squatter=squatter) from error
        self._hurry(opening.port)

    def any(self, opening_at: Callable[[int], Opening], avoid: Container[int]) -> Opening:
        """Bind some free port. Errors: ``Refused`` (``ports_exhausted``)."""
        refusal: PortTaken | None = None
        for port in self._ports.candidates(self._random, time.monotonic(), avoid):
            opening = opening_at(port)
            try:
                self._plane.bind(opening)
            except PortTaken as error:
                refusal = error
            else:
                return opening
        why = f" (the last one tried: {refusal})" if refusal else ""
        raise Refused(
            f"no free port is left in this node's ranges{why}; delete a service, wait for released ports to rest, "
            "or ask the administrator for a larger ports.ranges",
            code="ports_exhausted",
        ) from refusal

    def try_bind(self, service: Service, opening: Callable[[], Opening]) -> bool:
        """Bind a port that is leased already; if it is not to be had the service is degraded."""
        try:
            self._plane.bind(opening())
        except (PortTaken, Refused) as error:
            retry_at = time.monotonic() + FIRST_RETRY
            degraded = Degraded(service.port, service.protocol, opening, str(error), retry_at=retry_at)
            self._degraded[service.id] = degraded
            self._start()
            return False
        return True

    def forget(self, service_id: str) -> None:
        """The service is no more."""
        self._degraded.pop(service_id, None)

    async def close(self) -> None:
        """Stop trying."""
        if self._healer is not None:
            self._healer.cancel()
            await asyncio.gather(self._healer, return_exceptions=True)

    def _start(self) -> None:
        if self._healer is None or self._healer.done():
            self._healer = asyncio.get_running_loop().create_task(self._heal(), name="healer")

    async def _heal(self) -> None:
        while self._degraded:
            for degraded in list(self._degraded.values()):
                if degraded.squatter is None:
                    degraded.squatter = await _squatter(degraded.port, degraded.protocol) or ""
            now = time.monotonic()
            for service_id, degraded in list(self._degraded.items()):
                if degraded.retry_at <= now:
                    self._try_again(service_id, degraded)
            await asyncio.sleep(LOOK_EVERY)

    def _try_again(self, service_id: str, degraded: Degraded) -> None:
        try:
            opening = degraded.opening()
            self._plane.bind(opening)
        except (PortTaken, Refused) as error:
            degraded.trouble = str(error)
            degraded.squatter = None
            degraded.pause = min(2 * degraded.pause, LAST_RETRY)
            degraded.retry_at = time.monotonic() + degraded.pause
            return
        del self._degraded[service_id]
        self._healed(opening)
        self._hurry(opening.port)

    def _hurry(self, port: int) -> None:
        """Somebody has the port: try now for all that are to share it."""
        for degraded in self._degraded.values():
            if degraded.port == port:
                degraded.retry_at = 0.0


async def _squatter(port: int, protocol: Protocol) -> str | None:
    return await asyncio.to_thread(find_squatter, port, protocol)
