"""The registry under any sequence of events, watched by a node that knows only the effects."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harbor.model import Address, Backend, Exposure, Policy, Protocol, Removal, Service, State
from harbor.model.health import CheckType, HealthCheck
from harbor.policy.effects import (
    AllDown,
    CheckChanged,
    Expired,
    Gone,
    Moved,
    Promoted,
    Release,
    RoutesChanged,
    Row,
    StateChanged,
)
from harbor.policy.health import CALM, FLAP_WINDOW, MOST_PATIENCE
from harbor.policy.registry import Effects, Registry

IDS = ["a", "b", "c"]
ids = st.sampled_from(IDS)
picks = st.integers(0, 5)  # which of the present backends, modulo their number
SERVICE = Service("s", "web", Protocol.BOTH, 30_000, 4100, Exposure.PRIVATE)
ROUTED = (State.UP, State.DOWN)
CHECKS = [
    None,
    HealthCheck(CheckType.TCP, rise=2, fall=2),
    HealthCheck(CheckType.HTTP, rise=1, fall=1, start_period=6),
]
FAIL_TIMEOUT = 9.0


class RegistryMachine(RuleBasedStateMachine):
    """Keeps its own disk, states, routes, primary and drains, from effects alone, and compares. Whole seconds only."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.disk: dict[str, Row] = {}
        self.start(Policy(drain_timeout=20, fail_timeout=FAIL_TIMEOUT))

    def start(self, policy: Policy) -> None:
        self.policy = policy
        self.registry = Registry()
        self.registry.add(SERVICE, policy)
        self.states: dict[str, State] = {}
        self.checks: dict[str, object] = {}  # what the prober was told
        self.rows: dict[str, int] = dict.fromkeys(IDS, 0)  # checks in a row: passed are positive, failed negative
        self.downs: dict[str, list[float]] = {id: [] for id in IDS}  # within FLAP_WINDOW of the last
        self.unproven: set[str] = set()
        self.places: dict[str, Address | None] = {}
        self.all_down = False
        self.drains: dict[str, float] = {}
        self.routes = self.registry.routes("s")
        self.primary: str | None = None
        self.had_primary = False
        self.committing = False
        self.unsaved: list[str] = []

    def apply(self, effects: Effects, reborn: str | None = None, first_up: str | None = None) -> None:
        """Apply effects as a node would; ``reborn`` has a new life, ``first_up`` was resolved in its old place."""
        for effect in effects:
            match effect:
                case StateChanged(_, id, before, after, why):
                    assert why
                    assert self.states.get(id) == before
                    self.states[id] = after
                    self.drains.pop(id, None)
                    if after is State.DOWN:
                        self.downs[id] = [at for at in self.downs[id] if at > self.now - FLAP_WINDOW] + [self.now]
                        self.rows[id] = 0
                    if after is State.DRAINING:
                        self.drains[id] = self.now + self.policy.drain_timeout
                case Gone(_, id):
                    assert self.states.pop(id) is State.GONE
                    self.unsaved.append(id)
                case Moved(_, id, _):
                    assert self.states[id] in (State.UP, State.DOWN, State.STARTING)
                    self.unsaved.append(id)
                case Expired(_, id):
                    assert self.registry.row("s", id) is None
                    self.unsaved.append(id)
                case Release(_, _, within):
                    assert within in (0.0, None, 20.0)
                case CheckChanged(_, id):
                    told = self.registry.check_of("s", id)
                    assert told is not None or id in self.checks
                    self.checks.pop(id, None)
                    if told is not None:
                        self.checks[id] = told
                case RoutesChanged() | Promoted() | AllDown():
                    pass
        self.compare_routes(effects, reborn, first_up)
        if not self.committing:
            self.save(*self.unsaved)
            self.unsaved.clear()

    def present(self, pick: int) -> str:
        return sorted(self.states)[pick % len(self.states)]

    def save(self, *ids: str) -> None:
        for id in ids:
            row = self.registry.row("s", id)
            if row is None:
                self.disk.pop(id, None)
            else:
                self.disk[id] = row

    def compare_routes(self, effects: Effects, reborn: str | None, first_up: str | None) -> None:
        routes = self.registry.routes("s")
        assert (RoutesChanged("s") in effects) == (routes != self.routes)
        up = [route.backend_id for route in routes if route.up]
        was_down, self.all_down = self.all_down, self.registry.all_down("s")
        assert self.all_down == bool(routes and not up)
        assert (AllDown("s") in effects) == (self.all_down and not was_down)
        primary = next(iter(up or [route.backend_id for route in routes]), None)
        assert self.registry.primary("s") == primary
        was_up = [route.backend_id for route in self.routes if route.up]
        if self.primary in was_up and self.primary in up and self.primary != reborn and primary != first_up:
            assert primary == self.primary, "C07: whoever comes back joins the end"
        promotions = [effect for effect in effects if isinstance(effect, Promoted)]
        if primary in (None, self.primary) or not self.had_primary:
            assert promotions == []
        else:
            assert promotions == [Promoted("s", self.primary, primary)]
        self.routes, self.primary = routes, primary
        self.had_primary = self.had_primary or primary is not None

    @rule(
        id=ids,
        port=st.sampled_from([80, 80, 80, 81]),
        ttl=st.sampled_from([None, 8.0, 25.0]),
        resolved=st.booleans(),
        between=st.sampled_from([0, 0, 9]),
    )
    def register(self, id: str, port: int, ttl: float | None, resolved: bool, between: int) -> None:
        backend = Backend(id, "10.0.0.1", port, ttl)
        row = self.registry.plan("s", backend)
        if row is not None:  # while it is being saved time passes, and other rows wait for their turn
            self.committing = True
            self.time_passes(between)
            self.committing = False
            self.disk[id] = row
        known = self.registry.known("s", id)
        address = Address("10.0.0.1", port) if resolved else None
        before = self.states.get(id)
        done = self.registry.register("s", backend, None if row is None else row.position, address, self.now)
        assert done.created == (known is None)
        assert not (done.created and done.renewed)
        back = before is State.DOWN and ttl is None and self.policy.health is None
        assert bool(done.renewed and done.effects) == (done.renewed and back)
        if not done.renewed:
            self.begin_life(id, address)
        self.apply(done.effects, reborn=None if done.renewed else id)
        if not done.renewed:
            assert self.behind(id) == []

    def begin_life(self, id: str, place: Address | None) -> None:
        self.begin_row(id)
        self.downs[id], self.places[id] = [], place

    def begin_row(self, id: str) -> None:
        self.rows[id] = 0
        self.unproven.discard(id)

    def behind(self, id: str) -> list[str]:
        """The backends behind this one that are up."""
        order = [view.id for view in self.registry.backends("s", self.now, 0.0, {})]
        return [other for other in order[order.index(id) + 1 :] if self.states[other] is State.UP]

    @precondition(lambda self: self.states)
    @rule(pick=picks)
    def heartbeat(self, pick: int) -> None:
        id = self.present(pick)
        backend = self.registry.known("s", id)
        state = self.states.get(id)
        if backend is None or (state is State.DRAINING and backend.ttl is None):
            return
        assert self.registry.plan("s", backend) is None
        done = self.registry.register("s", backend, None, None, self.now)
        assert (done.created, done.renewed) == (False, True)
        assert bool(done.effects) == (state is State.DOWN and backend.ttl is None and self.policy.health is None)
        self.apply(done.effects)

    @precondition(lambda self: self.states)
    @rule(pick=picks)
    def deregister(self, pick: int) -> None:
        id = self.present(pick)
        self.disk.pop(id, None)
        self.apply(self.registry.deregister("s", id, self.now))

    @precondition(lambda self: self.states)
    @rule(pick=picks)
    def drain(self, pick: int) -> None:
        id = self.present(pick)
        self.apply(self.registry.drain("s", id, self.now))
        assert self.states[id] is State.DRAINING
        self.save(id)

    @precondition(lambda self: self.states)
    @rule(pick=picks)
    def fail(self, pick: int) -> None:
        id = self.present(pick)
        before = self.states[id]
        if before in ROUTED:
            self.rows[id] = min(self.rows[id], 0)
        self.apply(self.registry.failed("s", id, "connection refused", self.now))
        assert self.states[id] is (State.DOWN if before is State.UP else before)

    @precondition(lambda self: self.states)
    @rule(pick=picks, last=st.integers(1, 3))
    def resolve(self, pick: int, last: int) -> None:
        id = self.present(pick)
        before, place = self.states[id], Address(f"10.0.0.{last}", 80)
        effects = self.registry.resolved("s", id, place, self.now)
        if place != self.places[id]:
            self.places[id] = place
            self.begin_row(id)
        at_once = before is State.STARTING and self.policy.health is None
        self.apply(effects, first_up=id if at_once else None)
        assert self.states[id] is (State.UP if at_once else before)

    @precondition(lambda self: self.states)
    @rule(pick=picks, passes=st.booleans(), times=st.integers(1, 4))
    def check(self, pick: int, passes: bool, times: int) -> None:
        id = self.present(pick)
        for _ in range(times):
            before = self.states[id]
            wanted = self.verdict(id, before, passes)
            effects = self.registry.checked("s", id, None if passes else "no answer", self.now)
            self.apply(effects, first_up=id if before is State.STARTING else None)
            assert self.states[id] is wanted
            if wanted is before:
                assert effects == ()

    def verdict(self, id: str, state: State, passes: bool) -> State:
        """What a check has to make of a backend, and the row that it is the last of."""
        how, row = self.policy.health, self.rows[id]
        if how is None or self.places[id] is None or state is State.DRAINING:
            return state
        if passes:
            self.unproven.discard(id)
            self.rows[id] = row = max(row, 0) + 1
            needed = how.rise * min(MOST_PATIENCE, 2 ** max(0, len(self.downs[id]) - CALM))
            up = state is State.STARTING or (state is State.DOWN and row >= needed)
            return State.UP if up else state
        since = next(view.since for view in self.registry.backends("s", self.now, self.now, {}) if view.id == id)
        if state is State.STARTING and self.now - since < how.start_period:
            self.rows[id] = min(row, 0)
            return state
        self.rows[id] = row = min(row, 0) - 1
        down = state is not State.DOWN and (-row >= how.fall or id in self.unproven)
        return State.DOWN if down else state

    @precondition(lambda self: self.registry.draining())
    @rule(data=st.data())
    def last_session_ends(self, data: st.DataObject) -> None:
        _, id = data.draw(st.sampled_from(self.registry.draining()))
        backend = self.registry.known("s", id)
        self.apply(self.registry.idle("s", id))
        assert (id in self.states) == (backend is not None and backend.ttl is not None)

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.apply(self.registry.tick(self.now))
        self.drains = {id: end for id, end in self.drains.items() if end > self.now}
        deadline = self.registry.next_deadline()
        assert deadline is None or deadline > self.now

    @rule()
    def time_passes_until_something_is_due(self) -> None:
        deadline = self.registry.next_deadline()
        if deadline is not None:
            self.time_passes(max(0, int(deadline - self.now)))

    @rule(removal=st.sampled_from(Removal), health=st.sampled_from(CHECKS))
    def change_policy(self, removal: Removal, health: HealthCheck | None) -> None:
        before, states = self.policy, dict(self.states)
        self.policy = Policy(drain_timeout=20, fail_timeout=FAIL_TIMEOUT, removal=removal, health=health)
        effects = self.registry.replace(SERVICE, self.policy, self.now)
        if health != before.health:
            for id in self.states:
                self.begin_row(id)
            if health is None:
                known = {id for id in states if self.places[id] is not None and states[id] is not State.DRAINING}
                states |= dict.fromkeys(known, State.UP)
        order = [view.id for view in self.registry.backends("s", self.now, 0.0, {})]
        began = next((id for id in order if self.states[id] is State.STARTING), None)
        self.apply(effects, first_up=began)
        assert self.states == states

    @rule()
    def restart(self) -> None:
        self.start(self.policy)
        for row in self.disk.values():
            self.registry.restore("s", row.position, row.backend, Address("10.0.0.1", 80), row.draining, self.now)
            self.states[row.backend.id] = State.DRAINING if row.draining else State.UP
            self.places[row.backend.id] = Address("10.0.0.1", 80)
            self.unproven.add(row.backend.id)
        self.checks = {id: self.registry.check_of(service, id) for service, id in self.registry.checks()}
        self.routes, self.primary = self.registry.routes("s"), self.registry.primary("s")
        self.had_primary = self.primary is not None
        assert [route.backend_id for route in self.routes] == [
            row.backend.id for row in sorted(self.disk.values(), key=lambda row: row.position) if not row.draining
        ]

    @invariant()
    def the_disk_is_as_it_has_to_be(self) -> None:
        assert self.disk == {id: row for id in IDS if (row := self.registry.row("s", id)) is not None}
        assert len({row.position for row in self.disk.values()}) == len(self.disk)

    @invariant()
    def the_views_tell_the_same(self) -> None:
        views = self.registry.backends("s", self.now, self.now, {"a": 3})
        assert {view.id: view.state for view in views} == self.states
        assert all(view.active == (3 if view.id == "a" else 0) for view in views)
        assert [view.id for view in views if view.state in ROUTED] == [route.backend_id for route in self.routes]
        assert {id for _, id in self.registry.draining()} == {
            id for id, state in self.states.items() if state is State.DRAINING
        }
        leases = [self.now + view.expires_in for view in views if view.expires_in is not None]
        retried = self.policy.health is None
        retries = [view.since + FAIL_TIMEOUT for view in views if view.state is State.DOWN and retried]
        assert self.registry.next_deadline() == min([*leases, *retries, *self.drains.values()], default=None)

    @invariant()
    def who_checks_has_been_told(self) -> None:
        stay = {id for id, state in self.states.items() if state is not State.DRAINING}
        wanted = set() if self.policy.health is None else {id for id in stay if self.places[id] is not None}
        assert self.checks == {id: (self.policy.health, self.places[id]) for id in wanted}
        assert {id for _, id in self.registry.checks()} == wanted

    @invariant()
    def the_services_are_found(self) -> None:
        assert self.registry.services() == [self.registry.find("web")] == [self.registry.find("s")] == [SERVICE]
        assert self.registry.policy("s") == self.policy
        assert f"{len(self.states)} backends" in repr(self.registry)

    def teardown(self) -> None:
        assert self.registry.remove("s") == SERVICE
        assert (self.registry.draining(), self.registry.next_deadline()) == ([], None)


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
