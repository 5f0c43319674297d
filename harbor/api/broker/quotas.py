"""How much an organisation or a space may have. Pure: what is there comes in, what may be granted goes out.

A quota of sessions is one of promises, like a platform's quota of memory: the sum of ``max_sessions`` over
the services. So it holds by itself, whatever the traffic does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from harbor.config import Quota
from harbor.errors import Refused
from harbor.policy.naming import shown

EACH: Final = "*"


class Tenant(NamedTuple):
    """Whose a service is, as the platform says; empty where it does not."""

    organization: str = ""
    space: str = ""


class Grant(NamedTuple):
    """What one service was given. ``sessions`` is its ``max_sessions``; 0 is without limit."""

    tenant: Tenant
    sessions: int


def check_ports(quotas: Sequence[Quota], tenant: Tenant, granted: Iterable[Grant]) -> None:
    """Return if the tenant may have one more port. Errors: ``Refused`` (``quota_exceeded``)."""
    granted = list(granted)
    for whose, quota in _quotas_of(quotas, tenant):
        count = sum(_is_of(grant, quota, tenant) for grant in granted)
        if quota.ports is not None and count >= quota.ports:
            raise _exceeded(
                f"{whose} may have {quota.ports} port(s) and has {count}; delete a service that is not needed"
            )


def sessions_for(
    quotas: Sequence[Quota], tenant: Tenant, granted: Iterable[Grant], asked: int | None, default: int
) -> int | None:
    """The ``max_sessions`` of a service beside those ``granted``; None where no quota has a say and nothing was asked.

    Who asks for nothing gets the default, or what is left. Errors: ``Refused`` (``quota_exceeded``).
    """
    granted = list(granted)
    allowed = asked
    for whose, quota in _quotas_of(quotas, tenant):
        if quota.sessions is None:
            continue
        left = quota.sessions - _sum(quota, tenant, granted)
        said = f"{whose} may have {quota.sessions} session(s) over all its services, of which {max(left, 0)} are left"
        if left <= 0:
            raise _exceeded(f"{said}; lower max_sessions of another service")
        if asked is not None and not 0 < asked <= left:
            raise _exceeded(f"{said}; ask for max_sessions from 1 to {left}")
        allowed = min(left, allowed or default or left)
    return allowed


def larger(one: int, other: int) -> int:
    """The larger of two numbers of sessions, of which 0 is without limit."""
    return 0 if 0 in (one, other) else max(one, other)


def _quotas_of(quotas: Sequence[Quota], tenant: Tenant) -> Iterable[tuple[str, Quota]]:
    """The quota of the organisation and that of the space, each with what it is called."""
    for kind in ("organization", "space"):
        mine = getattr(tenant, kind)
        named = {getattr(quota, kind): quota for quota in quotas if getattr(quota, kind) is not None}
        quota = named.get(mine) or named.get(EACH)
        if quota is not None:
            yield f"{kind} {shown(mine)}", quota


def _is_of(grant: Grant, quota: Quota, tenant: Tenant) -> bool:
    """Whether a grant counts here. Spaces are told apart within their organisation only: namespaces share names."""
    return grant.tenant == tenant if quota.space is not None else grant.tenant.organization == tenant.organization


def _sum(quota: Quota, tenant: Tenant, granted: Sequence[Grant]) -> int:
    """Sessions that are promised already; a service without limit uses up the whole quota."""
    mine = [grant.sessions for grant in granted if _is_of(grant, quota, tenant)]
    return sum(sessions or quota.sessions or 0 for sessions in mine)


def _exceeded(message: str) -> Refused:
    return Refused(
        f"{message}, or ask the administrator for a larger quota (broker.quotas)", code="quota_exceeded", status=422
    )
