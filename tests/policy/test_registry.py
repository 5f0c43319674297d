"""The registry, story by story: what each method decides and which effects it returns."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harbor.errors import NotFound, Refused
from harbor.model import Address, Backend, Exposure, Policy, Protocol, Removal, Service, State
from harbor.model.health import CheckType, HealthCheck
from harbor.model.policy import Failback
from harbor.policy.effects import (
    AllDown,
    CheckChanged,
    Effect,
    Expired,
    Gone,
    Moved,
    Promoted,
    Registered,
    Release,
    RoutesChanged,
    Row,
    StateChanged,
)
from harbor.policy.registry import Registry

DRAIN = Policy(drain_timeout=30, removal=Removal.DRAIN)
CUT = Policy(removal=Removal.CUT)
KEEP = Policy(removal=Removal.KEEP)


def service(id: str = "s", name: str = "web", protocol: Protocol = Protocol.TCP) -> Service:
    return Service(id, name, protocol, 30_000, 4100, Exposure.PRIVATE)


def backend(id: str, port: int = 80, host: str = "10.0.0.1", **more: Any) -> Backend:
    return Backend(id, host, port, **more)


def registry(
    *ids: str, policy: Policy = DRAIN, protocol: Protocol = Protocol.TCP, ttl: float | None = None
) -> Registry:
    """A registry with service ``s`` and these backends, registered at 0."""
    made = Registry()
    made.add(service(protocol=protocol), policy)
    for id in ids:
        put(made, backend(id, ttl=ttl))
    return made


def put(target: Registry, wanted: Backend, now: float = 0.0, resolved: bool = True) -> Registered:
    """Plan and register, as the node does."""
    row = target.plan("s", wanted)
    address = Address(wanted.host, wanted.port) if resolved else None
    return target.register("s", wanted, None if row is None else row.position, address, now)


def queue(target: Registry) -> list[str]:
    return [view.id for view in target.backends("s", 0.0, 0.0, {})]


def states(target: Registry) -> dict[str, str]:
    return {view.id: view.state.value for view in target.backends("s", 0.0, 0.0, {})}


def up(target: Registry) -> list[str]:
    return [route.backend_id for route in target.routes("s") if route.up]


def without_words(effects: tuple[Effect, ...]) -> list[Effect]:
    return [dataclasses.replace(e, why="") if isinstance(e, StateChanged) else e for e in effects]


def changed(id: str, before: State | None, after: State) -> StateChanged:
    return StateChanged("s", id, before, after, "")


ROUTES = RoutesChanged("s")


# Services


def test_services_are_found_by_id_and_name_and_listed_by_name() -> None:
    made = Registry()
    made.add(service("2", "a"), CUT)
    made.add(service("1", "b"), DRAIN)
    assert made.find("2") is made.find("a")
    assert [one.name for one in made.services()] == ["a", "b"]
    assert made.policy("2") is CUT


@pytest.mark.parametrize("taken", [service("s", "other"), service("other", "web"), service("other", "s")])
def test_an_id_or_name_in_use_is_refused(taken: Service) -> None:
    made = registry()
    with pytest.raises(Refused) as refusal:
        made.add(taken, DRAIN)
    assert (refusal.value.code, refusal.value.status) == ("service_exists", 409)
    assert made.services() == [service()]


def test_a_replaced_service_keeps_its_backends_and_frees_its_name() -> None:
    made = registry("b1")
    made.replace(service(name="shop"), CUT, 0.0)
    assert (made.find("shop").id, queue(made), made.policy("s")) == ("s", ["b1"], CUT)
    made.add(service("t", "web"), DRAIN)
    with pytest.raises(Refused):
        made.replace(service("t", "shop"), DRAIN, 0.0)
    made.replace(service("t", "web"), KEEP, 0.0)
    assert made.policy("t") is KEEP


def test_a_removed_service_leaves_nothing() -> None:
    made = registry("b1", "b2", ttl=5)
    made.drain("s", "b1", 0.0)
    assert made.remove("s") == service()
    assert (repr(made), made.next_deadline(), made.draining()) == ("<Registry [0 services | 0 backends]>", None, [])
    made.add(service(), DRAIN)


def test_F07_what_is_not_found_is_named_and_escaped() -> None:
    made = registry()
    for ask in (made.find, made.remove, made.policy, made.routes, made.primary):
        with pytest.raises(NotFound, match=r"no service 'x\\x1b'") as refusal:
            ask("x\x1b")
        assert (refusal.value.code, refusal.value.status) == ("service_not_found", 404)
    for act in (made.deregister, made.drain):
        with pytest.raises(NotFound, match=r"service web has no backend 'x\\n'") as refusal:
            act("s", "x\n", 0.0)
        assert refusal.value.code == "backend_not_found"


# Registration


def test_a_new_backend_is_up_at_once_when_its_address_is_known() -> None:
    made = registry()
    done = put(made, backend("b1"))
    assert done.created
    assert not done.renewed
    assert without_words(done.effects) == [changed("b1", None, State.UP), ROUTES]
    assert made.known("s", "b1") == backend("b1")
    assert (made.known("s", "b2"), made.known("t", "b1")) == (None, None)


def test_a_new_backend_with_a_name_starts_until_the_name_is_resolved() -> None:
    made = registry()
    assert without_words(put(made, backend("b1", host="app.test"), resolved=False).effects) == [
        changed("b1", None, State.STARTING)
    ]
    put(made, backend("b2"))
    assert up(made) == ["b2"]
    effects = made.resolved("s", "b1", Address("10.0.0.9", 80), 1.0)
    assert without_words(effects) == [changed("b1", State.STARTING, State.UP), ROUTES]
    assert up(made) == ["b1", "b2"]  # in the order of registration


def test_a_name_with_another_address_changes_the_route_and_not_the_queue() -> None:
    made = registry("b1", "b2")
    assert made.resolved("s", "b1", Address("10.0.0.9", 80), 1.0) == (ROUTES,)
    assert made.resolved("s", "b1", Address("10.0.0.9", 80), 2.0) == ()
    assert [str(route.address) for route in made.routes("s")] == ["10.0.0.9:80", "10.0.0.1:80"]
    assert made.resolved("s", "nobody", Address("10.0.0.9", 80), 1.0) == ()


def test_H01_registering_again_is_a_heartbeat() -> None:
    made = registry("b1", "b2")
    assert made.plan("s", backend("b1")) is None
    done = put(made, backend("b1"), now=5.0)
    assert done == Registered(created=False, renewed=True, effects=())
    assert queue(made) == ["b1", "b2"]


def test_H01_a_new_port_is_a_new_instance_at_the_end_of_the_queue() -> None:
    made = registry("b1", "b2")
    assert made.plan("s", backend("b1", port=81)) == Row(3, backend("b1", port=81))
    done = put(made, backend("b1", port=81), now=5.0)
    assert not done.created
    assert not done.renewed
    assert without_words(done.effects) == [changed("b1", State.UP, State.UP), Release("s", "b1", 30), ROUTES]
    assert [str(route.address) for route in made.routes("s")] == ["10.0.0.1:80", "10.0.0.1:81"]


@pytest.mark.parametrize("other", [{"host": "10.0.0.2"}, {"instance": "2"}])
@pytest.mark.parametrize(("policy", "within"), [(CUT, 0.0), (KEEP, None)])
def test_the_sessions_of_a_replaced_instance_end_as_the_policy_says(
    other: dict[str, Any], policy: Policy, within: float | None
) -> None:
    made = registry("b1", policy=policy)
    assert Release("s", "b1", within) in put(made, backend("b1", **other)).effects


def test_H01_deregistering_again_changes_nothing() -> None:
    made = registry("b1")
    made.deregister("s", "b1", 0.0)
    assert made.deregister("s", "b1", 1.0) == ()
    made.replace(service(), CUT, 0.0)
    assert without_words(made.deregister("s", "b1", 2.0)) == [
        changed("b1", State.DRAINING, State.GONE),
        Release("s", "b1", 0.0),
        Gone("s", "b1"),
    ]


def test_a_heartbeat_does_not_bring_a_failed_backend_up() -> None:
    made = registry("b1", "b2", ttl=10)
    made.failed("s", "b1", "refused", 0.0)
    assert put(made, backend("b1", ttl=10), now=5.0).effects == ()
    assert up(made) == ["b2"]


def test_a_registration_without_a_lease_brings_a_failed_backend_back_at_the_end() -> None:
    made = registry("b1", "b2")
    made.failed("s", "b1", "refused", 0.0)
    done = put(made, backend("b1"), now=5.0)
    assert (done.created, done.renewed) == (False, True)
    assert without_words(done.effects) == [
        changed("b1", State.DOWN, State.UP),
        RoutesChanged("s"),
    ]
    assert up(made) == ["b2", "b1"]


def test_a_changed_ttl_is_a_renewal_that_has_to_be_saved() -> None:
    made = registry("b1", "b2", ttl=10)
    made.drain("s", "b1", 0.0)
    assert made.plan("s", backend("b1", ttl=20)) == Row(1, backend("b1", ttl=20), draining=True)
    assert made.plan("s", backend("b2", ttl=None)) == Row(2, backend("b2", ttl=None))
    assert put(made, backend("b2", ttl=20), now=5.0) == Registered(created=False, renewed=True, effects=())
    assert made.tick(24.9)[0] == Expired("s", "b1")
    assert put(made, backend("b2"), now=24.9).renewed
    assert made.tick(10_000.0) != ()
    assert up(made) == ["b2"]


def test_positions_only_grow_and_order_the_queue() -> None:
    made = registry("b1")
    planned = made.plan("s", backend("b2"))
    assert planned == Row(2, backend("b2"))
    put(made, backend("b3"))  # planned later, applied earlier
    late = made.register("s", backend("b2"), 2, Address("10.0.0.1", 80), 0.0)
    assert late.effects[1:] == (Moved("s", "b2", 4), ROUTES)
    assert queue(made) == ["b1", "b3", "b2"]
    made.register("s", backend("b4"), None, None, 0.0)
    assert made.row("s", "b4") == Row(5, backend("b4"))
    made.restore("s", 90, backend("b5"), None, False, 0.0)
    assert made.next_position() == 91


# Removal


def test_B05_a_deregistered_backend_drains_and_gets_nothing_new() -> None:
    made = registry("b1", "b2")
    effects = made.deregister("s", "b1", 100.0)
    assert without_words(effects) == [changed("b1", State.UP, State.DRAINING), Release("s", "b1", 30), ROUTES]
    assert (up(made), states(made)["b1"], made.draining()) == (["b2"], "draining", [("s", "b1")])
    assert (made.known("s", "b1"), made.row("s", "b1")) == (None, None)
    assert without_words(made.idle("s", "b1")) == [changed("b1", State.DRAINING, State.GONE), Gone("s", "b1")]
    assert (queue(made), made.draining(), made.next_deadline()) == (["b2"], [], None)


def test_B05_a_drain_ends_when_its_time_is_over() -> None:
    made = registry("b1")
    made.deregister("s", "b1", 100.0)
    assert made.next_deadline() == 130.0
    assert made.tick(129.9) == ()
    assert without_words(made.tick(130.0)) == [changed("b1", State.DRAINING, State.GONE), Gone("s", "b1")]
    with pytest.raises(NotFound):
        made.deregister("s", "b1", 131.0)


@pytest.mark.parametrize(("policy", "within"), [(CUT, 0.0), (KEEP, None)])
def test_B05_cut_and_keep_take_a_backend_out_at_once(policy: Policy, within: float | None) -> None:
    made = registry("b1", policy=policy)
    assert without_words(made.deregister("s", "b1", 0.0)) == [
        changed("b1", State.UP, State.GONE),
        Release("s", "b1", within),
        Gone("s", "b1"),
        ROUTES,
    ]
    assert queue(made) == []


def test_a_backend_that_never_had_an_address_does_not_drain() -> None:
    made = registry()
    put(made, backend("b1"), resolved=False)
    assert without_words(made.deregister("s", "b1", 0.0)) == [
        changed("b1", State.STARTING, State.GONE),
        Release("s", "b1", 30),
        Gone("s", "b1"),
    ]
    assert made.next_deadline() is None


def test_a_deregistered_backend_that_registers_again_is_new() -> None:
    made = registry("b1", "b2")
    made.deregister("s", "b1", 0.0)
    assert made.plan("s", backend("b1")) == Row(3, backend("b1"))
    done = put(made, backend("b1"), now=1.0)
    assert done.created
    assert without_words(done.effects) == [changed("b1", State.DRAINING, State.UP), ROUTES]
    assert (up(made), made.draining()) == (["b2", "b1"], [])
    assert made.tick(1000.0) == ()


def test_an_operator_drains_and_draining_twice_is_nothing() -> None:
    made = registry("b1", "b2")
    assert without_words(made.drain("s", "b1", 0.0)) == [
        changed("b1", State.UP, State.DRAINING),
        Release("s", "b1", 30, keeps_flows=True),
        ROUTES,
    ]
    assert made.drain("s", "b1", 1.0) == ()
    assert made.row("s", "b1") == Row(1, backend("b1"), draining=True)
    assert made.idle("s", "b2") == ()
    assert made.idle("s", "nobody") == ()


def test_a_drained_backend_without_a_lease_comes_back_when_it_registers() -> None:
    made = registry("b1", "b2")
    made.drain("s", "b1", 0.0)
    done = put(made, backend("b1"), now=1.0)
    assert not done.created
    assert without_words(done.effects) == [changed("b1", State.DRAINING, State.UP), ROUTES]
    assert up(made) == ["b2", "b1"]
    made.drain("s", "b1", 2.0)
    assert put(made, backend("b1", ttl=5), now=3.0).effects != ()


def test_a_drained_backend_that_gives_up_its_lease_comes_back() -> None:
    made = registry("b1", ttl=20)
    made.drain("s", "b1", 0.0)
    assert not put(made, backend("b1"), now=1.0).renewed
    assert (up(made), made.next_deadline()) == (["b1"], None)


def test_a_drained_backend_that_renews_its_lease_stays_drained() -> None:
    made = registry("b1", "b2", ttl=20)
    made.drain("s", "b1", 0.0)
    for now in (10.0, 20.0, 30.0, 40.0):
        assert put(made, backend("b1", ttl=20), now=now).renewed
        put(made, backend("b2", ttl=20), now=now)
        assert made.tick(now) == ()
        assert made.idle("s", "b1") == ()
    assert states(made) == {"b1": "draining", "b2": "up"}
    assert without_words(made.deregister("s", "b1", 41.0)) == [
        changed("b1", State.DRAINING, State.GONE),
        Gone("s", "b1"),
    ]


def test_a_drained_backend_that_left_goes_with_its_last_session() -> None:
    made = registry("b1", ttl=60)
    made.drain("s", "b1", 0.0)
    assert made.deregister("s", "b1", 1.0) == ()
    assert made.row("s", "b1") is None
    assert Gone("s", "b1") in made.idle("s", "b1")


def test_a_drained_backend_is_removed_by_cut_and_keep_without_a_longer_life_for_its_sessions() -> None:
    made = registry("b1", policy=KEEP)
    made.drain("s", "b1", 0.0)
    assert without_words(made.deregister("s", "b1", 1.0)) == [
        changed("b1", State.DRAINING, State.GONE),
        Gone("s", "b1"),
    ]


# Failure and return


def test_a_failed_backend_rests_and_is_tried_again() -> None:
    made = registry("b1", "b2")
    effects = made.failed("s", "b1", "connection refused", 100.0)
    assert effects == (
        StateChanged("s", "b1", State.UP, State.DOWN, "connection refused"),
        Moved("s", "b1", 3),
        ROUTES,
    )
    assert made.next_deadline() == 100.0 + 10.0
    assert made.failed("s", "b1", "timed out", 105.0) == ()
    assert made.tick(109.9) == ()
    assert without_words(made.tick(110.0)) == [changed("b1", State.DOWN, State.UP), ROUTES]
    assert made.row("s", "b1") == Row(3, backend("b1"))
    view = made.backends("s", 110.0, 1110.0, {"b1": 7})[1]
    assert (view.id, view.last_failure, view.since, view.active) == ("b1", "timed out", 1110.0, 7)


def test_a_backend_that_fails_goes_to_the_end_and_the_promoted_one_stays_first() -> None:
    made = registry("b1", "b2", "b3")
    made.failed("s", "b1", "refused", 0.0)
    assert list(states(made)) == ["b2", "b3", "b1"]
    made.failed("s", "b1", "refused", 1.0)
    put(made, backend("b4"))
    assert made.tick(10.0)[1] == Moved("s", "b1", 6)
    assert up(made) == ["b2", "b3", "b4", "b1"]


def test_with_failback_return_the_first_in_the_queue_takes_the_datagrams_back() -> None:
    made = registry("b1", "b2", policy=Policy(failback=Failback.RETURN), protocol=Protocol.UDP)
    assert made.failed("s", "b1", "refused", 0.0)[-1] == Promoted("s", "b1", "b2")
    assert list(states(made)) == ["b1", "b2"]
    assert made.tick(10.0)[-1] == Promoted("s", "b2", "b1")
    assert up(made) == ["b1", "b2"]


def test_late_news_of_backends_that_are_not_up_is_ignored() -> None:
    made = registry("b1")
    put(made, backend("b2"), resolved=False)
    made.deregister("s", "b1", 0.0)
    for service_id, backend_id in [("s", "b1"), ("s", "b2"), ("s", "nobody"), ("t", "b1")]:
        assert made.failed(service_id, backend_id, "refused", 1.0) == ()
    assert states(made) == {"b1": "draining", "b2": "starting"}


def test_when_all_are_down_all_stay_routes() -> None:
    made = registry("b1", "b2", protocol=Protocol.UDP)
    assert made.failed("s", "b1", "refused", 0.0)[-1] == Promoted("s", "b1", "b2")
    assert made.failed("s", "b2", "refused", 1.0)[-1] == Promoted("s", "b2", "b1")
    assert made.failed("s", "b1", "refused", 2.0) == ()
    assert [(route.backend_id, route.up) for route in made.routes("s")] == [("b1", False), ("b2", False)]


# Leases


def test_C06_a_lease_that_runs_out_takes_the_backend_out_and_promotes_the_next() -> None:
    made = registry("b1", protocol=Protocol.BOTH, ttl=10)
    put(made, backend("b2"))
    assert made.next_deadline() == 10.0
    assert without_words(made.tick(10.0)) == [
        Expired("s", "b1"),
        changed("b1", State.UP, State.DRAINING),
        Release("s", "b1", 30),
        ROUTES,
        Promoted("s", "b1", "b2"),
    ]
    assert made.next_deadline() == 40.0


@pytest.mark.parametrize(("policy", "within"), [(CUT, 0.0), (KEEP, None)])
def test_a_lease_that_runs_out_is_treated_as_the_removal_policy_says(policy: Policy, within: float | None) -> None:
    made = registry("b1", policy=policy, ttl=10)
    made.failed("s", "b1", "refused", 0.0)
    assert without_words(made.tick(10.0)) == [
        Expired("s", "b1"),
        changed("b1", State.DOWN, State.GONE),
        Release("s", "b1", within),
        Gone("s", "b1"),
        ROUTES,
    ]


def test_the_lease_of_a_drained_backend_runs_out_after_its_drain() -> None:
    made = registry("b1", ttl=60)
    made.drain("s", "b1", 0.0)
    assert made.tick(30.0) == ()
    assert made.next_deadline() == 60.0
    assert without_words(made.tick(60.0)) == [
        Expired("s", "b1"),
        changed("b1", State.DRAINING, State.GONE),
        Gone("s", "b1"),
    ]


def test_H02_one_lost_heartbeat_is_no_flap() -> None:
    made = registry("b1", ttl=25)  # renewed every 10 s: two may be lost
    for now in (10.0, 30.0, 50.0, 60.0):
        assert made.tick(now) == ()
        assert put(made, backend("b1", ttl=25), now=now) == Registered(created=False, renewed=True, effects=())
    assert made.next_deadline() == 85.0
    assert made.backends("s", 61.0, 0.0, {})[0].expires_in == 24.0


def test_H02_after_a_restart_a_lease_gets_one_fresh_ttl() -> None:
    made = registry()
    made.restore("s", 7, backend("b1", ttl=20), Address("10.0.0.1", 80), False, 1000.0)
    made.restore("s", 3, backend("b2", host="app.test"), None, False, 1000.0)
    made.restore("s", 5, backend("b3"), Address("10.0.0.1", 80), True, 1000.0)
    assert (queue(made), up(made)) == (["b2", "b3", "b1"], ["b1"])
    assert states(made) == {"b2": "starting", "b3": "draining", "b1": "up"}
    assert made.next_deadline() == 1020.0
    assert made.next_position() == 8
    assert Gone("s", "b3") in made.idle("s", "b3")


# The primary


def test_C07_a_primary_that_returns_joins_the_end() -> None:
    made = registry("b1", "b2", protocol=Protocol.UDP)
    assert made.primary("s") == "b1"
    assert Promoted("s", "b1", "b2") in made.failed("s", "b1", "refused", 0.0)
    assert not [effect for effect in made.tick(10.0) if isinstance(effect, Promoted)]
    assert (made.primary("s"), up(made)) == ("b2", ["b2", "b1"])


def test_the_first_primary_is_not_promoted_and_the_next_after_a_gap_is() -> None:
    made = registry(protocol=Protocol.UDP, policy=CUT)
    assert not [effect for effect in put(made, backend("b1")).effects if isinstance(effect, Promoted)]
    assert not [effect for effect in made.deregister("s", "b1", 0.0) if isinstance(effect, Promoted)]
    assert made.primary("s") is None
    assert put(made, backend("b2")).effects[-1] == Promoted("s", None, "b2")


def test_a_tcp_service_promotes_nobody() -> None:
    made = registry("b1", "b2")
    assert ROUTES in (effects := made.drain("s", "b1", 0.0))
    assert not [effect for effect in effects if isinstance(effect, Promoted)]


def test_the_registry_shows_itself() -> None:
    made = registry("b1", "b2", "b3")
    made.add(service("t", "shop"), DRAIN)
    made.failed("s", "b1", "refused", 0.0)
    made.drain("s", "b3", 0.0)
    assert repr(made) == "<Registry [2 services | 3 backends: 1 up, 1 down, 1 draining]>"


# Health checks

CHECK = HealthCheck(CheckType.TCP, rise=2, fall=2)
CHECKED = Policy(drain_timeout=30, health=CHECK)
AT = Address("10.0.0.1", 80)


def watch(id: str) -> CheckChanged:
    return CheckChanged("s", id)


def passes(target: Registry, *ids: str, now: float = 1.0) -> None:
    for id in ids:
        target.checked("s", id, None, now)


def test_B04_a_checked_backend_starts_and_is_up_once_it_has_passed_a_check() -> None:
    made = registry(policy=CHECKED)
    registered = put(made, backend("b1"))
    assert without_words(registered.effects) == [changed("b1", None, State.STARTING), watch("b1")]
    assert made.check_of("s", "b1") == (CHECK, AT)
    assert made.checks() == [("s", "b1")]
    assert (made.routes("s"), made.primary("s"), made.all_down("s")) == ((), None, False)
    assert made.checked("s", "b1", None, 1.0) == (
        StateChanged("s", "b1", State.STARTING, State.UP, "it passes its checks"),
        ROUTES,
    )
    assert made.checked("s", "b1", None, 2.0) == ()


def test_who_starts_keeps_its_place_however_late_it_passes() -> None:
    made = registry("b1", "b2", policy=CHECKED, protocol=Protocol.UDP)
    passes(made, "b2")
    assert made.primary("s") == "b2"
    assert Promoted("s", "b2", "b1") in made.checked("s", "b1", None, 2.0)


def test_B04_who_fails_checks_goes_to_the_end_and_no_time_brings_it_back() -> None:
    made = registry("b1", "b2", policy=CHECKED)
    passes(made, "b1", "b2")
    assert made.checked("s", "b1", "no answer", 2.0) == ()
    assert made.checked("s", "b1", "status 500", 3.0) == (
        StateChanged("s", "b1", State.UP, State.DOWN, "status 500"),
        Moved("s", "b1", 3),
        ROUTES,
    )
    assert made.next_deadline() is None
    assert made.backends("s", 3.0, 3.0, {})[1].last_failure == "status 500"
    assert made.checked("s", "b1", None, 4.0) == ()
    assert without_words(made.checked("s", "b1", None, 5.0)) == [changed("b1", State.DOWN, State.UP), ROUTES]


def test_a_failed_dial_takes_down_what_is_checked_and_a_registration_does_not_bring_it_back() -> None:
    made = registry("b1", policy=CHECKED)
    passes(made, "b1")
    assert made.failed("s", "b1", "refused", 2.0)
    assert put(made, backend("b1"), now=3.0).effects == ()
    assert states(made) == {"b1": "down"}


def test_B04_in_its_start_period_failures_do_not_count_and_later_they_open_it_to_traffic() -> None:
    patient = dataclasses.replace(CHECK, start_period=30)
    made = registry("b1", policy=Policy(health=patient))
    for now in (1.0, 10.0, 29.0):
        assert made.checked("s", "b1", "refused", now) == ()
    assert made.checked("s", "b1", "refused", 30.0) == ()
    assert without_words(made.checked("s", "b1", "refused", 31.0)) == [
        changed("b1", State.STARTING, State.DOWN),
        ROUTES,
        AllDown("s"),
    ]
    assert made.routes("s")[0].up is False


def test_that_all_are_down_is_said_once_until_one_is_up_again() -> None:
    made = registry("b1", "b2", policy=CHECKED)
    passes(made, "b1", "b2")
    assert AllDown("s") not in made.failed("s", "b1", "refused", 2.0)
    assert AllDown("s") in made.failed("s", "b2", "refused", 2.0)
    made.deregister("s", "b1", 3.0)
    assert made.all_down("s")
    passes(made, "b2", "b2", now=4.0)
    assert not made.all_down("s")
    assert AllDown("s") in made.failed("s", "b2", "refused", 5.0)
    made.deregister("s", "b2", 6.0)
    assert not made.all_down("s")  # there is nobody left to be down


def test_who_leaves_drains_or_has_no_address_is_not_checked() -> None:
    made = registry("b1", "b2", policy=CHECKED)
    put(made, backend("b3", host="app.test"), resolved=False)
    assert made.check_of("s", "b3") is None
    assert watch("b3") in made.resolved("s", "b3", AT, 1.0)
    assert states(made)["b3"] == "starting"
    assert watch("b1") in made.deregister("s", "b1", 2.0)
    assert watch("b2") in made.drain("s", "b2", 2.0)
    assert made.checks() == [("s", "b3")]
    assert [made.checked("s", id, None, 3.0) for id in ("b1", "b2", "nobody")] == [()] * 3
    assert made.checked("nowhere", "b1", None, 3.0) == ()


def test_a_new_instance_under_an_old_id_is_checked_anew() -> None:
    made = registry("b1", policy=CHECKED)
    passes(made, "b1")
    effects = put(made, backend("b1", instance="2"), now=2.0).effects
    assert watch("b1") in effects
    assert states(made) == {"b1": "starting"}
    unresolved = put(made, backend("b1", host="app.test"), now=3.0, resolved=False).effects
    assert watch("b1") in unresolved
    assert made.check_of("s", "b1") is None


def test_H09_another_address_of_the_same_name_is_checked_and_begins_its_rows_anew() -> None:
    made = registry(policy=CHECKED)
    put(made, backend("b1", host="app.test"), resolved=False)
    made.resolved("s", "b1", AT, 1.0)
    passes(made, "b1")
    assert made.checked("s", "b1", "refused", 2.0) == ()
    assert made.resolved("s", "b1", Address("10.0.0.9", 80), 3.0) == (watch("b1"), ROUTES)
    assert made.checked("s", "b1", "refused", 4.0) == ()
    assert made.checked("s", "b1", "refused", 5.0) != ()


def test_checks_that_are_switched_on_or_changed_leave_states_alone() -> None:
    made = registry("b1", "b2")
    made.failed("s", "b1", "refused", 0.0)
    assert made.replace(service(), CHECKED, 1.0) == (watch("b2"), watch("b1"))
    assert states(made) == {"b2": "up", "b1": "down"}
    assert made.next_deadline() is None
    made.checked("s", "b2", "refused", 2.0)
    other = Policy(health=dataclasses.replace(CHECK, interval=1.0))
    assert made.replace(service(), other, 3.0) == (watch("b2"), watch("b1"))
    assert made.checked("s", "b2", "refused", 4.0) == ()  # the row began anew
    assert made.replace(service(), dataclasses.replace(other, max_sessions=7), 5.0) == ()


def test_checks_that_are_switched_off_leave_all_up() -> None:
    made = registry("b1", "b2", "b3", policy=CHECKED)
    passes(made, "b1", "b2")
    made.failed("s", "b1", "refused", 2.0)
    made.drain("s", "b2", 2.0)
    assert without_words(made.replace(service(), DRAIN, 3.0)) == [
        changed("b3", State.STARTING, State.UP),
        watch("b3"),
        changed("b1", State.DOWN, State.UP),
        watch("b1"),
        ROUTES,
    ]
    assert states(made) == {"b2": "draining", "b3": "up", "b1": "up"}


def test_what_is_put_back_is_up_until_its_first_check() -> None:
    made = registry(policy=CHECKED)
    for number, id in enumerate(("b1", "b2")):
        made.restore("s", number, backend(id), AT, False, 1000.0)
    assert states(made) == {"b1": "up", "b2": "up"}
    assert made.checks() == [("s", "b1"), ("s", "b2")]
    assert made.checked("s", "b1", "refused", 1001.0) != ()
    passes(made, "b2", now=1001.0)
    assert made.checked("s", "b2", "refused", 1002.0) == ()
