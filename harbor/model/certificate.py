"""What is known of a certificate: whose it is, where it came from, what is wrong with it. Never its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

DAY: Final = 86_400


class Source(StrEnum):
    """Where a service's certificate comes from; the first of these that there is."""

    UPLOADED = "uploaded"  # PUT /v1/certificates/{service}
    SERVICE_FILE = "service_file"  # <certs_dir>/<service>.crt and .key
    NODE_FILE = "node_file"  # <certs_dir>/harbor.crt and .key
    SELF_SIGNED = "self_signed"  # made by the node


class Severity(StrEnum):
    """Whether a finding keeps a certificate from being served."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a certificate and what would work, in words. ``code`` of an error is an error code."""

    severity: Severity
    code: str
    message: str

    def as_json(self) -> dict[str, Any]:
        return {"severity": self.severity.value, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says. Times are Unix times; ``fingerprint`` is the SHA-256 of it, in hexadecimal."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: str
    key: str

    def days_left(self, now: float) -> int:
        """Whole days until it expires; negative after that."""
        return int((self.not_after - now) // DAY)


@dataclass(frozen=True, slots=True)
class CertificateView:
    """The certificate that a service shows to whoever asks for no other.

    ``refused`` says why a newer one is not served; ``further`` are those that were uploaded with a label.
    """

    service: str
    source: Source
    facts: Facts
    findings: tuple[Finding, ...] = ()
    refused: str | None = None
    further: Mapping[str, Facts] = field(default_factory=dict)

    def as_json(self, now: float) -> dict[str, Any]:
        """Optional members are absent, not null."""
        facts = self.facts
        body: dict[str, Any] = {
            "service": self.service,
            "source": self.source.value,
            "subject": facts.subject,
            "issuer": facts.issuer,
            "names": list(facts.names),
            "not_before": facts.not_before,
            "not_after": facts.not_after,
            "days_left": facts.days_left(now),
            "fingerprint": facts.fingerprint,
            "key": facts.key,
            "findings": [finding.as_json() for finding in self.findings],
        }
        if self.refused is not None:
            body["refused"] = self.refused
        if self.further:
            body["further"] = [
                {"label": label, "subject": one.subject, "names": list(one.names), "not_after": one.not_after}
                | {"days_left": one.days_left(now), "fingerprint": one.fingerprint}
                for label, one in sorted(self.further.items())
            ]
        return body
