"""Who may sign the certificates of clients: what cannot decide is refused with words."""

from __future__ import annotations

import time

import pytest

from harbor.certificates import check_clients
from harbor.errors import Invalid
from support.pairs import make, revocations

CA = make(subject="Clients CA", is_ca=True)
OTHER = make(subject="Other CA", is_ca=True)
LEAF = make("x.example")


def test_an_authority_with_its_list_may_decide() -> None:
    check_clients(CA.own, None, time.time())
    check_clients(CA.own, revocations(CA, LEAF), time.time())
    check_clients(CA.own + OTHER.own, revocations(CA) + revocations(OTHER), time.time())


@pytest.mark.parametrize(
    ("ca", "crl", "words"),
    [
        ("", None, "ca: the certificate is empty"),
        (LEAF.own, None, "CN=x.example is no authority"),
        (CA.own, "hello", "crl: there is no"),
        (CA.own, revocations(OTHER), "signed by none of those in ca"),
        (CA.own, revocations(CA, days=-1), "ran out on"),
        (CA.own + OTHER.own, revocations(CA), "there is no list of CN=Other CA"),
        (CA.own, revocations(CA).replace("M", "!", 1), "crl: it cannot be understood"),
    ],
)
def test_what_cannot_decide_is_refused(ca: str, crl: str | None, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_clients(ca, crl, time.time())
    assert refused.value.code == "tls_rules_invalid"
    assert words in refused.value.message
