"""Of many events about one thing the first are told, and how many were not."""

from __future__ import annotations

from harbor.policy.restraint import MOST, WINDOW, Restraint


def test_B07_the_first_of_a_minute_are_told_and_the_next_one_says_how_many_were_not() -> None:
    restraint: Restraint[str] = Restraint()
    assert [restraint.ask("a", 1.0) for _ in range(MOST + 3)] == [0] * MOST + [None] * 3
    assert restraint.ask("b", 1.0) == 0
    assert restraint.ask("a", 1.0 + WINDOW) == 3
    assert restraint.ask("a", 1.0 + WINDOW) == 0


def test_what_is_no_more_begins_anew() -> None:
    restraint: Restraint[str] = Restraint()
    for _ in range(MOST + 1):
        restraint.ask("a", 1.0)
    restraint.forget("a")
    restraint.forget("b")
    assert restraint.ask("a", 1.0) == 0
