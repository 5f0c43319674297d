"""The policy of a service: node defaults, overridden one by one by what the service was given.

A field stands here once; API, configuration, command line, store and reference follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from harbor.errors import Invalid
from harbor.model.bandwidth import Bandwidth
from harbor.model.health import HealthCheck
from harbor.model.kinds import (
    Choice,
    Flag,
    Networks,
    Record,
    Seconds,
    Setting,
    Size,
    Whole,
    Wrong,
    setting,
    settings_of,
)
from harbor.model.limits import ByteRate, Queue, Rate
from harbor.model.service import Protocol

MOST_SESSIONS: Final = 10_000_000  # more than a machine has ports and memory for
MOST_PROXIES: Final = 256  # networks of proxies in front of one service; each is compared with each new client
MOST_NETWORKS: Final = 10_000  # of one list; looking one up costs the same, but all of them are shown and stored


class Removal(StrEnum):
    """What becomes of a backend's sessions when it is removed."""

    DRAIN = "drain"  # they live on for up to drain_timeout
    CUT = "cut"  # they end at once
    KEEP = "keep"  # they live as long as they like


class Failback(StrEnum):
    """Where a backend stands in the queue once it is up again."""

    STAY = "stay"  # at the end: whoever took the datagrams over keeps them
    RETURN = "return"  # where it was: the first in the queue takes them back


class Balance(StrEnum):
    """Who gets the next TCP session, among the backends that are up."""

    ROUND_ROBIN = "round_robin"  # they take turns
    LEAST_SESSIONS = "least_sessions"  # who has the fewest, for its weight
    SOURCE_HASH = "source_hash"  # the same backend for the same client address, as long as it is up


class ProxyProtocol(StrEnum):
    """How backends are told of their clients before the first byte, or in front of datagrams."""

    OFF = "off"
    V1 = "v1"  # a line of text; TCP only
    V2 = "v2"  # binary; of a UDP flow the first datagram
    V2_EVERY = "v2-every"  # binary; every datagram
    SIMPLE = "simple"  # Cloudflare Spectrum's 38 bytes; UDP only, every datagram both ways


@dataclass(frozen=True, slots=True)
class Policy:
    """A complete policy. None means that a policy is off, or as its meaning says."""

    connect_timeout: float = setting(
        Seconds(0.01, 300),
        "Seconds in which a session must reach a backend, over all backends that are tried.",
        5.0,
    )
    idle_timeout: float = setting(
        Seconds(0, 31_536_000),
        "Seconds without a byte after which a TCP session is closed. 0: never; keepalive finds peers that are gone.",
        0.0,
    )
    half_close_timeout: float = setting(
        Seconds(0, 31_536_000),
        "Seconds without a byte after which a TCP session is closed of which one side has ended. 0: as any other.",
        0.0,
    )
    max_session_age: float = setting(
        Seconds(0, 31_536_000),
        "Seconds after which a session is ended whatever it does, or up to a tenth of them earlier, so that sessions "
        "which began together do not end together. 0: never.",
        0.0,
    )
    udp_timeout: float = setting(
        Seconds(0.1, 86_400), "Seconds without a datagram after which a UDP flow is forgotten.", 60.0
    )
    udp_requests: int = setting(
        Whole(0, 1_000_000),
        "Datagrams of a client that make up one UDP flow; the next begins another. 0: all of them.",
        0,
    )
    udp_responses: int = setting(
        Whole(0, 1_000_000),
        "Replies that each datagram of a client has; a UDP flow ends when they have come. 0: any number.",
        0,
    )
    reply_budget: int = setting(
        Size(0, 1 << 30),
        "Most bytes that a UDP client is sent before it has shown, by sending again, that it receives them. 0: no "
        "limit.",
        0,
    )
    failback: Failback = setting(
        Choice(Failback),
        "Where a backend stands in the queue once it is up again: `stay` leaves the datagrams with whoever took them "
        "over, `return` gives them back to the first in the queue.",
        Failback.STAY,
    )
    drain_timeout: float = setting(
        Seconds(0, 86_400),
        "Seconds that sessions of a draining backend, or of a node that stops, may live on.",
        30.0,
    )
    max_sessions: int = setting(
        Whole(0, MOST_SESSIONS), "Most sessions of one service at a time. 0: no limit of its own.", 10_000
    )
    max_sessions_per_backend: int = setting(
        Whole(0, MOST_SESSIONS),
        "Most sessions of one backend at a time; new ones go to the others. 0: no limit.",
        0,
    )
    balance: Balance = setting(
        Choice(Balance),
        "Which backend gets the next TCP session: `round_robin` by turns, `least_sessions` who has the fewest for its "
        "weight, `source_hash` the same one for the same client address. UDP always goes to the first in the queue.",
        Balance.ROUND_ROBIN,
    )
    slow_start: float = setting(
        Seconds(0, 3600),
        "Seconds over which a backend that came up is brought to its full share of new TCP sessions. 0: at once.",
        0.0,
    )
    max_sessions_per_source: int = setting(
        Whole(0, MOST_SESSIONS),
        "Most sessions of one client address (of IPv6: of one /64) at a time. 0: no limit.",
        0,
    )
    queue: Queue | None = setting(
        Record(Queue),
        "TCP clients that find the service full, by `max_sessions` or `max_sessions_per_backend`, wait for their turn. "
        "Empty: they are refused.",
        None,
    )
    sessions_per_second: Rate | None = setting(Record(Rate), "New sessions in a second. Empty: as many as come.", None)
    sessions_per_second_per_source: Rate | None = setting(
        Record(Rate),
        "New sessions in a second of one client address (of IPv6: of one /64). Empty: as many as come.",
        None,
    )
    packets_per_second_per_source: Rate | None = setting(
        Record(Rate),
        "UDP datagrams in a second of one client address (of IPv6: of one /64); more are dropped. Empty: as many as "
        "come.",
        None,
    )
    bytes_per_second_per_source: ByteRate | None = setting(
        Record(ByteRate),
        "Bytes of UDP datagrams in a second of one client address (of IPv6: of one /64); what is more is dropped. "
        "Empty: as many as come.",
        None,
    )
    allow: tuple[str, ...] = setting(
        Networks(MOST_NETWORKS), "Networks whose clients may have sessions. Empty: everybody may.", ()
    )
    deny: tuple[str, ...] = setting(
        Networks(MOST_NETWORKS), "Networks whose clients may have none, even where `allow` names them.", ()
    )
    bandwidth: Bandwidth | None = setting(
        Record(Bandwidth),
        "Bytes per second, for each session and for all of the service together, each way; what is not given is not "
        "limited. TCP is slowed down; of UDP, which cannot wait, the rest is dropped.",
        None,
    )
    expires: float = setting(
        Seconds(0, 315_360_000),
        "Seconds from its creation, or from when this is set, after which a service is deleted. 0: never.",
        0.0,
    )
    removal: Removal = setting(
        Choice(Removal),
        "What becomes of the sessions of a backend that is removed: `drain` lets them live for up to `drain_timeout`, "
        "`cut` ends them at once, `keep` lets them live as long as they like.",
        Removal.DRAIN,
    )
    health: HealthCheck | None = setting(
        Record(HealthCheck),
        "How backends are checked. Empty: they are not; sessions find out whether they answer.",
        None,
    )
    max_fails: int = setting(
        Whole(0, 1000),
        "So many failed dials or refused datagrams within `fail_timeout` take a backend down. 0: none do.",
        1,
    )
    # Long enough that a dead backend costs one failed dial in many, short enough that a restarted app is found again
    # before anybody looks for the reason; HAProxy, nginx and Caddy rest theirs for as long.
    fail_timeout: float = setting(
        Seconds(0.1, 86_400),
        "Seconds in which `max_fails` are counted, and after which a backend that is down is tried again, unless it is "
        "checked.",
        10.0,
    )
    http: bool | None = setting(
        Flag(),
        "Whether sessions are read as HTTP: backends learn who asked, what is ambiguous is refused. Empty: where the "
        "node ends TLS because name or plan of the service say `https`.",
        None,
    )
    hsts: int = setting(
        Whole(0, 94_608_000),
        "Seconds for which browsers are told to insist on HTTPS, where HTTP is read along. 0: they are not.",
        0,
    )
    proxy_protocol: ProxyProtocol = setting(
        Choice(ProxyProtocol),
        "How backends are told who their client is, by a PROXY header before its first byte: `v1` (text, TCP only), "
        "`v2` (binary; of UDP the first datagram of each flow), `v2-every` (every datagram), `simple` (38 bytes of "
        "Cloudflare Spectrum on every datagram and answer, UDP only). Backends have to expect it.",
        ProxyProtocol.OFF,
    )
    accept_proxy: tuple[str, ...] = setting(
        Networks(MOST_PROXIES),
        "Networks of the proxies in front of this service: only they may connect, and each connection has to begin "
        "with a PROXY header, which says who the client is. Empty: anybody may connect, and no header is looked for.",
        (),
    )
    trusted_proxies: tuple[str, ...] = setting(
        Networks(MOST_PROXIES),
        "Networks of proxies in front of this service that are believed, where HTTP is read along, when they say for "
        "whom they ask (`X-Forwarded-For`, `Forwarded` ...). Empty: nobody is.",
        (),
    )

    def with_overrides(self, overrides: Mapping[str, Any]) -> Policy:
        """This policy with some fields replaced. Errors: ``Invalid`` naming the field that is wrong."""
        plain = check_overrides(overrides)
        return dataclasses.replace(self, **{name: FIELDS[name].kind.build(value) for name, value in plain.items()})

    def as_json(self) -> dict[str, Any]:
        """Every field by its name, null where it is off."""
        return {name: plain(name, getattr(self, name)) for name in FIELDS}


FIELDS: Final[dict[str, Setting]] = settings_of(Policy)


def check_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides, each in its one JSON form. Errors: ``Invalid`` (code ``policy_invalid``)."""
    checked = {}
    for name, value in overrides.items():
        if name not in FIELDS:
            raise Invalid(f"{name}: no such policy; there are {', '.join(FIELDS)}", code="policy_invalid")
        try:
            checked[name] = FIELDS[name].kind.check(value)
        except Wrong as exc:
            raise Invalid(str(exc.within(name)), code="policy_invalid") from None
    return checked


def check_fit(overrides: Mapping[str, Any], protocol: Protocol) -> None:
    """Whether what was asked for exists for such a service. Errors: ``Invalid`` (``policy_invalid``).

    A default of the node that does not is left out instead: it was not meant for this very service.
    """
    mode = overrides.get("proxy_protocol")
    if mode == ProxyProtocol.V1 and protocol.has_udp:
        raise Invalid("proxy_protocol: v1 is a line of text for TCP; UDP has v2 or v2-every", code="policy_invalid")
    if mode == ProxyProtocol.SIMPLE and protocol.has_tcp:
        raise Invalid("proxy_protocol: simple is a header of UDP only; TCP has v1 or v2", code="policy_invalid")


def plain(name: str, value: Any) -> Any:
    """A policy's value in its JSON form."""
    return None if value is None else FIELDS[name].kind.plain(value)
