"""Certificates with their keys as the texts that an administrator has, good ones and bad ones, made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY: Final = datetime.timedelta(days=1)
PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True)
class Made:
    """A certificate. ``chain`` is its PEM text followed by ``above``."""

    x509: x509.Certificate
    secret: Any
    above: str = ""

    @property
    def own(self) -> str:
        return self.x509.public_bytes(PEM).decode()

    @property
    def chain(self) -> str:
        return self.own + self.above

    @property
    def key(self) -> str:
        return self.encoded(serialization.NoEncryption())

    @property
    def fingerprint(self) -> str:
        return self.x509.fingerprint(hashes.SHA256()).hex()

    def encoded(self, encryption: Any, form: Any = serialization.PrivateFormat.PKCS8) -> str:
        text: bytes = self.secret.private_bytes(PEM, form, encryption)
        return text.decode()

    def write(self, directory: Path, name: str) -> None:
        """Put both into the directory as an administrator would who is careful: each under its name at once."""
        directory.mkdir(exist_ok=True)
        for suffix, text in ((".key", self.key), (".crt", self.chain)):
            draft = directory / f".{name}{suffix}"
            draft.touch(0o600)
            draft.write_text(text)
            draft.rename(directory / f"{name}{suffix}")


def make(
    *names: str,
    by: Made | None = None,
    secret: Any = None,
    days: float = 90,
    begins: float = -1,
    is_ca: bool = False,
    extensions: Sequence[x509.ExtensionType] = (),
    hashed: Any = None,
    subject: str | None = None,
) -> Made:
    """A certificate for these names, signed by ``by`` or by itself, that ends in ``days``."""
    own = secret or ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject or (names[0] if names else "nobody"))])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called if by is None else by.x509.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now + begins * DAY, now + (days - 1) * DAY))
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(own if by is None else by.secret, hashed or hashes.SHA256())
    return Made(signed, own, "" if by is None or by.x509.issuer == by.x509.subject else by.chain)


def authority() -> Made:
    """An authority as strict programs want it: with a use and an identifier for its key."""
    secret = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(secret.public_key())
    return make(subject="Test authority", is_ca=True, secret=secret, extensions=[identifier, _signing()])


def issued_by(by: Made, *names: str) -> Made:
    """A server's certificate as strict programs want it; ``by`` is an ``authority``."""
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.secret.public_key())
    return make(*names, by=by, extensions=[identifier, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])])


def _signing() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def revocations(by: Made, *revoked: Made, days: float = 7) -> str:
    """A list of what ``by`` has revoked, which runs out in ``days``."""
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder(by.x509.subject, now - 30 * DAY, now + days * DAY)
    for one in revoked:
        entry = x509.RevokedCertificateBuilder(one.x509.serial_number, now - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(by.secret, hashes.SHA256()).public_bytes(PEM).decode()


def shown_by(file: str, server_name: str = "x.test") -> str:
    """The SHA-256 fingerprint of what a server with this file shows."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server.load_cert_chain(file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there, server_hostname=server_name)
    answering = server.wrap_bio(there, back, server_side=True)
    for end in (asking, answering, asking, answering, asking):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).fingerprint(hashes.SHA256()).hex()


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
