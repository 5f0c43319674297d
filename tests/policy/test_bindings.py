"""Which apps are bound to which services, found from either side."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harbor.errors import NotFound, Refused
from harbor.model import Binding
from harbor.policy.bindings import Bindings


def binding(service: str = "s1", app: str = "web", number: str = "") -> Binding:
    return Binding(f"b-{service}-{app}{number}", service, app, 0.0, f"digest of {service} {app}{number}")


def test_a_binding_is_found_by_app_id_and_digest_and_then_no_more() -> None:
    bindings, one = Bindings(), binding()
    bindings.add(one)
    assert bindings.find("s1", "my-port", "web") is bindings.find("s1", "my-port", one.id) is one
    assert bindings.get(one.id) is bindings.with_digest(one.token_digest) is one
    bindings.remove(one)
    assert bindings.get(one.id) is bindings.with_digest(one.token_digest) is None
    assert bindings.of_service("s1") == []
    assert repr(bindings) == "<Bindings [0 of 0 apps to 0 services]>"


def test_a_binding_of_another_service_is_not_found_by_its_id() -> None:
    bindings, one = Bindings(), binding()
    bindings.add(one)
    with pytest.raises(NotFound, match="my-port is not bound to an app") as refusal:
        bindings.find("s2", "my-port", one.id)
    assert refusal.value.code == "binding_not_found"


def test_an_app_whose_name_is_the_id_of_another_binding_wins_by_its_name() -> None:
    bindings, one = Bindings(), binding()
    other = binding(app=one.id)
    bindings.add(one)
    bindings.add(other)
    assert bindings.find("s1", "my-port", one.id) is other


@pytest.mark.parametrize(("binding_id", "app"), [("new", "web"), ("b-s1-web", "other")])
def test_an_app_or_an_id_that_is_taken_is_refused(binding_id: str, app: str) -> None:
    bindings = Bindings()
    bindings.add(binding())
    with pytest.raises(Refused) as refusal:
        bindings.check(binding_id, "s1", "my-port", app)
    assert (refusal.value.code, refusal.value.status) == ("binding_exists", 409)
    bindings.check("new", "s2", "other-port", "web")


def test_an_app_that_is_bound_to_nothing_does_not_exist() -> None:
    with pytest.raises(NotFound, match="no app 'web'") as refusal:
        Bindings().of_app("web")
    assert refusal.value.code == "app_not_found"


class Kept(RuleBasedStateMachine):
    """Bindings, beside a plain set of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.bindings = Bindings()
        self.pairs: dict[tuple[str, str], Binding] = {}

    @rule(service=st.sampled_from("xyz"), app=st.sampled_from("abc"))
    def bind(self, service: str, app: str) -> None:
        if (service, app) in self.pairs:
            with pytest.raises(Refused):
                self.bindings.check("new", service, service, app)
        else:
            made = binding(service, app)
            self.bindings.check(made.id, service, service, app)
            self.bindings.add(made)
            self.pairs[service, app] = made

    @rule(service=st.sampled_from("xyz"), app=st.sampled_from("abc"))
    def unbind(self, service: str, app: str) -> None:
        if (service, app) in self.pairs:
            self.bindings.remove(self.bindings.find(service, service, app))
            del self.pairs[service, app]
        else:
            with pytest.raises(NotFound):
                self.bindings.find(service, service, app)

    @invariant()
    def it_is_the_same_from_every_side(self) -> None:
        for service in "xyz":
            assert [one.app for one in self.bindings.of_service(service)] == sorted(
                app for where, app in self.pairs if where == service
            )
        for app in "abc":
            assert sorted(self.bindings.services_of(app)) == sorted(where for where, who in self.pairs if who == app)


TestKept = Kept.TestCase
