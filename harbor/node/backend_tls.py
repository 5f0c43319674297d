"""What was set of TLS to the backends of a service, and whether it can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harbor.certificates import read_chain
from harbor.errors import Invalid
from harbor.model import Protocol, Service, Tls
from harbor.model.tls import backend_wrong, check_backend_tls
from harbor.policy.admission import parse_host


def changed_backend_tls(service: Service, changes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings with what changes; None for one of them is the default again, and for all of them: no TLS."""
    before = service.backend_tls
    if "backend_tls" not in changes:
        return None if before is None else dict(before)
    wanted = changes["backend_tls"]
    if wanted is None:
        return None
    merged = {**(before or {}), **wanted}
    return check_backend_tls({name: value for name, value in merged.items() if value is not None})


def check_to_backends(service: Service, settings: Mapping[str, Any]) -> None:
    """Return if TLS can be spoken to the backends of this service like this.

    Errors: ``Invalid`` (``backend_tls_invalid``) says why not.
    """
    if service.protocol is not Protocol.TCP:
        raise _unfit(
            service, f"its protocol is {service.protocol.value}, and TLS is for TCP; make a service that is tcp"
        )
    if service.tls is Tls.PASSTHROUGH:
        raise _unfit(
            service,
            "its TLS is passthrough, between client and backend already; make one with tls: node, or leave it out",
        )
    if "server_name" in settings:
        try:
            parse_host(settings["server_name"])
        except Invalid as exc:
            raise backend_wrong("server_name", exc.message) from exc
    if "ca" in settings:
        try:
            read_chain(settings["ca"].encode())
        except Invalid as exc:
            raise backend_wrong("ca", exc.message) from exc


def _unfit(service: Service, why: str) -> Invalid:
    return Invalid(f"service {service.name} cannot speak TLS to its backends: {why}", code="backend_tls_invalid")
