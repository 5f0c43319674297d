"""Which services may have one port together: those that forward TLS as it is, told apart by server name.

Each says which names it takes. At most one says none, and gets whoever asks for a name that no other takes, or for
none at all. An exact name goes before a wildcard, so one service may take ``*.example.com`` and another
``shop.example.com``.
"""

from __future__ import annotations

from collections.abc import Sequence

from harbor.errors import Refused
from harbor.model import Service


def check_sharing(service: Service, others: Sequence[Service]) -> None:
    """Return if this service may have the port that these have already.

    Errors: ``Refused`` with ``port_leased`` or ``server_name_taken``, naming the service that is in the way.
    """
    for other in others:
        _check_kind(service, other)
    for other in others:
        if not service.server_names and not other.server_names:
            raise _taken(service.port, other, "whatever no other service takes (it has no server_names)")
        for name in service.server_names:
            if name in other.server_names:
                raise _taken(service.port, other, name)


def _check_kind(service: Service, other: Service) -> None:
    port = service.port
    if not other.can_share:
        raise Refused(
            f"port {port} is leased to service {other.name}, which cannot share it: that takes tls: passthrough, "
            "protocol: tcp, and no platform that asked for it; choose another port, or none",
            code="port_leased",
        )
    if service.exposure is not other.exposure:
        raise Refused(
            f"port {port} is {other.exposure.value}, as service {other.name} leased it; ask for that exposure, or for "
            "another port",
            code="port_leased",
        )


def _taken(port: int, other: Service, what: str) -> Refused:
    return Refused(
        f"on port {port} service {other.name} takes {what} already; give other server_names, or another port",
        code="server_name_taken",
    )
