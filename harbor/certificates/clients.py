"""Who may sign the certificates of clients, and which of these were revoked."""

from __future__ import annotations

import datetime
import re
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from harbor.certificates.pem import name_text, read_chain
from harbor.errors import Invalid
from harbor.model.certificate import DAY, Finding, Severity

_CRL: Final = re.compile(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\s*", re.DOTALL)
WARN_BEFORE: Final = 3 * DAY  # seconds; authorities publish lists daily or weekly, some days before the last one ends
_BROKEN: Final = (ValueError, TypeError, UnsupportedAlgorithm)


def check_clients(ca: str, crl: str | None, now: float) -> None:
    """Return if these texts (PEM) can decide about clients.

    Errors: ``Invalid`` (``tls_rules_invalid``) says what is wrong with them.
    """
    try:
        authorities = read_chain(ca.encode())
        for authority in authorities:
            _check_authority(authority)
    except Invalid as exc:
        raise _wrong(f"ca: {exc.message}") from exc
    except _BROKEN as exc:
        raise _wrong("ca: a certificate breaks the rules of X.509; issue it anew") from exc
    if crl is not None:
        _check_revoked(crl, authorities, now)


def _check_authority(authority: x509.Certificate) -> None:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        raise _wrong(f"{name_text(authority.subject)} is no authority; give the certificate that signs the clients'")


def _check_revoked(crl: str, authorities: tuple[x509.Certificate, ...], now: float) -> None:
    lists = _lists(crl)
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    for one in lists:
        issuer = name_text(one.issuer)
        if not any(_signed(one, authority) for authority in authorities):
            raise _wrong(f"crl: the list of {issuer} was signed by none of those in ca; give the list of one of them")
        if one.next_update_utc is not None and one.next_update_utc <= moment:
            raise _wrong(f"crl: the list of {issuer} ran out on {one.next_update_utc:%Y-%m-%d}; give the latest one")
    for authority in authorities:
        # OpenSSL refuses every client whose authority has no list.
        if not any(one.issuer == authority.subject for one in lists):
            raise _wrong(f"crl: there is no list of {name_text(authority.subject)}; give one for each of those in ca")


def _lists(crl: str) -> list[x509.CertificateRevocationList]:
    try:
        lists = [x509.load_pem_x509_crl(block.encode()) for block in _CRL.findall(crl)]
    except ValueError as exc:
        raise _wrong("crl: it cannot be understood; give the list as PEM") from exc
    if not lists:
        raise _wrong("crl: there is no '-----BEGIN X509 CRL-----' in it; give the list as PEM")
    return lists


def end_of_lists(crl: str) -> tuple[float, str] | None:
    """When the first of these lists runs out (Unix time), and whose it is; None if none ever does.

    Errors: ``Invalid`` (``tls_rules_invalid``).
    """
    ends = [(one.next_update_utc, name_text(one.issuer)) for one in _lists(crl)]
    return min(((end.timestamp(), issuer) for end, issuer in ends if end is not None), default=None)


def examine_lists(crl: str, now: float) -> tuple[Finding, ...]:
    """What is wrong with lists of revoked certificates, or will soon be; ``now`` is Unix time. Errors: ``Invalid``."""
    first = end_of_lists(crl)
    if first is None or first[0] - now > WARN_BEFORE:
        return ()
    end, issuer = first
    day = datetime.datetime.fromtimestamp(end, datetime.UTC)
    if end <= now:
        words = f"the list of what {issuer} has revoked ran out on {day:%Y-%m-%d %H:%M} UTC: every client whose "
        words += "certificate is of that authority is refused; give the latest list"
        return (Finding(Severity.ERROR, "crl_expired", words),)
    words = f"the list of what {issuer} has revoked runs out on {day:%Y-%m-%d %H:%M} UTC: from then on every client "
    words += "whose certificate is of that authority is refused; give the latest list"
    return (Finding(Severity.WARNING, "crl_expiring", words),)


def _signed(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return one.issuer == authority.subject and one.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, *_BROKEN):
        return False


def _wrong(why: str) -> Invalid:
    return Invalid(why, code="tls_rules_invalid")
