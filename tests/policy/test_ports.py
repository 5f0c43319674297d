"""Ports: never two owners, never offered while resting, pins refused with the reason."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from harbor.errors import Invalid, Refused
from harbor.policy.ports import FIRST_INTERNAL, HIGHEST, InternalPorts, Ports, beside, overlaps, parse_range, range_text

RNG = random.Random(1)


def test_candidates_are_every_free_port_once_in_random_order() -> None:
    ports = Ports([(100, 299), (500, 500)], reserved=[150, 9], quarantine=10)
    ports.lease(160)
    ports.rest(170, now=0.0)
    offered = list(ports.candidates(random.Random(7), now=5.0, avoid={180}))
    assert sorted(offered) == sorted({*range(100, 300), 500} - {150, 160, 170, 180})
    assert offered != sorted(offered)
    assert offered != list(ports.candidates(random.Random(8), now=5.0, avoid={180}))


def test_candidates_leave_out_what_is_leased_meanwhile() -> None:
    ports = Ports([(1, 100)])
    offered = []
    for port in ports.candidates(RNG, now=0.0):
        offered.append(port)
        for neighbour in (port, port ^ 1):
            if ports.is_free(neighbour, 0.0):
                ports.lease(neighbour)
    assert len({port // 2 for port in offered}) == len(offered)
    assert ports.free(0.0) == 0


def test_the_last_free_port_is_found() -> None:
    ports = Ports([(1, 60_000)])
    for port in range(1, 60_001):
        if port != 4242:
            ports.lease(port)
    assert list(ports.candidates(RNG, now=0.0)) == [4242]


def test_a_node_without_ranges_has_nothing_to_offer() -> None:
    ports = Ports([])
    assert list(ports.candidates(RNG, now=0.0)) == []
    assert (ports.total, ports.free(0.0), ports.next_deadline()) == (0, 0, None)
    with pytest.raises(Invalid, match="it has none"):
        ports.check_pin(80, now=0.0)


def test_G01_two_hundred_ask_for_fifty_ports() -> None:
    ports = Ports([(30_000, 30_049)])
    chosen, exhausted = [], 0
    for _ in range(200):
        port = next(ports.candidates(RNG, now=0.0), None)
        if port is None:
            exhausted += 1
        else:
            ports.lease(port)
            chosen.append(port)
    assert sorted(chosen) == list(range(30_000, 30_050))
    assert exhausted == 150


def test_G07_a_released_port_rests_before_it_is_offered_again() -> None:
    ports = Ports([(30_000, 30_000)], quarantine=60)
    ports.lease(30_000)
    ports.release(30_000, now=1000.0)
    assert list(ports.candidates(RNG, now=1059.9)) == []
    assert ports.resting(1010.0) == {30_000: 50.0}
    assert (ports.rested(1059.9), ports.next_deadline()) == ((), 1060.0)
    assert list(ports.candidates(RNG, now=1060.0)) == [30_000]
    assert (ports.rested(1060.0), ports.next_deadline()) == ((30_000,), None)


def test_G07_a_port_that_rested_when_the_node_stopped_rests_a_whole_quarantine_again() -> None:
    ports = Ports([(1, 10)], quarantine=60)
    ports.rest(5, now=0.0)
    ports.rest(6, now=10.0)
    ports.rest(5, now=20.0)
    assert ports.rested(75.0) == (6,)
    assert ports.resting(75.0) == {5: 5.0}


def test_a_withdrawn_lease_leaves_the_port_free_at_once() -> None:
    ports = Ports([(1, 1)])
    ports.lease(1)
    ports.withdraw(1)
    assert ports.check_pin(1, now=0.0) == 1


def test_G08_overlaps_are_the_parts_that_collide() -> None:
    ranges = [(30_000, 40_000), (50_000, 50_000), (61_000, 62_000)]
    assert overlaps(ranges, (32_768, 60_999)) == [(32_768, 40_000), (50_000, 50_000)]
    assert overlaps(ranges, (7070, 7070)) == []
    assert overlaps([(30_000, 32_767)], (32_768, 60_999)) == []


def test_G08_ranges_must_not_overlap_each_other() -> None:
    with pytest.raises(Invalid, match="ranges 1-5 and 5 overlap; merge them"):
        Ports([(5, 5), (1, 5)])
    assert Ports([(6, 9), (1, 5)]).total == 9


def test_G09_a_port_outside_the_shrunk_range_is_kept_but_not_offered_again() -> None:
    ports = Ports([(100, 101)], reserved=[101], quarantine=10)
    ports.adopt(999)
    ports.adopt(101)
    assert not ports.is_leasable(999)
    assert (ports.total, ports.free(0.0)) == (1, 1)
    ports.release(999, now=0.0)
    ports.release(101, now=0.0)
    assert ports.free(0.0) == 1
    assert ports.rested(10.0) == (999, 101)
    assert (ports.free(10.0), list(ports.candidates(RNG, now=10.0))) == (1, [100])
    with pytest.raises(Invalid):
        ports.check_pin(999, now=10.0)


def test_a_port_that_is_leased_again_after_its_rest_is_not_shown_as_resting() -> None:
    ports = Ports([(1, 2)], quarantine=10)
    ports.rest(1, now=0.0)
    ports.adopt(1)
    assert (ports.resting(5.0), ports.free(5.0)) == ({}, 1)
    assert ports.rested(10.0) == (1,)


@pytest.mark.parametrize(
    "port", [0, -1, 65_536, "80", 80.0, True, None, [80], pytest.param(10**5000, id="huge"), "\x1b[31m"]
)
def test_F12_what_is_no_port_is_invalid(port: object) -> None:
    with pytest.raises(Invalid) as refusal:
        Ports([(1, HIGHEST)]).check_pin(port, now=0.0)
    assert (refusal.value.code, refusal.value.status) == ("port_invalid", 400)
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("port", [22, 7070, 29_999, 30_101])
def test_F12_a_pin_outside_the_ranges_is_told_the_ranges(port: int) -> None:
    with pytest.raises(Invalid, match=r"outside this node's ranges \(30000-30100, 40000\)") as refusal:
        Ports([(40_000, 40_000), (30_000, 30_100)], reserved=[22]).check_pin(port, now=0.0)
    assert (refusal.value.code, refusal.value.status) == ("port_out_of_range", 400)


def test_F12_reserved_leased_and_resting_ports_are_conflicts() -> None:
    ports = Ports([(100, 110)], reserved=[100], quarantine=60)
    ports.lease(101)
    ports.rest(102, now=0.0)
    for port, code, words in [
        (100, "port_reserved", "reserved by this node"),
        (101, "port_leased", "leased to another service"),
        (102, "port_resting", "rests for another 31 s"),
    ]:
        with pytest.raises(Refused, match=words) as refusal:
            ports.check_pin(port, now=29.5)
        assert (refusal.value.code, refusal.value.status) == (code, 409)
    assert ports.check_pin(103, now=29.5) == 103
    assert ports.check_pin(102, now=60.0) == 102


def test_a_port_has_one_owner() -> None:
    ports = Ports([(100, 110)], reserved=[105])
    ports.lease(101)
    with pytest.raises(Refused, match="leased to another"):
        ports.lease(101)
    with pytest.raises(Refused, match="leased to another"):
        ports.adopt(101)
    for port in (99, 105):
        with pytest.raises(Refused, match="not one that this node leases"):
            ports.lease(port)


def test_ports_show_themselves() -> None:
    ports = Ports([(30_000, 32_767)], reserved=[80, 22])
    for port in (30_000, 30_001, 30_002):
        ports.lease(port)
    ports.rest(30_003, now=0.0)
    assert repr(ports) == "<Ports 3 leased, 1 resting of 2768>"
    assert ports.reserved == (22, 80)
    assert ports.ranges == ((30_000, 32_767),)


@pytest.mark.parametrize(
    ("text", "ports"), [("30000-32767", (30_000, 32_767)), ("1-65535", (1, 65_535)), ("80", (80, 80))]
)
def test_ranges_are_read(text: str, ports: tuple[int, int]) -> None:
    assert parse_range(text) == ports
    assert range_text(ports) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write it as"),
        ("a-b", "write it as"),
        ("1-2-3", "write it as"),
        ("-5", "write it as"),
        ("1 - 2", "write it as"),
        ("80\n", "write it as"),
        ("٣٠٠", "write it as"),
        ("0-10", "ports go from 1 to 65535"),
        ("60000-65536", "ports go from 1 to 65535"),
        ("20-10", "did you mean 10-20"),
    ],
)
def test_what_is_no_range_is_invalid(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refusal:
        parse_range(text)
    assert refusal.value.code == "range_invalid"


@given(
    st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)).map(sorted).map(tuple)),
    st.integers(1, 99),
    st.integers(1, 99),
)
def test_overlaps_agree_with_sets(ranges: list[tuple[int, int]], one: int, two: int) -> None:
    other = (min(one, two), max(one, two))
    for start, end in overlaps(ranges, other):
        assert other[0] <= start <= end <= other[1]
    covered = {port for start, end in overlaps(ranges, other) for port in range(start, end + 1)}
    wanted = {port for start, end in ranges for port in range(start, end + 1)}
    assert covered == wanted & set(range(other[0], other[1] + 1))


class PortsMachine(RuleBasedStateMachine):
    """Ports against three plain sets."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.ports = Ports([(10, 14), (20, 22)], reserved=[12, 90], quarantine=10)
        self.leasable = {10, 11, 13, 14, 20, 21, 22}
        self.leased: set[int] = set()
        self.resting: dict[int, float] = {}
        self.now = 0.0

    def free(self) -> set[int]:
        rest = {port for port, end in self.resting.items() if end > self.now}
        return self.leasable - self.leased - rest

    @precondition(lambda self: self.free())
    @rule(target=leases, seed=st.integers(0, 99), avoid=st.sets(st.integers(10, 22), max_size=3))
    def lease_a_candidate(self, seed: int, avoid: set[int]) -> int:
        offered = list(self.ports.candidates(random.Random(seed), self.now, avoid))
        assert len(offered) == len(set(offered))
        assert set(offered) == self.free() - avoid
        port = min(self.free())
        self.ports.lease(port)
        self.leased.add(port)
        return port

    @rule(target=leases, port=st.sampled_from([12, 30, 31]))
    def adopt(self, port: int) -> int:
        if port in self.leased:
            with pytest.raises(Refused):
                self.ports.adopt(port)
        else:
            self.ports.adopt(port)
            self.leased.add(port)
        return port

    @rule(port=consumes(leases), rests=st.booleans())
    def give_back(self, port: int, rests: bool) -> None:
        if port not in self.leased:
            return
        self.leased.remove(port)
        if rests:
            self.ports.release(port, self.now)
            self.resting[port] = self.now + 10
        else:
            self.ports.withdraw(port)

    @rule(port=st.integers(10, 22))
    def rest(self, port: int) -> None:
        self.ports.rest(port, self.now)
        self.resting[port] = self.now + 10

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wake(self) -> None:
        over = self.ports.rested(self.now)
        assert set(over) == {port for port, end in self.resting.items() if end <= self.now}
        self.resting = {port: end for port, end in self.resting.items() if port not in over}

    @rule(port=st.integers(-1, 100))
    def pin(self, port: int) -> None:
        if port in self.free():
            assert self.ports.check_pin(port, self.now) == port
        else:
            with pytest.raises((Invalid, Refused)):
                self.ports.check_pin(port, self.now)

    @invariant()
    def counts_agree(self) -> None:
        assert self.ports.free(self.now) == len(self.free())
        assert {port for port in range(100) if self.ports.is_free(port, self.now)} == self.free()
        assert set(self.ports.resting(self.now)) == {
            port for port, end in self.resting.items() if end > self.now and port not in self.leased
        }
        assert self.ports.next_deadline() == min(self.resting.values(), default=None)
        assert f"{len(self.leased)} leased" in repr(self.ports)


TestPortsMachine = PortsMachine.TestCase
TestPortsMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class InternalPortsMachine(RuleBasedStateMachine):
    """Internal ports against a plain set."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = InternalPorts()
        self.taken: set[int] = set()

    @rule()
    def take(self) -> None:
        lowest = next(number for number in range(FIRST_INTERNAL, HIGHEST) if number not in self.taken)
        assert self.numbers.take() == lowest
        self.taken.add(lowest)

    @rule(number=st.integers(FIRST_INTERNAL - 2, FIRST_INTERNAL + 12))
    def claim(self, number: int) -> None:
        if number in self.taken:
            with pytest.raises(Refused, match=f"{number} belongs to another"):
                self.numbers.claim(number)
        else:
            self.numbers.claim(number)
            self.taken.add(number)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.taken)))
        self.numbers.release(number)
        self.taken.remove(number)

    @invariant()
    def shows_itself(self) -> None:
        assert repr(self.numbers) == f"<InternalPorts {len(self.taken)} taken>"


TestInternalPortsMachine = InternalPortsMachine.TestCase
TestInternalPortsMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_internal_ports_run_out_with_a_word() -> None:
    numbers = InternalPorts()
    for number in range(FIRST_INTERNAL, HIGHEST + 1):
        assert numbers.take() == number
    with pytest.raises(Refused, match="all internal ports from 4100 are taken"):
        numbers.take()
    numbers.release(5000)
    assert numbers.take() == 5000


def test_an_internal_port_that_was_released_and_claimed_is_not_handed_out() -> None:
    numbers = InternalPorts()
    assert [numbers.take(), numbers.take()] == [4100, 4101]
    numbers.release(4100)
    numbers.claim(4100)
    numbers.claim(4102)
    assert numbers.take() == 4103


@given(st.lists(st.integers(1, 60), min_size=0, max_size=8, unique=True), st.integers(1, 60), st.integers(0, 59))
def test_beside_is_the_largest_gap_that_is_clear_of_all_ranges(edges: list[int], low: int, length: int) -> None:
    ordered = sorted(edges)[: len(edges) // 2 * 2]
    ranges = list(zip(ordered[::2], ordered[1::2], strict=True))
    local = (low, min(60, low + length))
    taken = {port for start, end in ranges for port in range(start, end + 1)}
    found = beside(ranges, local)
    runs = [0]
    for port in range(local[0], local[1] + 1):
        runs.append(0 if port in taken else runs[-1] + 1)
    if found is None:
        assert max(runs) == 0
    else:
        assert local[0] <= found[0] <= found[1] <= local[1]
        assert not taken & set(range(found[0], found[1] + 1))
        assert found[1] - found[0] + 1 == max(runs)
