"""Certificates that the node makes itself, so that a service has one from its first second on."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harbor.certificates.pem import Pair

LIFETIME: Final = datetime.timedelta(
    days=397
)  # browsers refuse more than 398, even of one that they were told to trust
BACKDATED: Final = datetime.timedelta(hours=1)  # clients whose clocks are behind
LONGEST_COMMON_NAME: Final = 64  # characters (RFC 5280)


def make_self_signed(names: Sequence[str], now: float) -> Pair:
    """A new ECDSA P-256 certificate for these DNS names and addresses; valid from ``now`` (Unix time)."""
    key = ec.generate_private_key(ec.SECP256R1())
    moment = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Harbor, self-signed"),
            x509.NameAttribute(NameOID.COMMON_NAME, names[0][:LONGEST_COMMON_NAME]),
        ]
    )
    signing = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=moment - BACKDATED,
        not_valid_after=moment + LIFETIME - BACKDATED,
    )
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(signing, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair((certificate,), key)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
