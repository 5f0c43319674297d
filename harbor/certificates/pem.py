"""A certificate, its intermediates and its key, read from PEM. What is refused is told without a byte of the key."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from harbor.certificates.files import MOST_BYTES
from harbor.errors import Invalid
from harbor.model.certificate import Facts

MOST_IN_CHAIN: Final = 10  # certificates; what browsers follow
LONGEST_KEY: Final = 16 * 1024  # bytes; an RSA key of 8192 bits has 6.4 KiB, and a larger one would cost seconds
BEGIN_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
BEGIN_KEY: Final = b"PRIVATE KEY-----"
LONGEST_SUBJECT: Final = 256  # characters shown of a distinguished name

# The curves that clients know, and the names that people know.
CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_SHA256: Final = hashes.SHA256()

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key. ``chain`` has the service's own first, then those above it."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @property
    def digest(self) -> str:
        """Identifies the chain and, because a key fits one certificate only, the pair."""
        whole = hashlib.sha256()
        for certificate in self.chain:
            whole.update(certificate.fingerprint(_SHA256))
        return whole.hexdigest()

    def pem(self) -> bytes:
        """What OpenSSL loads: the key, not encrypted, and the chain."""
        secret = self.key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return secret + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    def facts(self) -> Facts:
        """What the certificate says. Errors: ``ValueError`` if it cannot be understood."""
        return facts_of(self.chain[0])


def read_pair(certificate: bytes, key: bytes) -> Pair:
    """The pair in these two texts, which may be the same one.

    Errors: ``Invalid`` (``certificate_invalid``, ``key_invalid``, ``key_encrypted``).
    """
    return Pair(read_chain(certificate), read_key(key))


def read_chain(text: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates in a PEM text. Errors: ``Invalid`` (``certificate_invalid``)."""
    if not text.strip():
        raise _no_certificate("the certificate is empty; give it as PEM")
    if len(text) > MOST_BYTES:
        raise _no_certificate(f"the certificate has more than {MOST_BYTES // 1024} KiB; give only it and its chain")
    count = text.count(BEGIN_CERTIFICATE)
    if count == 0:
        hint = "this is DER; openssl x509 -inform DER makes PEM of it" if text[:1] == b"\x30" else "give it as PEM"
        raise _no_certificate(f"there is no '{BEGIN_CERTIFICATE.decode()}' in the certificate: {hint}")
    if count > MOST_IN_CHAIN:
        raise _no_certificate(
            f"there are {count} certificates and {MOST_IN_CHAIN} are the most; give only the service's own and those "
            "between it and the root"
        )
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except ValueError as exc:
        raise _no_certificate(
            "the certificate cannot be understood: it is damaged, or was cut off; copy the whole file again"
        ) from exc


def read_key(text: bytes) -> PrivateKey:
    """The private key in a PEM text. Errors: ``Invalid`` (``key_invalid``, ``key_encrypted``)."""
    if not text.strip():
        raise _no_key("the key is empty; give it as PEM")
    if BEGIN_KEY not in text:
        raise _no_key("there is no '-----BEGIN PRIVATE KEY-----' in the key; give it as PEM")
    # Only the key's own block: the text may hold the certificates as well.
    start = max(text.rfind(b"-----BEGIN ", 0, text.index(BEGIN_KEY)), 0)
    end = text.find(BEGIN_KEY, text.index(BEGIN_KEY) + 1)
    block = text[start : end + len(BEGIN_KEY)] if end > 0 else text[start:]
    if len(block) > LONGEST_KEY:
        raise _no_key("the key is longer than any RSA or ECDSA key that clients accept; give one of 2048 to 8192 bits")
    if b"ENCRYPTED" in block:
        raise _encrypted()
    try:
        # Whether it is a good key is told by its size and by a handshake; testing primes takes minutes for a bad one.
        key = serialization.load_pem_private_key(block, None, unsafe_skip_rsa_key_validation=True)
    except TypeError as exc:
        raise _encrypted() from exc
    except (ValueError, UnsupportedAlgorithm):
        # Without the cause: it may quote what it could not read.
        raise _no_key(
            "the key cannot be understood: it is damaged, or was cut off; copy the whole file again"
        ) from None
    if not isinstance(key, PrivateKey):
        raise _no_key("the key is neither RSA nor ECDSA; browsers know no other, so get a certificate for one of these")
    return key


def facts_of(certificate: x509.Certificate) -> Facts:
    """What a certificate says. Errors: ``ValueError`` if it cannot be understood."""
    return Facts(
        subject=name_text(certificate.subject),
        issuer=name_text(certificate.issuer),
        names=names_of(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(_SHA256).hex(),
        key=key_text(certificate.public_key()),
    )


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its DNS names and addresses, as ``Identity`` has them. Errors: ``ValueError``."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    dns = [name.lower().removesuffix(".") for name in names.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress) if _is_address(address)]
    return tuple(dict.fromkeys([*dns, *addresses]))


def name_text(name: x509.Name) -> str:
    """A distinguished name as one line."""
    text = name.rfc4514_string() or "(empty)"
    return text if len(text) <= LONGEST_SUBJECT else text[: LONGEST_SUBJECT - 1] + "…"


def key_text(key: object) -> str:
    """Which kind of public key it is."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {CURVES.get(key.curve.name, key.curve.name)}"
    return "neither RSA nor ECDSA"


def _is_address(value: object) -> bool:
    return isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address)


def _no_certificate(why: str) -> Invalid:
    return Invalid(why, code="certificate_invalid")


def _no_key(why: str) -> Invalid:
    return Invalid(why, code="key_invalid")


def _encrypted() -> Invalid:
    return Invalid(
        "the key is encrypted, and a node starts without anybody who could type the passphrase; "
        "openssl pkey -in KEY -out PLAIN takes it off",
        code="key_encrypted",
    )
