"""What the doctor finds, and what may be served after that."""

from __future__ import annotations

import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from harbor.certificates import Keep, accept, again, examine, make_self_signed, read_pair
from harbor.errors import HarborError, Invalid
from harbor.model.certificate import Severity
from support.needs import needs
from support.pairs import Made, make, rsa_key, shown_by

ROOT = make(subject="Test Root", is_ca=True)
MIDDLE = make(subject="Test Middle", is_ca=True, by=ROOT)
GOOD = make("shop.example", "*.shop.example", "192.0.2.1", by=MIDDLE)
EXPIRED = make("shop.example", days=-2)
EARLY = make("shop.example", begins=2)
OTHER = make("other.example")
PLAIN = serialization.NoEncryption()
AUTHORITY_ACCESS = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/m.crt")
        )
    ]
)


def refusal(tmp_path: Path, certificate: str, key: str) -> Invalid:
    """Why a pair is refused; nothing of it is kept."""
    keep = Keep(tmp_path)
    with pytest.raises(Invalid) as refused:
        accept(keep, certificate.encode(), key.encode(), ("shop.example",), time.time())
    assert not keep.directory.exists() or list(keep.directory.iterdir()) == []
    return refused.value


@pytest.mark.parametrize(
    "made",
    [
        GOOD,
        make("shop.example"),
        make("shop.example", secret=rsa_key(), by=MIDDLE),
        make("shop.example", secret=ec.generate_private_key(ec.SECP384R1())),
    ],
    ids=["chain", "self-signed", "rsa", "p384"],
)
def test_a_good_pair_is_kept_and_shown(tmp_path: Path, made: Made) -> None:
    accepted = accept(Keep(tmp_path), made.chain.encode(), made.key.encode(), ("shop.example",), time.time())
    assert accepted.findings == ()
    assert accepted.facts.fingerprint == made.fingerprint == shown_by(accepted.identity.file)
    assert "shop.example" in accepted.identity.names
    file = Path(accepted.identity.file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_combined_text_serves_as_both(tmp_path: Path) -> None:
    both = (GOOD.key + GOOD.chain).encode()
    assert accept(Keep(tmp_path), both, both, (), time.time()).facts.fingerprint == GOOD.fingerprint


BAD: dict[str, tuple[str, str, str, str]] = {
    "mismatch": (GOOD.chain, OTHER.key, "key_mismatch", "the key is not that of the certificate CN=shop.example"),
    "wrong order": (MIDDLE.own + GOOD.own, GOOD.key, "key_mismatch", "put that one first"),
    "expired": (EXPIRED.own, EXPIRED.key, "certificate_expired", "renew it"),
    "early": (EARLY.own, EARLY.key, "certificate_not_yet_valid", "check the node's clock"),
    "half written": (GOOD.own[: len(GOOD.own) // 2], GOOD.key, "certificate_invalid", "cut off"),
    "half a key": (GOOD.chain, GOOD.key[:100], "key_invalid", "cut off"),
    "empty": ("", GOOD.key, "certificate_invalid", "is empty"),
    "empty key": (GOOD.chain, "", "key_invalid", "is empty"),
    "10 MB": ("x" * 10_000_000, GOOD.key, "certificate_invalid", "more than 64 KiB"),
    "no PEM": ("hello", GOOD.key, "certificate_invalid", "give it as PEM"),
    "eleven": (GOOD.own * 11, GOOD.key, "certificate_invalid", "10 are the most"),
    "encrypted": (
        GOOD.chain, GOOD.encoded(serialization.BestAvailableEncryption(b"secret")), "key_encrypted", "openssl pkey",
    ),
    "encrypted as of old": (
        GOOD.chain,
        GOOD.encoded(
            serialization.BestAvailableEncryption(b"secret"), serialization.PrivateFormat.TraditionalOpenSSL
        ),
        "key_encrypted",
        "openssl pkey",
    ),
    "chain out of order": (GOOD.own + ROOT.own + MIDDLE.own, GOOD.key, "chain_broken", "followed by the one"),
    "strangers": (GOOD.own + OTHER.own, GOOD.key, "chain_broken", "CN=shop.example was issued by CN=Test Middle"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_D12_a_bad_pair_is_refused_with_words(tmp_path: Path, what: str) -> None:
    certificate, key, code, words = BAD[what]
    refused = refusal(tmp_path, certificate, key)
    assert refused.code == code
    assert words in refused.message
    assert "PRIVATE KEY-----\nM" not in refused.message


def unfit(make_one: Callable[[], Made]) -> tuple[str, str]:
    made = make_one()
    finding = examine(read_pair(made.chain.encode(), made.key.encode()), ("shop.example",))[0]
    return finding.code, finding.message


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (lambda: make("shop.example", secret=rsa_key(1024)), "key_weak", "1024 bits"),
        (lambda: make("shop.example", secret=ec.generate_private_key(ec.SECP256K1())), "key_weak", "secp256k1"),
        (lambda: make("shop.example", by=ROOT, extensions=[AUTHORITY_ACCESS]), "chain_broken", "fullchain.pem"),
        (
            lambda: make("shop.example", extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]),
            "certificate_unfit",
            "serverAuth",
        ),
        (lambda: make(subject="shop.example"), "names_missing", "no subjectAltName"),
        (lambda: make("other.example"), "names_differ", "is for other.example"),
    ],
)
def test_D12_what_clients_would_refuse_is_found_before_them(made: Callable[[], Made], code: str, words: str) -> None:
    found, message = unfit(made)
    assert found == code
    assert words in message


def test_a_signature_with_sha1_is_found(tmp_path: Path) -> None:
    for name, text in {"ca.crt": ROOT.own, "ca.key": ROOT.key, "own.key": GOOD.key}.items():
        (tmp_path / name).write_text(text)
    asked = subprocess.run(
        [needs("openssl"), "req", "-new", "-key", "own.key", "-subj", "/CN=shop.example"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    signed = subprocess.run(
        [needs("openssl"), "x509", "-req", "-sha1", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "9"],
        cwd=tmp_path, check=True, capture_output=True, input=asked.stdout,
    )  # fmt: skip
    found = examine(read_pair(signed.stdout, GOOD.key.encode()))
    assert "is signed with SHA1" in found[0].message


def test_an_unknown_kind_of_key_is_refused_with_words(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, PLAIN
    )
    assert "neither RSA nor ECDSA" in refusal(tmp_path, GOOD.chain, key.decode()).message


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    refused = refusal(tmp_path, make("shop.example", days=-3, secret=rsa_key(1024)).own, GOOD.key)
    assert refused.code == "key_mismatch"
    assert "renew it" in refused.message


def test_a_name_of_a_wildcard_or_an_address_is_covered() -> None:
    pair = read_pair(GOOD.chain.encode(), GOOD.key.encode())
    for name in ("www.SHOP.example", "192.0.2.1", "shop.example."):
        assert examine(pair, (name,)) == ()
    assert [finding.severity for finding in examine(pair, ("192.0.2.9",))] == [Severity.WARNING]


def test_what_was_kept_is_there_again_and_damage_is_told(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    accepted = accept(keep, GOOD.chain.encode(), GOOD.key.encode(), (), time.time())
    assert again(keep, accepted.digest, (), time.time()) == accepted
    other = accept(keep, OTHER.chain.encode(), OTHER.key.encode(), (), time.time())
    Path(other.identity.file).replace(accepted.identity.file)
    with pytest.raises(Invalid, match="another certificate"):
        again(keep, accepted.digest, (), time.time())
    with pytest.raises(Invalid, match="there is no"):
        again(keep, other.digest, (), time.time())
    keep.sweep({other.digest})
    assert list(keep.directory.iterdir()) == []


def test_K06_what_is_kept_is_found_by_its_digest_only(tmp_path: Path) -> None:
    for digest in ("../../etc/passwd", "", "a" * 63, "A" * 64):
        with pytest.raises(ValueError, match="no digest"):
            Keep(tmp_path).path(digest)


def test_a_self_signed_one_has_the_names_of_the_node(tmp_path: Path) -> None:
    pair = make_self_signed(("ports.example", "192.0.2.1", "::1"), time.time())
    assert examine(pair, ("ports.example",)) == ()
    accepted = accept(Keep(tmp_path), pair.pem(), pair.pem(), (), time.time())
    assert accepted.facts.names == ("ports.example", "192.0.2.1", "::1")
    assert accepted.facts.key == "ECDSA P-256"
    assert 395 <= accepted.facts.days_left(time.time()) <= 397


@given(cut=st.integers(0, 3000), garbage=st.binary(max_size=50), where=st.integers(0, 2000), of_key=st.booleans())
def test_D12_no_text_does_more_than_be_refused(cut: int, garbage: bytes, where: int, of_key: bool) -> None:
    texts = [GOOD.chain.encode(), GOOD.key.encode()]
    texts[of_key] = (texts[of_key][:where] + garbage + texts[of_key][where:])[:cut]
    refused: HarborError | None = None
    try:
        examine(read_pair(texts[0], texts[1]), ("shop.example",))
    except HarborError as error:
        refused = error
    assert refused is None or refused.code in ("certificate_invalid", "key_invalid", "key_encrypted")
    assert GOOD.key[60:120] not in str(refused)


def test_D19_a_pair_shows_nothing_of_its_key() -> None:
    assert "key" not in repr(read_pair(GOOD.chain.encode(), GOOD.key.encode())).lower().replace("public", "")
