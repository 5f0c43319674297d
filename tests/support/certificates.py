"""Certificates for tests, made on the spot; no key outlives its test."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harbor.model.tls import Identity, TlsRules, TlsTerms

DAY: Final = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key. ``file`` holds both, ``certificate`` only the certificate, as PEM."""

    file: Path
    certificate: Path
    x509: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def identity(self) -> Identity:
        names = self.x509.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return Identity(
            str(self.file), tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))
        )


def issue(folder: Path, *names: str, by: Issued | None = None, is_ca: bool = False) -> Issued:
    """A certificate for these names, signed by ``by`` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.x509.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(key if by is None else by.key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    base = folder / f"{certificate.serial_number:x}"
    file, public = base.with_suffix(".pem"), base.with_suffix(".crt")
    file.write_bytes(secret + pem)
    file.chmod(0o600)
    public.write_bytes(pem)
    return Issued(file, public, certificate, key)


def terms(*issued: Issued, ca: Issued | None = None, **rules: object) -> TlsTerms:
    """What a listener needs to show these."""
    return TlsTerms(
        TlsRules(**rules),  # type: ignore[arg-type]
        tuple(one.identity() for one in issued),
        ca_file=None if ca is None else str(ca.certificate),
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
