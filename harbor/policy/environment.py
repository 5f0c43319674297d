"""What a bound app is told: the credentials of a service, and the environment of an app.

Names and shapes are those of the first Harbor: an app that read ``STACKATO_HARBOR`` there finds what it knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harbor.errors import Refused
from harbor.model import Exposure, Service, Tls
from harbor.policy.naming import VARIABLE_PREFIX, shown, variable_for

LABEL: Final = "harbor-1.0"
# Set when exactly one service is bound; a service's own variable continues it.
ONLY_ONE: Final = VARIABLE_PREFIX.removesuffix("_")


@dataclass(frozen=True, slots=True)
class Place:
    """Who a node is and where apps and clients reach it; "" is what it does not have."""

    node_id: str
    host: str
    hostname: str = ""
    ext_host: str = ""
    ext_hostname: str = ""


def credentials(service: Service, place: Place) -> dict[str, Any]:
    """What an app needs to use the service: where it is reached, and the port to listen on (``int_port``).

    ``name`` is the service's id. The ``ext_`` members are there only if the service is public and the node has them.
    """
    found: dict[str, Any] = {
        "hostname": place.hostname or place.host,
        "host": place.host,
        "port": service.port,
        "name": service.id,
        "node_id": place.node_id,
        "int_port": service.int_port,
    }
    if service.exposure is Exposure.PUBLIC:
        outside = {"ext_hostname": place.ext_hostname, "ext_host": place.ext_host}
        found |= {name: value for name, value in outside.items() if value}
    return found


def environment(bound: Iterable[tuple[Service, Mapping[str, Any]]]) -> dict[str, str]:
    """The variables of an app that is bound to these services, each given with its credentials."""
    ordered = sorted(bound, key=lambda pair: pair[0].name)
    by_name = {service.name: dict(given) for service, given in ordered}
    listed = [
        {"name": service.name, "label": LABEL, "plan": plan_of(service), "credentials": dict(given)}
        for service, given in ordered
    ]
    found = {"STACKATO_SERVICES": json.dumps(by_name), "VCAP_SERVICES": json.dumps({LABEL: listed})}
    ports = {variable_for(service.name): str(given["int_port"]) for service, given in ordered}
    if len(ports) == 1:
        found[ONLY_ONE] = next(iter(ports.values()))
    return found | ports


def plan_of(service: Service) -> str:
    """The plan of the service; one that was made without gets the plan that would have made it."""
    return service.plan or ("https" if service.tls is Tls.NODE else service.protocol.value)


def check_variables(name: str, others: Iterable[str], app: str) -> None:
    """Return if a service of this name can be bound to the app beside those others.

    Errors: ``Refused`` (``variables_collide``) if two would need the same variable.
    """
    variable = variable_for(name)
    for other in others:
        if variable_for(other) == variable:
            raise Refused(
                f"app {shown(app)} is bound to {other} already, whose variable is {variable} like that of {name}; "
                f"unbind {other}, or bind a service with a name that differs in more than case, '-', '.' and '_'",
                code="variables_collide",
            )
