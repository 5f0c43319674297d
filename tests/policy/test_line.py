"""A line: in order, each exactly once, never longer than it may be."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harbor.policy.line import Line


class LineModel(RuleBasedStateMachine):
    """Against a list of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Line[int] = Line(3, 10.0)
        self.model: list[tuple[int, float]] = []
        self.now = 1000.0
        self.numbers = 0
        self.served: list[int] = []

    @rule()
    def join(self) -> None:
        self.numbers += 1
        admitted = self.line.join(self.numbers, self.now)
        assert admitted is (len(self.model) < self.line.size)
        if admitted:
            self.model.append((self.numbers, self.now))

    @precondition(lambda self: self.model)
    @rule()
    def serve(self) -> None:
        who = self.line.first()
        assert who == self.model.pop(0)[0]
        assert self.line.leave(who)
        assert not self.line.leave(who)  # once is all
        self.served.append(who)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(self.model))
        assert self.line.leave(who[0])
        self.model.remove(who)

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(size=st.integers(0, 5), timeout=st.sampled_from([1.0, 10.0]))
    def change(self, size: int, timeout: float) -> None:
        self.line.size, self.line.timeout = size, timeout

    @invariant()
    def agrees(self) -> None:
        assert len(self.line) == len(self.model)
        late = [who for who, since in self.model if self.now - since >= self.line.timeout]
        assert self.line.overdue(self.now) == late
        assert self.served == sorted(self.served)


TestLine = LineModel.TestCase


def test_nobody_is_first_in_an_empty_line() -> None:
    line: Line[str] = Line(1, 1.0)
    assert line.first() is None
    assert not line.leave("nobody")
