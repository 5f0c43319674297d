"""What is wrong with a certificate, before a client finds out: each finding says what it is and what would work.

An error keeps it from being served; a warning is for whoever knows what their clients are like.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from harbor.certificates.pem import CURVES, Pair, PrivateKey, name_text, names_of
from harbor.model import Identity
from harbor.model.certificate import Finding, Severity
from harbor.policy.sni import choose

SMALLEST_RSA: Final = 2048  # bits; what browsers and OpenSSL's level 2 ask for
LARGEST_RSA: Final = 8192  # bits; a handshake would take tens of milliseconds
WEAK_HASHES: Final = (hashes.MD5, hashes.SHA1)
SHOWN: Final = 5  # names that a message lists

_BROKEN: Final = (ValueError, TypeError, UnsupportedAlgorithm)


def examine(pair: Pair, wanted: Iterable[str] = (), now: float | None = None) -> tuple[Finding, ...]:
    """All that is wrong, errors first. ``wanted`` are names by which clients connect; ``now`` is Unix time."""
    return _examined(pair.chain, pair.key, wanted, now)


def examine_chain(
    chain: Sequence[x509.Certificate], wanted: Iterable[str] = (), now: float | None = None
) -> tuple[Finding, ...]:
    """The same where there is no key."""
    return _examined(chain, None, wanted, now)


def _examined(
    chain: Sequence[x509.Certificate], key: PrivateKey | None, wanted: Iterable[str], now: float | None
) -> tuple[Finding, ...]:
    moment = datetime.datetime.now(datetime.UTC) if now is None else datetime.datetime.fromtimestamp(now, datetime.UTC)
    try:
        found = [
            *([] if key is None else [*_key(key, chain), *_key_strength(key)]), *_signatures(chain),
            *_dates(chain, moment), *_chain(chain), *_purpose(chain[0]),
            *_names(chain[0], tuple(dict.fromkeys(filter(None, wanted)))),
        ]  # fmt: skip
    except _BROKEN:  # an extension that breaks its own rules shows only when it is looked at
        found = [
            _wrong(
                code="certificate_invalid",
                message="the certificate breaks the rules of X.509, so that clients will refuse it; issue it anew",
            )
        ]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.ERROR))


def _key(key: PrivateKey, chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    own = _public(key.public_key())
    if own == _public(chain[0].public_key()):
        return
    fits = [number for number, one in enumerate(chain, 1) if _public(one.public_key()) == own]
    if fits:
        message = (
            f"the key belongs to certificate {fits[0]} of the file, {name_text(chain[fits[0] - 1].subject)}; "
            "put that one first and those above it behind it"
        )
    else:
        message = (
            f"the key is not that of the certificate {name_text(chain[0].subject)}; give the key with which "
            "this certificate was requested, or the certificate that was issued for this key"
        )
    yield _wrong(code="key_mismatch", message=message)


def _key_strength(key: PrivateKey) -> Iterator[Finding]:
    if isinstance(key, rsa.RSAPrivateKey) and not SMALLEST_RSA <= key.key_size <= LARGEST_RSA:
        yield _wrong(
            code="key_weak",
            message=f"the key has {key.key_size} bits; use RSA of {SMALLEST_RSA} to {LARGEST_RSA} bits, or ECDSA P-256",
        )
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in CURVES:
        message = f"the key is on the curve {key.curve.name}, which clients do not know; use P-256 or P-384"
        yield _wrong(code="key_weak", message=message)


def _signatures(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for certificate in chain:
        if isinstance(certificate.signature_hash_algorithm, WEAK_HASHES) and not _is_self_signed(certificate):
            hashed = certificate.signature_hash_algorithm.name.upper()
            message = f"{name_text(certificate.subject)} is signed with {hashed}; have it signed with SHA-256"
            yield _wrong(code="key_weak", message=message)


def _dates(chain: Sequence[x509.Certificate], now: datetime.datetime) -> Iterator[Finding]:
    for certificate in chain:
        subject = name_text(certificate.subject)
        if certificate.not_valid_after_utc <= now:
            ended = certificate.not_valid_after_utc
            message = f"{subject} expired on {ended:%Y-%m-%d %H:%M} UTC; renew it"
            yield _wrong(code="certificate_expired", message=message)
        elif certificate.not_valid_before_utc > now:
            begins = certificate.not_valid_before_utc
            yield _wrong(
                code="certificate_not_yet_valid",
                message=f"{subject} is valid from {begins:%Y-%m-%d %H:%M} UTC on only; wait, or check the node's clock",
            )


def _chain(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for lower, upper in pairwise(chain):
        if not _issued(lower, upper):
            yield _wrong(
                code="chain_broken",
                message=f"{name_text(lower.subject)} was issued by {name_text(lower.issuer)}, but "
                f"{name_text(upper.subject)} follows it; each certificate must be followed by the one that issued it",
            )
            return
    if len(chain) == 1 and not _is_self_signed(chain[0]) and _tells_its_issuer(chain[0]):
        issuer = name_text(chain[0].issuer)
        yield _wrong(
            code="chain_broken",
            message=f"the certificate of the issuer, {issuer}, is missing; append it behind the service's own, as in "
            "the file that is often called fullchain.pem",
        )


def _purpose(own: x509.Certificate) -> Iterator[Finding]:
    try:
        usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage:
        message = "the certificate is not meant for servers; have one issued with the extended key usage serverAuth"
        yield _wrong(code="certificate_unfit", message=message)


def _names(own: x509.Certificate, wanted: Sequence[str]) -> Iterator[Finding]:
    names = names_of(own)
    if not names:
        message = "the certificate has no subjectAltName, so that most clients refuse it; issue it with DNS names"
        yield Finding(Severity.WARNING, "names_missing", message)
    elif wanted and not any(_covers(names, one) for one in wanted):
        yield Finding(
            Severity.WARNING,
            "names_differ",
            f"the certificate is for {_listed(names)}, and apps and clients are told {_listed(wanted)}: whoever "
            "connects by one of these refuses it; issue it for one of them, or connect by a name that it has",
        )


def _covers(names: tuple[str, ...], wanted: str) -> bool:
    try:
        return str(ipaddress.ip_address(wanted)) in names
    except ValueError:
        return choose((Identity("", names),), wanted) is not None


def _issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (InvalidSignature, *_BROKEN):
        return False
    return True


def _is_self_signed(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _tells_its_issuer(certificate: x509.Certificate) -> bool:
    """Whether it says where the issuer's certificate can be had: those of public authorities do, few others."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access)


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _wrong(*, code: str, message: str) -> Finding:
    return Finding(Severity.ERROR, code, message)
