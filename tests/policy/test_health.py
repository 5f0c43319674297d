"""When failures and checks take a backend down, and what it has to pass to be up again."""

from __future__ import annotations

import pytest

from harbor.model import Policy, State
from harbor.model.health import CheckType, HealthCheck
from harbor.policy.health import FLAP_WINDOW, MOST_PATIENCE, Standing

CHECK = HealthCheck(CheckType.TCP, rise=2, fall=3, start_period=30)
UP, DOWN, STARTING = State.UP, State.DOWN, State.STARTING


def passes_needed(standing: Standing) -> int:
    count = 1
    while not standing.passed(CHECK, DOWN):
        count += 1
    return count


def test_one_failed_dial_is_enough_unless_told() -> None:
    assert Standing().dial_failed(Policy(), UP, 0.0)


def test_so_many_dials_must_fail_within_so_many_seconds() -> None:
    policy, standing = Policy(max_fails=3, fail_timeout=10), Standing()
    times = (0.0, 6.0, 11.0, 16.0)
    assert [standing.dial_failed(policy, UP, at) for at in times] == [False, False, False, True]


def test_without_max_fails_dials_take_nobody_down() -> None:
    standing = Standing()
    assert not any(standing.dial_failed(Policy(max_fails=0), UP, 0.0) for _ in range(2000))


@pytest.mark.parametrize("state", [DOWN, STARTING])
def test_dials_take_down_only_what_is_up(state: State) -> None:
    assert not Standing().dial_failed(Policy(), state, 0.0)


def test_failed_checks_in_a_row_take_down_and_one_that_passes_begins_the_row_anew() -> None:
    standing = Standing()
    assert [standing.failed(CHECK, UP, 99.0) for _ in range(2)] == [False, False]
    assert not standing.passed(CHECK, UP)
    assert [standing.failed(CHECK, UP, 99.0) for _ in range(3)] == [False, False, True]


def test_passed_checks_in_a_row_bring_back_and_a_failure_of_either_kind_begins_the_row_anew() -> None:
    standing = Standing()
    standing.went_down(0.0)
    assert not standing.passed(CHECK, DOWN)
    assert not standing.failed(CHECK, DOWN, 1.0)
    assert not standing.passed(CHECK, DOWN)
    assert not standing.dial_failed(Policy(), DOWN, 2.0)
    assert not standing.passed(CHECK, DOWN)
    assert standing.passed(CHECK, DOWN)


def test_B04_who_starts_is_up_by_its_first_passed_check_and_may_fail_before() -> None:
    standing = Standing()
    assert not any(standing.failed(CHECK, STARTING, age) for age in (0.0, 10.0, 20.0, 29.9))
    assert [standing.failed(CHECK, STARTING, 30.0) for _ in range(3)] == [False, False, True]
    assert Standing().passed(CHECK, STARTING)


def test_who_was_only_taken_for_up_is_judged_by_its_first_check() -> None:
    assert Standing(proven=False).failed(CHECK, UP, 0.0)
    standing = Standing(proven=False)
    assert not standing.passed(CHECK, UP)
    assert not standing.failed(CHECK, UP, 0.0)


def test_B07_who_flaps_has_to_pass_more_each_time_and_who_is_calm_again_does_not() -> None:
    standing, now, needed = Standing(), 0.0, []
    for _ in range(7):
        standing.went_down(now)
        needed.append(passes_needed(standing))
        now += 5.0
    assert needed == [2, 2, 4, 8, 16, 2 * MOST_PATIENCE, 2 * MOST_PATIENCE]
    standing.went_down(now + FLAP_WINDOW)
    assert passes_needed(standing) == 2
