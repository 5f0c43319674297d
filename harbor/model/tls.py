"""How TLS is ended on a service's port: its rules, and all that a listener needs to follow them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from harbor.errors import Invalid

MIN_VERSIONS: Final = ("1.2", "1.3")
MOST_ALPN: Final = 8  # protocols one service may offer; clients speak one or two
RULES: Final = ("min_version", "alpn", "verify", "unknown_name")
# What may be set on a service: its rules, and as PEM who may sign clients, and whom these have revoked.
TLS_SETTINGS: Final = (*RULES, "ca", "crl")
# What may be set of TLS to backends; ``ca`` is PEM.
BACKEND_SETTINGS: Final = ("verify", "server_name", "ca")
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

    def with_settings(self, settings: Mapping[str, Any]) -> TlsRules:
        """These rules with what was set on a service; ``settings`` went through ``check_settings``."""
        given = {name: settings[name] for name in RULES if name in settings}
        if "alpn" in given:
            given["alpn"] = tuple(given["alpn"])
        if "verify" in given:
            given["verify"] = Verify(given["verify"])
        if "unknown_name" in given:
            given["unknown_name"] = UnknownName(given["unknown_name"])
        return replace(self, **given)

    def as_json(self) -> dict[str, Any]:
        return {
            "min_version": self.min_version,
            "alpn": list(self.alpn),
            "verify": self.verify.value,
            "unknown_name": self.unknown_name.value,
        }


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


@dataclass(frozen=True, slots=True)
class BackendTls:
    """How a service speaks TLS to its backends. ``server_name``: for whom their certificates have to be, instead of the
    host of each; ``ca_file``: who may sign them, instead of those whom the system trusts.
    """

    verify: bool = True
    server_name: str | None = None
    ca_file: str | None = None


def check_backend_tls(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What may be set of TLS to backends, as JSON holds it. Errors: ``Invalid`` (``backend_tls_invalid``)."""
    for name, value in settings.items():
        if name not in BACKEND_SETTINGS:
            raise backend_wrong(str(name)[:20], f"there is no such setting; there are {', '.join(BACKEND_SETTINGS)}")
        if not isinstance(value, bool if name == "verify" else str):
            raise backend_wrong(name, "give true or false" if name == "verify" else "give a text")
    return dict(settings)


def backend_wrong(setting: str, why: str) -> Invalid:
    """What says that a setting of TLS to backends cannot be."""
    return Invalid(f"backend_tls: {setting}: {why}", code="backend_tls_invalid")


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What may be set on a service, as JSON holds it. Errors: ``Invalid`` (``tls_rules_invalid``)."""
    for name, value in settings.items():
        if name not in TLS_SETTINGS:
            raise _wrong(str(name)[:20], f"there is no such rule; there are {', '.join(TLS_SETTINGS)}")
        if name == "alpn":
            if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
                raise _wrong(name, 'give a list of protocols, like ["http/1.1"]')
        elif not isinstance(value, str):
            raise _wrong(name, "give a text")
        elif name in _CHOICES and value not in _CHOICES[name]:
            raise _wrong(name, f"{value[:20]!r} is none of {', '.join(_CHOICES[name])}")
    rules = TlsRules().with_settings(settings)
    if rules.verify is Verify.REQUIRED and "ca" not in settings:
        raise _wrong("verify", "clients are verified against somebody: give ca, the certificates that may sign theirs")
    if "crl" in settings and "ca" not in settings:
        raise _wrong("crl", "a list of revoked certificates needs ca, the certificates that sign it")
    return {name: list(value) if name == "alpn" else value for name, value in settings.items()}


_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "min_version": MIN_VERSIONS,
    "verify": tuple(one.value for one in Verify),
    "unknown_name": tuple(one.value for one in UnknownName),
}


def _wrong(rule: str, why: str) -> Invalid:
    return Invalid(f"{rule}: {why}", code="tls_rules_invalid")
