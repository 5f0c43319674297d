"""What can be refused by looking: nothing here changes anything, or asks anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harbor.api.broker.catalog import BY_ID, check_service, plan_of
from harbor.api.broker.requests import FIXED, HintQuery, ProvisionBody, UpdateBody
from harbor.errors import HarborError, Invalid, Refused
from harbor.model import Protocol, Service, Tls
from harbor.policy.naming import protocol_for, shown, tls_for

GONE: Final = 410  # the specification's answer to whoever deletes what is not there


def shape(origin: Mapping[str, Any], plan: str) -> tuple[Protocol, Tls]:
    """Protocol and TLS of an instance: parameters first, then the plan, then the name that the user gave it."""
    given, name = origin["parameters"], origin["context"].get("instance_name", "")
    protocol = protocol_for(name, plan, Protocol(given["protocol"]) if "protocol" in given else None)
    return protocol, tls_for(name, plan, Tls(given["tls"]) if "tls" in given else None, protocol)


def check_update(service: Service, plan: str, given: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Return if a live port can follow: it stays what it is, where it is, under whichever plan.

    Errors: 422 (``update_unsupported``).
    """
    for name in FIXED:
        if name in given and given[name] != getattr(service, name):
            present = getattr(service, name)
            raise _unsupported(f"{name} cannot change from {present} to {given[name]} while the port lives")
    if plan == service.plan:
        return
    try:
        protocol, tls = shape(origin, plan)
    except Invalid as exc:
        raise _unsupported(exc.message) from None
    if (protocol, tls) != (service.protocol, service.tls):
        raise _unsupported(
            f"plan {plan} would make this {protocol.value} with TLS {tls.value}; the port is {service.protocol.value} "
            f"with TLS {service.tls.value} while it lives"
        )


def check_maintenance(body: ProvisionBody | UpdateBody) -> None:
    """Return if the request is not about maintenance. Errors: 422 (``maintenance_info_conflict``)."""
    if body.maintenance_info is not None:
        raise Refused(
            f"this catalog has no maintenance information, so {shown(body.maintenance_info.version)} is not its "
            "version; fetch the catalog again",
            code="maintenance_info_conflict",
            status=422,
        )


def check_chosen(chosen: HintQuery) -> None:
    """Return if offering and plan are in the catalog, where they are named. Errors: those of the catalog."""
    if chosen.service_id is not None:
        check_service(chosen.service_id)
    if chosen.plan_id is not None:
        plan_of(chosen.plan_id)


def check_belongs(service: Service, chosen: HintQuery) -> None:
    """Return if the instance is of this offering and plan. Errors: ``Invalid`` (``plan_mismatch``)."""
    check_chosen(chosen)
    if chosen.plan_id not in (None, service.origin["plan_id"]):
        raise Invalid(
            f"the instance has plan {service.origin['plan_id']} ({BY_ID[service.origin['plan_id']].name}), "
            f"not {chosen.plan_id}",
            code="plan_mismatch",
        )


def gone(instance_id: str) -> HarborError:
    """There is nothing to delete (any more)."""
    return HarborError(f"there is no instance {shown(instance_id)}", code="instance_gone", status=GONE)


def _unsupported(why: str) -> Refused:
    return Refused(f"{why}; create another instance", code="update_unsupported", status=422)
