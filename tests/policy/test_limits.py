"""What a service asks of its clients, and what survives when its policy changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harbor.model import Drop, Policy, Reason
from harbor.policy.limits import Gate, Pace, gate_of, pace_of, source_of

HOSTS = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")


def policy(**overrides: Any) -> Policy:
    return Policy().with_overrides(overrides)


def gate(**overrides: Any) -> Gate[int]:
    made: Gate[int] | None = gate_of(policy(**overrides), None)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("::1", "192.0.2.1", False),
    ],
)
def test_J03_a_source_is_an_ipv4_address_or_a_64_of_ipv6(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same


def test_who_asks_nothing_has_no_gate_and_no_pace() -> None:
    assert gate_of(Policy(), None) is None
    assert pace_of(Policy(), None) is None


def test_who_is_denied_takes_nothing_of_the_rates() -> None:
    strict = gate(deny=["192.0.2.2"], sessions_per_second={"rate": 0.001, "burst": 1})
    assert strict.refuses("192.0.2.2", 1.0) is Reason.ACL_DENIED
    assert strict.refuses("192.0.2.1", 1.0) is None
    assert strict.refuses("192.0.2.1", 1.0) is Reason.LIMIT_RATE


def test_J03_a_source_that_comes_too_often_takes_nothing_from_the_others() -> None:
    fair = gate(
        sessions_per_second={"rate": 0.001, "burst": 3}, sessions_per_second_per_source={"rate": 0.001, "burst": 1}
    )
    assert [fair.refuses("192.0.2.1", 1.0) for _ in range(3)] == [None, Reason.LIMIT_RATE, Reason.LIMIT_RATE]
    assert fair.refuses("192.0.2.2", 1.0) is None
    assert fair.refuses("2001:db8::1", 1.0) is None
    assert fair.refuses("2001:db8:0:1::1", 1.0) is Reason.LIMIT_RATE  # the service's own


def test_without_a_burst_it_is_what_one_second_brings() -> None:
    assert sum(gate_passes(rate=2.5)) == 3
    assert sum(gate_passes(rate=0.1)) == 1


def gate_passes(**rate: float) -> list[bool]:
    limited = gate(sessions_per_second=rate)
    return [limited.refuses("192.0.2.1", 1.0) is None for _ in range(10)]


def test_rates_go_on_over_a_change_of_something_else_and_begin_anew_over_their_own() -> None:
    rate = {"rate": 0.001, "burst": 1}
    before = gate(sessions_per_second=rate, sessions_per_second_per_source=rate)
    assert before.refuses("192.0.2.1", 1.0) is None
    kept: Gate[int] | None = gate_of(policy(sessions_per_second=rate, deny=["198.51.100.0/24"]), before)
    assert kept is not None
    assert kept.refuses("192.0.2.9", 1.0) is Reason.LIMIT_RATE
    anew: Gate[int] | None = gate_of(policy(sessions_per_second={"rate": 0.001, "burst": 2}), before)
    assert anew is not None
    assert anew.refuses("192.0.2.9", 1.0) is None


def test_ten_thousand_networks_are_read_once_and_not_at_every_change() -> None:
    deny = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000)]
    before = gate(deny=deny)
    after: Gate[int] | None = gate_of(policy(deny=deny, max_sessions_per_source=1), before)
    assert after is not None
    assert after._access is before._access
    assert after.denies("10.39.15.1")


def test_datagrams_and_bytes_of_a_source_are_counted_apart() -> None:
    pace = pace_of(
        policy(
            packets_per_second_per_source={"rate": 0.001, "burst": 3},
            bytes_per_second_per_source={"rate": 1, "burst": 65_535},
        ),
        None,
    )
    assert pace is not None
    assert pace.refuses("192.0.2.1", 65_000, 1.0) is None
    assert pace.refuses("192.0.2.1", 600, 1.0) is Drop.LIMIT_BYTES
    assert pace.refuses("192.0.2.1", 500, 1.0) is None
    assert pace.refuses("192.0.2.1", 0, 1.0) is Drop.LIMIT_PACKETS
    assert pace.refuses("192.0.2.2", 65_507, 1.0) is None
    kept = Pace(policy(packets_per_second_per_source={"rate": 0.001, "burst": 3}), pace)
    assert kept.refuses("192.0.2.1", 0, 1.0) is Drop.LIMIT_PACKETS


class GateModel(RuleBasedStateMachine):
    """Sessions come and go, and the limit changes; the gate always knows how many each source has."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 2
        self.gate: Gate[int] | None = gate(max_sessions_per_source=self.limit)
        self.sessions: dict[int, str] = {}
        self.number = 0

    @rule(host=st.sampled_from(HOSTS))
    def begin(self, host: str) -> None:
        count = sum(source_of(other) == source_of(host) for other in self.sessions.values())
        refused = self.gate is not None and self.gate.refuses(host, 1.0) is Reason.LIMIT_SOURCE
        assert refused is (0 < self.limit <= count)
        if not refused:
            self.number += 1
            self.sessions[self.number] = host
            if self.gate is not None:
                self.gate.take_in(host, self.number)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions)))
        host = self.sessions.pop(session)
        if self.gate is not None:
            self.gate.let_go(host, session)
            self.gate.let_go(host, session)  # a place is freed once

    @rule(limit=st.integers(0, 3))
    def change(self, limit: int) -> None:
        self.limit = limit
        self.gate = gate_of(policy(max_sessions_per_source=limit), self.gate)
        if self.gate is not None and self.gate.counts:
            for session, host in self.sessions.items():
                self.gate.take_in(host, session)

    @invariant()
    def the_oldest_are_known(self) -> None:
        if self.gate is not None:
            for host in HOSTS:
                mine = [number for number, other in self.sessions.items() if source_of(other) == source_of(host)]
                assert self.gate.oldest(host) == sorted(mine)
            assert len(self.gate._by_source) == len({source_of(host) for host in self.sessions.values()})


TestGate = GateModel.TestCase
