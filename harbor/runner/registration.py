"""The registrations of one life: a backend of each of its services, at the port that it has for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from harbor.errors import HarborError
from harbor.runner.node import Leased, address
from harbor.runner.plan import Surroundings

NODE_PATIENCE: Final = 5.0  # seconds for which an end waits for the node to hear of it


class Registration:
    """Where a life is registered. ``renew()`` makes it so, ``leave()`` undoes it.

    Closing: ``close()``; after that nothing is registered any more, whatever was under way.
    """

    def __init__(
        self, services: Sequence[Leased], ports: Mapping[str, int], instance: str, around: Surroundings
    ) -> None:
        self._services = services
        self._ports = ports
        self._instance = instance
        self._around = around
        self._names: set[str] = set()
        self._closed = False
        # A renewal that arrived after the end would bring a dead backend back for a whole ttl.
        self._talking = asyncio.Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __str__(self) -> str:
        return ", ".join(f"{one.name} at {address(self._around.host, self._ports[one.name])}" for one in self._mine)

    def covers(self, names: frozenset[str]) -> bool:
        """Whether it is registered with all of these."""
        return names <= self._names

    def add(self, name: str) -> None:
        """From the next renewal on it is registered with this service, too."""
        self._names.add(name)

    async def renew(self) -> bool:
        """Register, or renew the leases; whether there was one. Errors: those of ``Node``."""
        async with self._talking:
            mine = [] if self._closed else self._mine
            for service in mine:
                host, port = self._around.host, self._ports[service.name]
                await self._around.node.register(service.name, host, port, self._around.ttl, self._instance)
        return bool(mine)

    async def drain(self) -> None:
        """Have no new sessions, and return when the present ones are over, or their time is; renewals go on."""
        node, host = self._around.node, self._around.host
        drains = [node.drain(service, host, self._ports[service.name]) for service in self._mine]
        for problem in await asyncio.gather(*drains, return_exceptions=True):
            if isinstance(problem, HarborError):  # a node that is away has no sessions
                self._around.contact(problem)

    async def leave(self) -> None:
        """Deregister. What the node does not hear now, the end of the lease tells it."""
        try:
            async with asyncio.timeout(NODE_PATIENCE), self._talking:
                leaving, self._names = self._mine, set()
                for service in leaving:
                    await self._around.node.deregister(service.name, self._around.host, self._ports[service.name])
        except HarborError as error:
            self._around.contact(error)
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Deregister for good."""
        self._closed = True
        await self.leave()

    @property
    def _mine(self) -> list[Leased]:
        return [service for service in self._services if service.name in self._names]
