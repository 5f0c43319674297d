"""Who may sign the certificates of clients: what cannot decide is refused with words."""

from __future__ import annotations

import time

import pytest

from harbor.certificates import check_clients, examine_lists
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


def test_a_list_that_runs_out_soon_or_has_is_told_of() -> None:
    assert examine_lists(revocations(CA, days=7), time.time()) == ()
    for days, code, words in ((2, "crl_expiring", "runs out on"), (-1, "crl_expired", "ran out on")):
        (finding,) = examine_lists(revocations(OTHER, days=7) + revocations(CA, days=days), time.time())
        assert finding.code == code
        assert f"what CN=Clients CA has revoked {words}" in finding.message
        assert "is refused" in finding.message
