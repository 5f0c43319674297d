"""How TLS is ended on a service's port: its rules, and all that a listener needs to follow them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from harbor.errors import Invalid

MIN_VERSIONS: Final = ("1.2", "1.3")
MOST_ALPN: Final = 8  # protocols one service may offer; clients speak one or two
LONGEST_ALPN: Final = 255  # bytes of one protocol's name: its length is one byte (RFC 7301)


class Verify(StrEnum):
    """Whether clients have to show a certificate."""

    NONE = "none"
    REQUIRED = "required"


class UnknownName(StrEnum):
    """What a client gets that asks for a server name which no certificate has."""

    DEFAULT = "default"  # the service's first certificate
    REJECT = "reject"  # the alert unrecognized_name


@dataclass(frozen=True, slots=True)
class TlsRules:
    """By which rules a service ends TLS. ``alpn``: what it offers, best first; empty for no negotiation at all.

    Errors: ``Invalid`` (``tls_rules_invalid``), naming the rule that is wrong.
    """

    min_version: str = "1.2"
    alpn: tuple[str, ...] = ()
    verify: Verify = Verify.NONE
    unknown_name: UnknownName = UnknownName.DEFAULT

    def __post_init__(self) -> None:
        if self.min_version not in MIN_VERSIONS:
            raise _wrong("min_version", f"{str(self.min_version)[:20]!r} is none of {', '.join(MIN_VERSIONS)}")
        if len(self.alpn) > MOST_ALPN or len(set(self.alpn)) != len(self.alpn):
            raise _wrong("alpn", f"give up to {MOST_ALPN} different protocols")
        for protocol in self.alpn:
            if not 0 < len(protocol) <= LONGEST_ALPN or not (protocol.isascii() and protocol.isprintable()):
                raise _wrong("alpn", f"{protocol[:20]!r} is no protocol; http/1.1 is one")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that can be served. ``file`` is a PEM file, mode 0600, with the key and the chain.

    ``names`` are the names in it: DNS names in lower case, without a trailing dot, of which the first label may
    be ``*``; and IP addresses as ``ipaddress`` prints them.
    """

    file: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TlsTerms:
    """All that a listener needs to end TLS. ``identities[0]`` is the default; ``ca_file`` has who may sign clients."""

    rules: TlsRules
    identities: tuple[Identity, ...]
    ca_file: str | None = None
    crl_file: str | None = None

    def __post_init__(self) -> None:
        if not self.identities:
            raise ValueError("there is no TLS without a certificate")
        if self.rules.verify is Verify.REQUIRED and self.ca_file is None:
            raise ValueError("clients cannot be verified without those who may sign them")


def _wrong(rule: str, why: str) -> Invalid:
    return Invalid(f"{rule}: {why}", code="tls_rules_invalid")
