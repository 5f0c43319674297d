"""The rules by which a service ends TLS are valid once built."""

from __future__ import annotations

from typing import Any

import pytest

from harbor.errors import Invalid
from harbor.model import Identity, TlsRules, TlsTerms, Verify

IDENTITY = Identity("one.pem", ("one.example",))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"min_version": "1.1"}, "min_version: '1.1' is none of 1.2, 1.3"),
        ({"alpn": ("http/1.1", "http/1.1")}, "alpn: give up to 8 different protocols"),
        ({"alpn": tuple("abcdefghi")}, "alpn: give up to 8 different protocols"),
        ({"alpn": ("",)}, "alpn: '' is no protocol"),
        ({"alpn": ("h\0",)}, r"alpn: 'h\\x00' is no protocol"),
        ({"alpn": ("x" * 256,)}, "is no protocol"),
    ],
)
def test_rules_that_cannot_be_are_refused_with_words(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        TlsRules(**rules)
    assert refused.value.code == "tls_rules_invalid"


def test_there_is_no_tls_without_a_certificate() -> None:
    with pytest.raises(ValueError, match="without a certificate"):
        TlsTerms(TlsRules(), ())


def test_clients_are_verified_against_somebody() -> None:
    rules = TlsRules(verify=Verify.REQUIRED)
    with pytest.raises(ValueError, match="who may sign"):
        TlsTerms(rules, (IDENTITY,))
    assert TlsTerms(rules, (IDENTITY,), ca_file="ca.pem").ca_file == "ca.pem"
