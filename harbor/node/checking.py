"""The health checks of the node: who is to be checked follows from the registry, what came of it goes back there."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from harbor.dataplane.sockets import IP_LOCAL_PORT_RANGE, family_of
from harbor.health import Prober
from harbor.model.policy import ProxyProtocol
from harbor.node.parts import Parts
from harbor.policy.proxy_header import LOCAL, V1_UNKNOWN

HEADERS: Final = {
    ProxyProtocol.V1: V1_UNKNOWN,
    ProxyProtocol.V2: LOCAL,
    ProxyProtocol.V2_EVERY: LOCAL,  # which over TCP is the same
}


class Checking:
    """Keeps the prober in step with the registry. ``report`` is given service, backend, and why a check failed.

    Closing: ``close`` ends the checks under way.
    """

    def __init__(self, parts: Parts, report: Callable[[str, str, str | None], None]) -> None:
        self._parts = parts
        self._prober = Prober(self._open, parts.admission.check, report, parts.plane.descriptors, self._header_of)

    def look(self, service_id: str, backend_id: str) -> None:
        """Check this backend as the registry has it by now, or no more."""
        check = self._parts.registry.check_of(service_id, backend_id)
        if check is None:
            self._prober.forget(service_id, backend_id)
        else:
            self._prober.follow(service_id, backend_id, *check)

    def forget_service(self, service_id: str) -> None:
        """The service has gone, and its backends with it."""
        self._prober.forget_service(service_id)

    async def close(self) -> None:
        """Check nobody any more."""
        await self._prober.close()

    def _header_of(self, service_id: str) -> bytes:
        """Where backends want a PROXY header: the one of a proxy that asks for itself."""
        return HEADERS.get(self._parts.registry.policy(service_id).proxy_protocol, b"")

    def _open(self, host: str, kind: socket.SocketKind) -> socket.socket:
        """A socket whose source port is, as a relay's is, none that a service could lease."""
        sock = socket.socket(family_of(host), kind | socket.SOCK_NONBLOCK)
        if self._parts.plane.source_ports is not None:
            sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, self._parts.plane.source_ports)
        return sock
