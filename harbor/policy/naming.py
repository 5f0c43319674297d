"""What a name says: whether it may be one, which protocol and TLS it asks for, which variable it becomes.

A name is data. It is never part of a file path, and it is escaped wherever a message echoes it. Prefixes
and the suffix are compared as they are written, in lower case, as the first Harbor did: ``UDP-x`` is a TCP
service.
"""

from __future__ import annotations

import re
from typing import Final

from harbor.errors import Invalid
from harbor.model import Protocol, Tls

# 63 characters: the length of a DNS label, so that a name fits wherever a hostname label does.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
PLANS: Final[dict[str, Protocol]] = {
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
    "both": Protocol.BOTH,
    "https": Protocol.TCP,
}
PREFIXES: Final[dict[str, Protocol]] = {
    "udp": Protocol.UDP,
    "both": Protocol.BOTH,
    "multi": Protocol.BOTH,
}
VARIABLE_PREFIX: Final = "STACKATO_HARBOR_"
SHOWN: Final = 80  # characters of a refused value in a message: enough to recognise it, too few to flood a log


def check_name(name: str, what: str = "service name") -> str:
    """The name itself, or ``Invalid`` (``name_invalid``). ``what`` is what the message calls it."""
    if NAME.fullmatch(name) is None:
        raise Invalid(
            f"{what} {shown(name)} is not valid: use 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit",
            code="name_invalid",
        )
    return name


def shown(value: object) -> str:
    """The value as a message may echo it: on one line, without control characters, 80 characters at most."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists nested as deep
        text = f"this {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def protocol_for(name: str, plan: str | None = None, explicit: Protocol | None = None) -> Protocol:
    """The protocol of a service: the explicit one, else the plan's, else what the name begins with, else TCP.

    Errors: ``Invalid`` (``plan_unknown``), also when an explicit protocol is given.
    """
    planned = _planned(plan)
    if explicit is not None:
        return explicit
    if planned is not None:
        return planned
    return next((protocol for prefix, protocol in PREFIXES.items() if name.startswith(prefix)), Protocol.TCP)


def tls_for(name: str, plan: str | None, explicit: Tls | None, protocol: Protocol) -> Tls:
    """Who ends TLS: the explicit answer, else the node where plan or suffix say ``https``, else nobody.

    Errors: ``Invalid`` (``tls_needs_tcp``) for TLS on a service that is UDP only; ``plan_unknown``.
    """
    _planned(plan)
    asked = explicit
    if asked is None:
        asked = Tls.NODE if says_tls(name, plan) else Tls.OFF
    if asked is not Tls.OFF and not protocol.has_tcp:
        raise Invalid(
            f"service {shown(name)}: TLS needs TCP and this service is UDP only; "
            "ask for protocol tcp or both, or tls off",
            code="tls_needs_tcp",
        )
    return asked


def says_tls(name: str, plan: str | None) -> bool:
    """Whether name or plan of a service say that it is HTTPS."""
    return plan == "https" or name.endswith("https")


def variable_for(name: str) -> str:
    """The environment variable of a service; two names can share one, which binding has to refuse."""
    return VARIABLE_PREFIX + name.upper().replace("-", "_").replace(".", "_")


def _planned(plan: str | None) -> Protocol | None:
    if plan is None:
        return None
    if plan not in PLANS:
        raise Invalid(f"there is no plan {shown(plan)}; there are {', '.join(PLANS)}", code="plan_unknown")
    return PLANS[plan]
