"""Which measurement comes when, and how long is left."""

from __future__ import annotations

import pytest

from benchmarks.schedule import Remaining, Step, clock, steps


def test_peers_take_turns_in_every_row() -> None:
    planned = [(step.row, step.round, step.peer) for step in steps({"one": ["a", "b"], "two": ["a"]}, rounds=2)]
    assert planned == [
        ("one", 1, "a"),
        ("one", 1, "b"),
        ("one", 2, "a"),
        ("one", 2, "b"),
        ("two", 1, "a"),
        ("two", 2, "a"),
    ]


def test_a_row_without_peers_takes_no_step() -> None:
    assert list(steps({"one": []}, rounds=3)) == []


def test_what_is_left_is_what_was_expected_until_more_is_known() -> None:
    planned = list(steps({"one": ["a", "b"]}, rounds=2))
    remaining = Remaining(planned, {"one": 5.0})
    assert remaining.seconds() == 20
    remaining.done(Step("one", 1, "a"), 1.0)
    assert remaining.seconds() == 5 + 1 + 5
    remaining.done(Step("one", 1, "b"), 2.0)
    assert remaining.seconds() == 1 + 2


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (309, "5:09"), (3909, "1:05:09")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
