"""Whatever could be read in two ways is refused, in whatever pieces it comes; whatever passes, passes the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.http_exchange import Exchange, bytewise, cut, relay
from support.smuggling import CASES, Case

cases = pytest.mark.parametrize("case", CASES, ids=str)


def judged(case: Case, pieces: list[bytes]) -> Exchange:
    """The exchange, which ended as the case wants it."""
    exchange = Exchange(relay(), pieces)
    if isinstance(case.wanted, int):
        assert exchange.status == case.wanted
        assert exchange.relay.is_over
        assert b"HTTP/1.1 %d " % case.wanted in exchange.returned
        assert b"Connection: close" in exchange.returned
        assert b"/hidden" not in exchange.forwarded
    else:
        assert exchange.refused is None
        assert exchange.relay.requests == len(case.wanted)
        assert not exchange.relay.waits_for_client
    return exchange


@cases
def test_F10_what_is_ambiguous_is_refused_and_what_is_not_passes(case: Case) -> None:
    judged(case, [case.sent])


@cases
def test_F10_byte_by_byte_it_is_the_same(case: Case) -> None:
    whole, pieces = judged(case, [case.sent]), judged(case, bytewise(case.sent))
    if not isinstance(case.wanted, int):
        assert pieces.forwarded == whole.forwarded
        assert pieces.returned == whole.returned


@given(case=st.sampled_from(CASES), places=st.lists(st.integers(0, 1 << 16), max_size=6))
def test_F10_in_any_pieces_it_is_the_same(case: Case, places: list[int]) -> None:
    whole, pieces = judged(case, [case.sent]), judged(case, cut(case.sent, places))
    if not isinstance(case.wanted, int):
        assert pieces.forwarded == whole.forwarded


def test_there_are_cases_of_every_class() -> None:
    assert len({str(case) for case in CASES}) == len(CASES) > 150
