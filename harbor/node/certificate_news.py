"""What the feed tells of certificates: names and dates, never a key."""

from __future__ import annotations

import time
from typing import Any, Final

from harbor.certificates import Accepted
from harbor.errors import HarborError
from harbor.model import Event
from harbor.model.certificate import Source
from harbor.node.parts import NODE, Parts
from harbor.store import Change

CHANGED: Final = "certificate.changed"
REFUSED: Final = "certificate.refused"
WHERE: Final = {Source.UPLOADED: "uploaded", Source.SELF_SIGNED: "self-signed"}


class News:
    """Drafts events and tells them. ``name`` is a service's, or None for what belongs to the node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def of(self, name: str | None, source: Source, accepted: Accepted, actor: str = NODE) -> Event:
        """What is shown from now on."""
        facts = accepted.facts
        whose = f"{name} shows" if name else "services without a certificate of their own show"
        until = time.strftime("%Y-%m-%d", time.gmtime(facts.not_after))
        details: dict[str, Any] = {
            "source": source.value,
            "fingerprint": facts.fingerprint,
            "names": list(facts.names),
            "not_after": facts.not_after,
            "warnings": [finding.message for finding in accepted.findings],
        }
        message = f"{whose} {facts.subject} ({WHERE.get(source, 'from certs_dir')}), valid until {until}"
        return self._parts.feed.draft(CHANGED, actor, message, name, **details)

    def gone(self, name: str | None, source: Source, message: str, actor: str = NODE) -> Event:
        """A source that has nothing any more."""
        return self._parts.feed.draft(CHANGED, actor, message, name, source=source.value)

    def changed(self, event: Event, change: Change) -> None:
        """Tell of what has happened by itself, and write it down soon."""
        self._parts.journal.later(change)
        self._parts.journal.note(event)

    def refused(self, name: str | None, source: Source, error: HarborError, actor: str) -> None:
        """Tell why a certificate is not served."""
        message = f"{name or 'certs_dir'}: a certificate is not served: {error.message}"
        details = {"source": source.value, "code": error.code}
        self._parts.journal.note(self._parts.feed.draft(REFUSED, actor, message, name, **details))
