"""Which certificate a client gets by the name it asks for, whatever it sends as a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.model import Identity
from harbor.policy.sni import choose

FIRST = Identity("first.pem", ("shop.example.com", "192.0.2.1", "2001:db8::1"))
SECOND = Identity("second.pem", ("*.example.com", "xn--bcher-kva.example", "shop.example.com"))
THIRD = Identity("third.pem", ("*.shop.example.com", "*.0.2.1", "*", "localhost"))
ALL = (FIRST, SECOND, THIRD)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("shop.example.com", FIRST),  # exact, and the first that has it
        ("SHOP.Example.COM", FIRST),
        ("shop.example.com.", FIRST),
        ("api.example.com", SECOND),
        ("API.example.com.", SECOND),
        ("a.shop.example.com", THIRD),
        ("a.b.example.com", None),  # a wildcard is one label
        ("example.com", None),
        (".example.com", None),
        ("shop.example.com..", None),
        ("xn--bcher-kva.example", SECOND),
        ("bücher.example", None),  # on the wire it is xn--bcher-kva.example
        ("\u212aiosk.example.com", None),  # lower() would make the Kelvin sign a k
        ("192.0.2.1", FIRST),
        ("198.0.2.1", None),  # a wildcard is no part of an address
        ("2001:db8::1", FIRST),
        ("::ffff:198.0.2.1", None),
        ("*.example.com", None),  # a client asks for a name, not for a pattern
        ("*", None),
        ("localhost", THIRD),
        ("shop.example.com\0.evil.example", None),
        ("\0.example.com", None),
        ("../../etc/passwd", None),
        ("a" * 241 + ".example.com", SECOND),
        ("a" * 243 + ".example.com", None),
        ("a" * 100_000, None),
        (".", None),
        ("", None),
        (None, None),
    ],
)
def test_D02_the_server_name_decides_which_certificate(asked: str | None, found: Identity | None) -> None:
    assert choose(ALL, asked) is found


NAMES = st.one_of(st.none(), st.text(max_size=400), st.text(alphabet="a.*A\0:1-\ud800", max_size=300))


@given(asked=NAMES, names=st.lists(st.lists(st.text(alphabet="a.*1", max_size=6), max_size=4), max_size=4))
def test_D02_any_name_has_one_answer(asked: str | None, names: list[list[str]]) -> None:
    identities = [Identity(f"{number}.pem", tuple(those)) for number, those in enumerate(names)]
    found = choose(identities, asked)
    assert found is choose(tuple(identities), asked)
    if asked is None or found is None:
        return
    wanted = asked.lower().removesuffix(".")
    assert wanted in found.names or f"*.{wanted.partition('.')[2]}" in found.names
    exact = [one for one in identities if wanted in one.names]
    assert not exact or found is exact[0]


@given(st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20}){2,4}", fullmatch=True))
def test_D02_case_and_a_trailing_dot_change_nothing(name: str) -> None:
    identities = (Identity("a.pem", (f"*.{name.partition('.')[2]}",)), Identity("b.pem", (name,)))
    assert {choose(identities, asked) for asked in (name, name.upper(), f"{name}.", name.title())} == {identities[1]}
