"""Ports that services share: who has one with whom, and how they wait for one another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from harbor.errors import Invalid
from harbor.model import Service
from harbor.model.server_names import check_server_names
from harbor.node.parts import Parts

SAID: Final = 5  # services that a message names; more are counted


def others_on(parts: Parts, port: int, service: Service) -> list[Service]:
    """The other services that have this port, the first to come first."""
    return [one for one in parts.registry.on_port(port) if one.id != service.id]


@asynccontextmanager
async def alone_on(parts: Parts, port: int | None, service: Service) -> AsyncIterator[None]:
    """Be the only one who changes services of this port, if this service can share one."""
    if port is None or not service.can_share:
        yield
        return
    async with parts.locks.hold(f"port {port}"):
        yield


def names_of(services: Sequence[Service]) -> str:
    """The services as a message names them; empty if there are none."""
    more = f" and {len(services) - SAID} more" if len(services) > SAID else ""
    return ", ".join(service.name for service in services[:SAID]) + more


def check_may_have_names(service: Service) -> None:
    """Return if it says no server names, or may. Errors: ``Invalid`` (``server_names_invalid``)."""
    if service.server_names and not service.can_share:
        raise Invalid(
            f"server_names: service {service.name} cannot share a port; that takes tls: passthrough and protocol: tcp, "
            "and is not for what a platform asked for",
            code="server_names_invalid",
        )


def changed_names(service: Service, changes: Mapping[str, Any]) -> tuple[str, ...]:
    """The server names with what changes; None takes them all away. Errors: ``Invalid`` (``server_names_invalid``)."""
    if "server_names" not in changes:
        return service.server_names
    return check_server_names(changes["server_names"] or ())
