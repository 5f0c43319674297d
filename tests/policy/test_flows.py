"""The flow table: who gives way, who has gone idle, and three dicts that always agree."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harbor.policy.flows import Flow, Flows

TIMEOUT = 60.0


def table(*keys: str, now: float = 0.0) -> tuple[Flows[Flow], list[Flow]]:
    flows: Flows[Flow] = Flows()
    members = [Flow(key, now) for key in keys]
    for flow in members:
        flows.add(flow)
    return flows, members


def test_a_flow_is_found_by_its_key_until_it_is_removed() -> None:
    flows, (a, b) = table("a", "b")
    assert flows.find("a") is a
    assert list(flows) == [a, b]
    flows.remove(a)
    assert flows.find("a") is None
    assert len(flows) == 1


def test_a_key_is_taken_once() -> None:
    flows, _ = table("a")
    with pytest.raises(AssertionError):
        flows.add(Flow("a", 1.0))


def test_flows_may_be_removed_while_they_are_gone_through() -> None:
    flows, _ = table("a", "b", "c")
    for flow in flows:
        flows.remove(flow)
    assert len(flows) == 0
    assert flows.first_to_go() is None


def test_C08_the_oldest_that_was_never_answered_goes_first() -> None:
    flows, (a, b, c) = table("a", "b", "c")
    flows.answer(a)
    b.datagrams_in = 1000  # a flood of one's own does not help
    flows.sweep(1.0, TIMEOUT)
    assert flows.first_to_go() is b
    flows.remove(b)
    assert flows.first_to_go() is c
    assert flows.unanswered == 1
    assert repr(flows) == "<Flows 2: 1 answered, 1 not>"


def test_C08_of_answered_flows_the_one_that_was_silent_longest_goes_first() -> None:
    flows, (a, b, c) = table("a", "b", "c")
    for flow in (a, b, c):
        flows.answer(flow)
    a.datagrams_in += 1
    flows.sweep(1.0, TIMEOUT)
    assert flows.first_to_go() is b
    b.datagrams_out += 1
    flows.sweep(2.0, TIMEOUT)
    assert flows.first_to_go() is c


def test_C02_a_flow_is_idle_when_nothing_moved_for_the_timeout() -> None:
    flows, (a, b, c) = table("a", "b", "c", now=100.0)
    a.datagrams_in += 1
    b.datagrams_out += 1
    assert flows.sweep(159.9, TIMEOUT) == []
    assert flows.sweep(160.0, TIMEOUT) == [c]
    flows.remove(c)
    assert flows.sweep(219.8, TIMEOUT) == []
    assert flows.sweep(219.9, TIMEOUT) == [a, b]


class FlowsModel(RuleBasedStateMachine):
    """Against plain lists: the never answered in the order they came, the answered in the order they moved."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: Flows[Flow] = Flows()
        self.now = 0.0
        self.unanswered: list[Flow] = []
        self.answered: list[Flow] = []
        self.news: set[Flow] = set()
        self.moved_at: dict[Flow, float] = {}

    @property
    def all(self) -> list[Flow]:
        return [*self.unanswered, *self.answered]

    def a_flow(self, data: st.DataObject) -> Flow:
        return data.draw(st.sampled_from(sorted(self.all, key=lambda flow: str(flow.key))))

    @rule(key=st.integers(0, 15), capacity=st.integers(1, 6))
    def a_client_comes(self, key: int, capacity: int) -> None:
        if self.flows.find(key) is not None:
            return
        while len(self.flows) >= capacity:
            victim = self.flows.first_to_go()
            assert victim is self.all[0]
            self.forget(victim)
        flow = Flow(key, self.now)
        self.flows.add(flow)
        self.unanswered.append(flow)
        self.moved_at[flow] = self.now

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def its_backend_answers(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(self.unanswered))
        flow.datagrams_out += 1
        self.flows.answer(flow)
        self.unanswered.remove(flow)
        self.answered.append(flow)
        self.news.add(flow)

    @precondition(lambda self: self.all)
    @rule(data=st.data(), inward=st.booleans(), count=st.integers(1, 3))
    def datagrams_move(self, data: st.DataObject, inward: bool, count: int) -> None:
        flow = self.a_flow(data)
        if inward:
            flow.datagrams_in += count
        elif flow.answered:
            flow.datagrams_out += count
        else:
            return
        self.news.add(flow)

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def a_flow_ends(self, data: st.DataObject) -> None:
        self.forget(self.a_flow(data))

    @rule(seconds=st.floats(0, 2 * TIMEOUT))
    def time_passes_and_a_sweep_comes(self, seconds: float) -> None:
        self.now += seconds
        order = list(self.flows)
        idle = self.flows.sweep(self.now, TIMEOUT)
        for flow in order:
            if flow in self.news:
                self.moved_at[flow] = self.now
                if flow in self.answered:
                    self.answered.remove(flow)
                    self.answered.append(flow)
        self.news.clear()
        assert idle == [flow for flow in order if self.now - self.moved_at[flow] >= TIMEOUT]
        for flow in idle:
            self.forget(flow)

    def forget(self, flow: Flow) -> None:
        self.flows.remove(flow)
        (self.answered if flow in self.answered else self.unanswered).remove(flow)
        self.news.discard(flow)
        del self.moved_at[flow]

    @invariant()
    def the_three_dicts_agree(self) -> None:
        assert list(self.flows._unanswered) == self.unanswered
        assert list(self.flows._answered) == self.answered
        assert set(self.flows) == set(self.all)
        assert len(self.flows) == len(self.all)
        assert self.flows.unanswered == len(self.unanswered)
        assert all(self.flows.find(flow.key) is flow for flow in self.all)
        assert self.flows.first_to_go() is next(iter(self.all), None)


TestFlowsModel = FlowsModel.TestCase
