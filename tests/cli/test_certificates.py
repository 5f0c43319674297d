"""The commands for certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cli.conftest import Shell
from support.pairs import Made, make
from support.running_api import FIRST_PORT, running_api
from support.tls_services import put_tls_services

MIDDLE = make(subject="Middle", is_ca=True, by=make(subject="Root", is_ca=True))
GOOD = make("shop.example", "127.0.0.1", by=MIDDLE)


@pytest.fixture
async def tls_harbor(tmp_path: Path) -> AsyncIterator[Shell]:
    """Commands for a node that ends the TLS of shop."""
    await put_tls_services(tmp_path, range(FIRST_PORT, FIRST_PORT + 10), "shop")
    file = tmp_path / "harbor.yml"
    file.write_text(f"state_dir: {tmp_path}\n")
    async with running_api(tmp_path, extra=f"certs_dir: {tmp_path}/certs") as api:
        yield Shell(api, HARBOR_CONFIG=str(file))


def files(tmp_path: Path, made: Made = GOOD) -> tuple[str, str]:
    made.write(tmp_path, "given")
    return str(tmp_path / "given.crt"), str(tmp_path / "given.key")


async def test_a_certificate_is_uploaded_shown_and_forgotten(tls_harbor: Shell, tmp_path: Path) -> None:
    certificate, key = files(tmp_path)
    put = await tls_harbor("cert", "put", "shop", "--cert", certificate, "--key", key)
    assert (put.code, put.err) == (0, "")
    assert put.out == "shop shows CN=shop.example (shop.example, 127.0.0.1), 89 days left\n"
    shown = await tls_harbor("cert", "show", "shop")
    assert "uploaded" in shown.out
    assert f"sha256   {GOOD.fingerprint}" in shown.out
    listed = await tls_harbor("cert", "list")
    assert [line.split()[:2] for line in listed.out.splitlines()] == [["SERVICE", "SOURCE"], ["shop", "uploaded"]]
    assert (await tls_harbor("cert", "list", "--json")).json[0]["fingerprint"] == GOOD.fingerprint
    gone = await tls_harbor("cert", "delete", "shop")
    assert gone.out == "the certificate that was uploaded for shop is forgotten\n"
    assert "self_signed" in (await tls_harbor("cert", "show", "shop")).out


async def test_a_refused_upload_is_told_in_words(tls_harbor: Shell, tmp_path: Path) -> None:
    certificate, key = files(tmp_path, make("shop.example", days=-1))
    put = await tls_harbor("cert", "put", "shop", "--cert", certificate, "--key", key)
    assert put.code == 1
    assert put.err.startswith("harbor: CN=shop.example expired on ")
    assert put.err.endswith("UTC; renew it\n")


async def test_rules_are_set_and_reset(tls_harbor: Shell, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(make(subject="Clients", is_ca=True).own)
    options = ("--tls-min-version", "1.3", "--tls-verify", "required", "--tls-ca", str(authority))
    changed = await tls_harbor("update-service", "shop", *options, "--tls-alpn", "http/1.1")
    assert changed.code == 0, changed.err
    assert changed.out.startswith("changed shop: tls_min_version 1.3, tls_alpn http/1.1, tls_verify required, tls_ca ")
    back = await tls_harbor(
        "update-service", "shop", "--reset", "tls_verify", "--reset", "tls_ca", "--idle-timeout", "9"
    )
    assert back.out == "changed shop: idle_timeout 9, tls_verify none, tls_ca none\n"
    refused = await tls_harbor("update-service", "shop", "--tls-verify", "required")
    assert refused.code == 1
    assert "give ca" in refused.err


async def test_D12_check_says_what_is_wrong_without_a_node(alone: Shell, tmp_path: Path) -> None:
    certificate, key = files(tmp_path)
    good = await alone("cert", "check", certificate, key)
    assert (good.code, good.err, good.out.splitlines()[-1]) == (0, "", "OK")
    only = await alone("cert", "check", certificate, "--name", "other.example")
    assert only.code == 0
    assert only.err.startswith("warning: the certificate is for shop.example, 127.0.0.1")
    for number, (text, secret, words) in enumerate(
        [
            (GOOD.own + "".join(MIDDLE.above), make("x").key, "error: the key is not that of the certificate"),
            (MIDDLE.own + GOOD.own, GOOD.key, "put that one first"),
            ("nothing", GOOD.key, "there is no '-----BEGIN CERTIFICATE-----'"),
            (GOOD.chain, GOOD.encoded(serialization.BestAvailableEncryption(b"x")), "error: the key is encrypted"),
        ]
    ):
        one, other = tmp_path / f"{number}.crt", tmp_path / f"{number}.key"
        one.write_text(text)
        other.write_text(secret)
        bad = await alone("cert", "check", str(one), str(other))
        assert bad.code == 1
        assert words in bad.err
        as_json = await alone("cert", "check", str(one), str(other), "--json")
        assert '"ok": false' in as_json.out
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x30\x82\xff")
    assert "is no PEM" in (await alone("cert", "check", str(binary))).err
