from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.api.broker.names import candidates, clean, first_free
from harbor.errors import Refused
from harbor.policy.naming import NAME


@given(st.text(max_size=300), st.sampled_from(["tcp", "key"]), st.text(min_size=1, max_size=50))
def test_every_candidate_is_a_name_and_no_two_are_the_same(wanted: str, otherwise: str, unique_id: str) -> None:
    names = list(candidates(wanted, otherwise, unique_id))
    assert all(NAME.fullmatch(name) for name in names)
    assert len(set(names)) == len(names) >= 3
    assert names == list(candidates(wanted, otherwise, unique_id))


@given(st.from_regex(NAME, fullmatch=True).filter(lambda name: name[-1] not in "._-"))
def test_a_name_stays_what_it_is(name: str) -> None:
    assert clean(name) == name
    assert next(candidates(name, "tcp", "i")) == name


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_other_ids_make_other_names(one: str, other: str) -> None:
    first, second = list(candidates("a", "tcp", one)), list(candidates("a", "tcp", other))
    assert (first[1:] == second[1:]) is (one == other)


async def test_an_attempt_is_repeated_only_while_the_name_is_taken() -> None:
    tried: list[str] = []

    async def attempt(name: str) -> None:
        tried.append(name)
        if name != "c":
            raise Refused(name, code="taken" if name != "x" else "other")

    await first_free(["a", "b", "c", "d"], attempt, "taken")
    assert tried == ["a", "b", "c"]
    with pytest.raises(Refused, match="x"):
        await first_free(["a", "x", "c"], attempt, "taken")
    with pytest.raises(Refused, match="b"):
        await first_free(["a", "b"], attempt, "taken")
