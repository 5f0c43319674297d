"""Warnings before a certificate expires: one event at each threshold, also over a restart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harbor.certificates import Accepted, Keep, examine_lists
from harbor.model import Event, Service
from harbor.model.certificate import DAY, Severity, Source
from harbor.node.parts import NODE, Parts

THRESHOLDS: Final = (0, 1, 3, 7, 14, 30)  # days; authorities that renew do so a month or a week before
LOOK_EVERY: Final = 60.0  # seconds
EXPIRING: Final = "certificate.expiring"


class Expiry:
    """Which warnings were given. They are found again in the feed, by fingerprint and threshold."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told: set[tuple[str, int]] = set()
        self._next = 0.0

    def restore(self, events: Iterable[Event]) -> None:
        """What was told before the start is not told again."""
        for event in events:
            if event.kind == EXPIRING:
                self._told.add((str(event.details.get("fingerprint")), int(event.details.get("threshold", -1))))

    def look(
        self,
        shown: Iterable[tuple[str | None, Source, Accepted]],
        services: Iterable[Service],
        now: float,
        at_once: bool = False,
    ) -> None:
        """Warn of what has come closer to its end; ``now`` is Unix time."""
        if now < self._next and not at_once:
            return
        self._next = now + LOOK_EVERY
        self._look_at_lists(services, now)
        for name, source, accepted in shown:
            left = accepted.facts.not_after - now
            threshold = next((days for days in THRESHOLDS if left <= days * DAY), None)
            # A self-signed one is made anew long before.
            if threshold is None or source is Source.SELF_SIGNED:
                continue
            key = (accepted.facts.fingerprint, threshold)
            if key not in self._told:
                self._told.add(key)
                self._warn(name, source, accepted, threshold, now)

    def _look_at_lists(self, services: Iterable[Service], now: float) -> None:
        for service in services:
            crl = service.tls_rules.get("crl")
            for finding in examine_lists(crl, now) if crl is not None else ():
                key = (Keep.digest_of(f"{service.id} {crl}"), int(finding.severity is not Severity.ERROR))
                if key not in self._told:
                    self._told.add(key)
                    message = f"{service.name}: {finding.message}"
                    details = {"code": finding.code, "fingerprint": key[0], "threshold": key[1]}
                    self._parts.journal.note(self._parts.feed.draft(EXPIRING, NODE, message, service.name, **details))

    def _warn(self, name: str | None, source: Source, accepted: Accepted, threshold: int, now: float) -> None:
        days = accepted.facts.days_left(now)
        when = "has expired" if threshold == 0 else f"expires in {days} day{'' if days == 1 else 's'}"
        whose = f"{name}: " if name else ""
        event = self._parts.feed.draft(
            EXPIRING,
            NODE,
            f"{whose}the certificate {accepted.facts.subject} {when}; give a new one",
            name,
            source=source.value,
            fingerprint=accepted.facts.fingerprint,
            threshold=threshold,
            days_left=days,
            not_after=accepted.facts.not_after,
        )
        self._parts.journal.note(event)
