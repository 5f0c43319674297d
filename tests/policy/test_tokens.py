"""Tokens that are derived: always the same for a binding, never the same for another, recognised when revoked."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.tokens import LONGEST, Tokens, digest, is_token_of

TOKENS = Tokens(b"k" * 32)
ids = st.text(max_size=20)


@given(ids, ids, st.floats(0, 1e10))
def test_a_binding_has_one_token_which_can_be_made_again(binding: str, service: str, created: float) -> None:
    token = TOKENS.token(binding, service, created)
    assert token == Tokens(b"k" * 32).token(binding, service, created)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert len(token) <= LONGEST
    assert TOKENS.issued(token)
    assert is_token_of(token, digest(token))


@given(st.lists(st.tuples(ids, ids, st.integers(0, 3).map(float)), min_size=2, max_size=20, unique=True))
def test_no_two_bindings_share_a_token(bindings: list[tuple[str, str, float]]) -> None:
    assert len({TOKENS.token(*binding) for binding in bindings}) == len(bindings)


def test_K02_a_binding_that_is_made_again_has_another_token() -> None:
    assert TOKENS.token("b", "s", 1.0) != TOKENS.token("b", "s", 1.000001)


def test_another_key_makes_other_tokens() -> None:
    token = Tokens(b"x" * 32).token("b", "s", 1.0)
    assert token != TOKENS.token("b", "s", 1.0)
    assert not TOKENS.issued(token)
    assert not is_token_of(token, digest(TOKENS.token("b", "s", 1.0)))


@given(st.text() | st.text(alphabet=string.ascii_letters + "-_=").map("hb_".__add__))
def test_K02_no_text_that_was_not_issued_is_taken_for_one(text: str) -> None:
    assert not TOKENS.issued(text)


@pytest.mark.parametrize("change", ["hb_", "hb_AAAA", "", "hb_é", "hb_\udc80", "hb_" + "A" * 100_000])
def test_K02_what_is_no_token_is_none_at_once(change: str) -> None:
    assert not TOKENS.issued(change)
    assert not is_token_of(change, digest(TOKENS.token("b", "s", 1.0)))


def test_K02_one_changed_character_is_one_too_many() -> None:
    token = TOKENS.token("b", "s", 1.0)
    for index in range(3, len(token) - 1):  # of the last one, some bits carry nothing
        other = "A" if token[index] != "A" else "B"
        assert not TOKENS.issued(token[:index] + other + token[index + 1 :])


def test_K11_the_key_does_not_show_itself() -> None:
    assert repr(TOKENS) == "<Tokens>"
