"""Rotation: strict turns, that no news but their own change; full and tried backends are passed over."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harbor.model import Address
from harbor.model.policy import Balance
from harbor.policy.rotation import LeastSessions, Rotation, Slot, SourceHash, rotation_for


def slots(count: int) -> list[Slot]:
    return [Slot(f"b{number}", Address("10.0.0.1", 8000 + number)) for number in range(1, count + 1)]


def over(*members: Slot) -> Rotation:
    rotation = Rotation()
    rotation.replace(members)
    return rotation


def turns(rotation: Rotation, count: int) -> list[str]:
    picked = [rotation.pick() for _ in range(count)]
    return [slot.backend_id for slot in picked if slot is not None]


def test_nobody_to_pick() -> None:
    assert Rotation().pick() is None
    assert len(Rotation()) == 0
    assert repr(Rotation()) == "<Rotation empty>"


@given(st.integers(1, 12), st.integers(0, 60))
def test_turns_are_strict_and_so_fair_to_one(count: int, picks: int) -> None:
    rotation = over(*slots(count))
    names = turns(rotation, picks)
    assert names == [f"b{number % count + 1}" for number in range(picks)]
    counts = Counter(names)
    assert max(counts.values(), default=0) - min((counts[f"b{n}"] for n in range(1, count + 1)), default=0) <= 1


def test_who_is_down_takes_no_turn() -> None:
    members = slots(3)
    members[1].up = False
    assert turns(over(*members), 4) == ["b1", "b3", "b1", "b3"]


def test_when_nobody_is_up_all_take_turns() -> None:
    members = slots(2)
    for slot in members:
        slot.up = False
    assert turns(over(*members), 3) == ["b1", "b2", "b1"]


def test_a_newcomer_does_not_take_the_turn_of_another() -> None:
    members = slots(3)
    rotation = over(*members[:2])
    assert turns(rotation, 1) == ["b1"]
    rotation.replace([members[2], *members[:2]])
    assert turns(rotation, 3) == ["b2", "b3", "b1"]


def test_the_turn_of_one_that_left_passes_to_the_next() -> None:
    members = slots(4)
    rotation = over(*members)
    assert turns(rotation, 1) == ["b1"]
    rotation.replace([members[0], members[2], members[3]])
    assert turns(rotation, 3) == ["b3", "b4", "b1"]
    assert repr(rotation) == "<Rotation b3 b4 b1>"


def test_when_all_are_new_the_first_begins() -> None:
    rotation = over(*slots(3))
    turns(rotation, 2)
    rotation.replace(slots(2))
    assert turns(rotation, 2) == ["b1", "b2"]


def test_a_slot_shows_what_it_is() -> None:
    slot = Slot("b1", Address("::1", 80), up=False)
    slot.active = 2
    assert repr(slot) == "<Slot b1 [::1]:80 down active=2>"


class RotationModel(RuleBasedStateMachine):
    """Against the simplest thing that could be right: a list whose head has the turn."""

    def __init__(self) -> None:
        super().__init__()
        self.rotation = Rotation()
        self.all = slots(8)
        self.listed: list[Slot] = []
        self.queue: list[Slot] = []  # whose turn it is, first

    @rule(members=st.lists(st.integers(0, 7), unique=True), down=st.sets(st.integers(0, 7)))
    def change(self, members: list[int], down: set[int]) -> None:
        self.listed = [self.all[number] for number in members]
        for number, slot in enumerate(self.all):
            slot.up = number not in down
        self.rotation.replace(self.listed)
        ring = [slot for slot in self.listed if slot.up] or self.listed
        turn = next((slot for slot in self.queue if slot in ring), ring[0] if ring else None)
        at = ring.index(turn) if turn is not None else 0
        self.queue = ring[at:] + ring[:at]

    @rule()
    def repeat_the_same_news(self) -> None:
        self.rotation.replace(self.listed)

    @rule(limit=st.integers(0, 2), tried=st.sets(st.integers(0, 7)))
    def pick(self, limit: int, tried: set[int]) -> None:
        passed_over = [self.all[number] for number in tried]
        got = self.rotation.pick(limit, passed_over)
        free = [slot for slot in self.queue if slot not in passed_over and (not limit or slot.active < limit)]
        assert got is (free[0] if free else None)
        if got is not None:
            got.active += 1
            at = self.queue.index(got) + 1
            self.queue = self.queue[at:] + self.queue[:at]

    @precondition(lambda self: any(slot.active for slot in self.all))
    @rule(data=st.data())
    def end_a_session(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([slot for slot in self.all if slot.active])).active -= 1

    @precondition(lambda self: self.queue)
    @rule(rounds=st.integers(1, 4))
    def rounds(self, rounds: int) -> None:
        picked = [self.rotation.pick() for _ in range(rounds * len(self.queue))]
        assert picked == list(itertools.islice(itertools.cycle(self.queue), len(picked)))

    @invariant()
    def the_ring_is_as_long_as_it_should_be(self) -> None:
        assert len(self.rotation) == len(self.queue)


TestRotationModel = RotationModel.TestCase


# Weights, slow start, and the other ways to choose.


def weighted(*weights: int) -> list[Slot]:
    members = slots(len(weights))
    for slot, weight in zip(members, weights, strict=True):
        slot.weight = float(weight)
    return members


def test_weights_share_the_turns_and_spread_them() -> None:
    assert turns(over(*weighted(5, 1, 1)), 7) == ["b1", "b1", "b2", "b1", "b3", "b1", "b1"]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 5))
def test_in_every_round_each_gets_its_weight(weights: list[int], rounds: int) -> None:
    names = turns(over(*weighted(*weights)), sum(weights) * rounds)
    assert Counter(names) == {f"b{number}": weight * rounds for number, weight in enumerate(weights, 1)}


def test_weights_that_are_all_the_same_change_nothing() -> None:
    assert turns(over(*weighted(7, 7, 7)), 4) == ["b1", "b2", "b3", "b1"]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.data())
def test_with_weights_full_and_tried_are_passed_over(weights: list[int], data: st.DataObject) -> None:
    members = weighted(*weights)
    rotation = over(*members)
    full = data.draw(st.sampled_from(members))
    tried = data.draw(st.sampled_from(members))
    full.active = 3
    picked = [rotation.pick(3, (tried,)) for _ in range(30)]
    assert full not in picked
    assert tried not in picked
    assert (None in picked) == ({full, tried} == set(members))


def test_who_has_just_come_up_gets_little_at_first_and_then_its_share() -> None:
    members = slots(2)
    members[0].since, members[1].since = -1000.0, 0.0
    rotation = Rotation(slow_start=100.0)
    rotation.replace(members)

    def share(now: float) -> float:
        picked = [rotation.pick(now=now) for _ in range(1000)]
        return picked.count(members[1]) / 1000

    assert 0.03 < share(0.0) < 0.06
    assert 0.30 < share(50.0) < 0.37
    assert share(100.0) == 0.5
    assert [slot.backend_id for slot in (rotation.pick(now=101.0), rotation.pick(now=101.0)) if slot] == ["b1", "b2"]


def test_when_all_have_just_come_up_they_share_alike() -> None:
    rotation = Rotation(slow_start=100.0)
    rotation.replace(slots(4))
    picked = Counter(slot.backend_id for slot in (rotation.pick(now=1.0) for _ in range(400)) if slot)
    assert set(picked.values()) == {100}


def test_the_fewest_sessions_for_the_weight_win_and_equals_take_turns() -> None:
    members = weighted(1, 1, 4)
    rotation = LeastSessions()
    rotation.replace(members)
    for _ in range(12):
        slot = rotation.pick()
        assert slot is not None
        slot.active += 1
    assert [slot.active for slot in members] == [2, 2, 8]
    members[0].active = 0
    assert rotation.pick() is members[0]
    equal = slots(3)
    rotation.replace(equal)
    assert turns(rotation, 4) == ["b1", "b2", "b3", "b1"]


def test_the_fewest_sessions_pass_over_full_and_tried() -> None:
    members = slots(3)
    rotation = LeastSessions()
    rotation.replace(members)
    members[0].active = members[1].active = 2
    assert rotation.pick(2, (members[2],)) is None
    assert rotation.pick(2) is members[2]
    rotation.replace([])
    assert rotation.pick() is None


CLIENTS = [f"10.{number >> 8}.{number & 255}.1" for number in range(3000)]


def homes(members: list[Slot]) -> dict[str, str]:
    rotation = SourceHash()
    rotation.replace(members)
    return {client: slot.backend_id for client in CLIENTS if (slot := rotation.pick(client=client)) is not None}


def test_a_client_comes_home_whatever_the_order_of_the_backends() -> None:
    members = slots(5)
    assert homes(members) == homes(members[::-1])


def test_a_backend_that_goes_moves_its_own_clients_only() -> None:
    members = slots(5)
    before = homes(members)
    members[2].up = False
    after = homes(members)
    assert {client for client in CLIENTS if before[client] != after[client]} == {
        client for client in CLIENTS if before[client] == "b3"
    }


def test_clients_are_spread_by_weight() -> None:
    counts = Counter(homes(weighted(1, 2, 3)).values())
    assert all(abs(counts[f"b{weight}"] - 500 * weight) < 120 for weight in (1, 2, 3))


def test_a_full_or_tried_home_gives_way_to_the_second_choice() -> None:
    members = slots(4)
    rotation = SourceHash()
    rotation.replace(members)
    first = rotation.pick(client="192.0.2.1")
    assert first is not None
    second = rotation.pick(0, (first,), client="192.0.2.1")
    first.active = 1
    assert rotation.pick(1, client="192.0.2.1") is second
    assert rotation.pick(1, members, client="192.0.2.1") is None


@pytest.mark.parametrize(
    ("balance", "kind"),
    [
        (Balance.ROUND_ROBIN, Rotation),
        (Balance.LEAST_SESSIONS, LeastSessions),
        (Balance.SOURCE_HASH, SourceHash),
    ],
)
def test_every_policy_has_its_way(balance: Balance, kind: type[Rotation]) -> None:
    made = rotation_for(balance, 5.0)
    made.replace(slots(2))
    assert type(made) is kind
    assert repr(made) == f"<{kind.__name__} b1 b2>"
