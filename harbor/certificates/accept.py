"""From two texts to a certificate that can be served: read, examined, kept, and tried."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from harbor.certificates.doctor import examine
from harbor.certificates.files import read_in
from harbor.certificates.handshake import try_handshake
from harbor.certificates.keep import Keep
from harbor.certificates.pem import Pair, read_pair
from harbor.errors import Invalid
from harbor.model import Identity
from harbor.model.certificate import Facts, Finding, Severity


@dataclass(frozen=True, slots=True)
class Accepted:
    """A certificate that is kept and may be served. ``findings`` are no errors."""

    digest: str
    identity: Identity
    facts: Facts
    findings: tuple[Finding, ...] = ()


def accept(keep: Keep, certificate: bytes, key: bytes, wanted: Iterable[str], now: float) -> Accepted:
    """Stage a pair. Blocks for milliseconds.

    Errors: ``Invalid`` with the code of the first thing that is wrong, and all of them in words; ``StoreFailed``.
    """
    return accept_pair(keep, read_pair(certificate, key), wanted, now)


def accept_pair(keep: Keep, pair: Pair, wanted: Iterable[str], now: float) -> Accepted:
    """The same for a pair that was read already."""
    findings = examine(pair, wanted, now)
    wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
    if wrong:
        raise Invalid("; ".join(finding.message for finding in wrong), code=wrong[0].code)
    tried = keep.has(pair.digest)  # a file that is kept has passed
    digest = keep.put(pair)
    if not tried:
        try:
            try_handshake(str(keep.path(digest)), pair.chain[0].public_bytes(Encoding.DER))
        except BaseException:
            keep.drop(digest)
            raise
    return _accepted(keep, pair, findings)


def accept_files(
    keep: Keep, directory: Path, stem: str, there: Container[str], wanted: Iterable[str], now: float
) -> Accepted | None:
    """The same for ``<stem>.crt`` and ``<stem>.key``; None if neither is ``there``. Errors: also ``file_unfit``."""
    certificate, key = f"{stem}.crt", f"{stem}.key"
    found = [name for name in (certificate, key) if name in there]
    if not found:
        return None
    if len(found) == 1:
        missing = key if found == [certificate] else certificate
        raise Invalid(f"there is {found[0]} but no {missing}; put both there", code="file_unfit")
    return accept(keep, read_in(directory, certificate), read_in(directory, key, secret=True), wanted, now)


def again(keep: Keep, digest: str, wanted: Iterable[str], now: float) -> Accepted:
    """What was accepted before, as it stands now: it may have expired. Errors: ``Invalid`` if it is lost."""
    pair = keep.get(digest)
    if pair.digest != digest:
        raise Invalid("its file holds another certificate", code="certificate_invalid")
    return _accepted(keep, pair, examine(pair, wanted, now))


def _accepted(keep: Keep, pair: Pair, findings: tuple[Finding, ...]) -> Accepted:
    facts = pair.facts()
    return Accepted(pair.digest, Identity(str(keep.path(pair.digest)), facts.names), facts, findings)
