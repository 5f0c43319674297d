"""Rotation: strict turns, that no news but their own change; full and tried backends are passed over."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harbor.model import Address
from harbor.policy.rotation import Rotation, Slot


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
