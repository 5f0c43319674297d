"""Whether an instance answers where its sessions will go, and what people are told if it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from harbor.policy.naming import variable_for
from harbor.runner import programs
from harbor.runner.health import passes
from harbor.runner.listening import Listener, listeners, sockets_of
from harbor.runner.node import Leased
from harbor.runner.plan import Plan, Surroundings
from harbor.runner.process import Process

# Seconds after which a listener of another session counts: the proxy of a container, say. Earlier it may be a
# stranger who took the port, over which the instance is about to fail.
STRANGER_AFTER: Final = 3.0


class Answering:
    """Looks at one process. ``hint`` is told what is awaited, each time that it is."""

    def __init__(
        self,
        plan: Plan,
        ports: Mapping[str, int],
        around: Surroundings,
        process: Process,
        environment: Mapping[str, str],
        own: Mapping[str, str],
        hint: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._ports = ports
        self._around = around
        self._process = process
        self._environment = environment
        self._own = own
        self._hint = hint
        self._began = time.monotonic()
        # The service at whose port the health check looks: if that passes nobody need be seen to listen there.
        self._checked = None if around.health is None else around.health.subject(plan.services)

    async def is_well(self) -> bool:
        """Whether its health check passes; without one it is well."""
        if self._around.health is None or self._checked is None:
            return True
        port, environment = self._ports[self._checked.name], self._environment
        output = self._process.output
        well = await passes(self._around.health, self._around.host, port, self._find, environment, self._own, output)
        if not well:
            self._hint(f"its health check does not pass yet; its port is {port}")
        return well

    async def is_at(self, service: Leased) -> bool:
        """Whether it listens where this service's sessions will go."""
        if self._checked is not None and self._checked.name == service.name:
            return True
        mine, others = await asyncio.to_thread(_listening, service.protocols, self._process.members())
        if time.monotonic() - self._began > STRANGER_AFTER:
            mine += others
        port, host = self._ports[service.name], self._around.host
        there = {one.protocol for one in mine if one.port == port and one.is_reached_at(host)}
        if there >= set(service.protocols):
            return True
        if service.name in self._plan.asked:
            self._hint(self._awaited(service, [one for one in mine if one not in others]))
        return False

    def _awaited(self, service: Leased, mine: list[Listener]) -> str:
        names = variable_for(service.name) + (" and PORT" if service is self._plan.services[0] else "")
        port = self._ports[service.name]
        where = f"{'/'.join(service.protocols).upper()} port {port}"
        text = f"does not listen yet on {where}, its port for {service.name} ({names})"
        if not mine:
            return text
        if any(one.port == port for one in mine):
            text = f"{text}, at {self._around.host}, where the node reaches it"
        return f"{text}; it listens on {', '.join(sorted(map(str, mine)))}"

    def _find(self, name: str) -> str | None:
        try:
            return programs.find(name, self._environment)
        except programs.CannotStart as error:
            self._hint(f"its health check cannot run: {error.message}")
            return None


def _listening(protocols: tuple[str, ...], pids: list[int]) -> tuple[list[Listener], list[Listener]]:
    """The listeners of these processes, and those of all others."""
    own, found = sockets_of(pids), [one for protocol in protocols for one in listeners(protocol)]
    return [one for one in found if one.inode in own], [one for one in found if one.inode not in own]
