"""What a bound app is told: exactly the names and shapes that apps of the first Harbor read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.errors import Refused
from harbor.model import Exposure, Protocol, Service, Tls
from harbor.policy.environment import Place, check_variables, credentials, environment, plan_of
from harbor.policy.naming import variable_for

INSIDE = Place("harbor_node_1", "10.0.0.5")
OUTSIDE = Place("harbor_node_1", "10.0.0.5", "harbor.internal", "203.0.113.5", "ports.example.com")


def service(name: str = "my-port", number: int = 0, exposure: Exposure = Exposure.PUBLIC, **more: str) -> Service:
    return Service(f"id-of-{name}", name, Protocol.TCP, 30_134 + number, 4100 + number, exposure, plan=more.get("plan"))


def told(*services: Service, place: Place = INSIDE) -> dict[str, str]:
    return environment((one, credentials(one, place)) for one in services)


def test_credentials_are_those_of_the_first_harbor() -> None:
    assert credentials(service(), OUTSIDE) == {
        "hostname": "harbor.internal",
        "host": "10.0.0.5",
        "port": 30134,
        "name": "id-of-my-port",
        "node_id": "harbor_node_1",
        "int_port": 4100,
        "ext_hostname": "ports.example.com",
        "ext_host": "203.0.113.5",
    }


def test_without_a_hostname_the_address_stands_there() -> None:
    assert credentials(service(), INSIDE)["hostname"] == "10.0.0.5"


@pytest.mark.parametrize(
    ("exposure", "place", "there"),
    [
        (Exposure.PRIVATE, OUTSIDE, set()),
        (Exposure.PUBLIC, INSIDE, set()),
        (Exposure.PUBLIC, Place("n", "10.0.0.5", ext_host="203.0.113.5"), {"ext_host"}),
        (Exposure.PUBLIC, Place("n", "10.0.0.5", ext_hostname="a.example"), {"ext_hostname"}),
        (Exposure.PUBLIC, OUTSIDE, {"ext_host", "ext_hostname"}),
    ],
)
def test_where_the_outside_reaches_it_is_told_or_absent(exposure: Exposure, place: Place, there: set[str]) -> None:
    found = credentials(service(exposure=exposure), place)
    assert {name for name in found if name.startswith("ext_")} == there
    assert None not in found.values()
    assert "" not in found.values()


def test_one_service_is_told_in_every_way() -> None:
    found = told(service(plan="tcp"))
    given = credentials(service(), INSIDE)
    assert json.loads(found.pop("STACKATO_SERVICES")) == {"my-port": given}
    assert json.loads(found.pop("VCAP_SERVICES")) == {
        "harbor-1.0": [{"name": "my-port", "label": "harbor-1.0", "plan": "tcp", "credentials": given}]
    }
    assert found == {"STACKATO_HARBOR": "4100", "STACKATO_HARBOR_MY_PORT": "4100"}


def test_of_two_services_each_has_its_variable_and_there_is_no_short_one() -> None:
    found = told(service("udp-port", 1), service("tcp.port", 2))
    assert {name: value for name, value in found.items() if "HARBOR" in name} == {
        "STACKATO_HARBOR_UDP_PORT": "4101",
        "STACKATO_HARBOR_TCP_PORT": "4102",
    }
    assert list(json.loads(found["STACKATO_SERVICES"])) == ["tcp.port", "udp-port"]
    assert [one["name"] for one in json.loads(found["VCAP_SERVICES"])["harbor-1.0"]] == ["tcp.port", "udp-port"]


@pytest.mark.parametrize(
    ("made", "plan"),
    [
        (Service("i", "n", Protocol.TCP, 1, 1, Exposure.PRIVATE), "tcp"),
        (Service("i", "n", Protocol.UDP, 1, 1, Exposure.PRIVATE), "udp"),
        (Service("i", "n", Protocol.BOTH, 1, 1, Exposure.PRIVATE), "both"),
        (Service("i", "n", Protocol.TCP, 1, 1, Exposure.PRIVATE, Tls.NODE), "https"),
        (Service("i", "n", Protocol.TCP, 1, 1, Exposure.PRIVATE, plan="udp"), "udp"),
    ],
)
def test_a_service_without_a_plan_shows_the_one_that_would_have_made_it(made: Service, plan: str) -> None:
    assert plan_of(made) == plan


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)


@given(st.lists(names, min_size=1, max_size=5, unique_by=variable_for))
def test_every_variable_is_one_that_a_shell_takes_and_none_is_lost(bound: list[str]) -> None:
    found = told(*(service(name, number) for number, name in enumerate(bound)))
    assert len(found) == 2 + len(bound) + (len(bound) == 1)
    for name, value in found.items():
        assert name.isidentifier()
        assert name.isascii()
        assert value.isprintable()
        assert value.isascii()


@pytest.mark.parametrize("other", ["my_port", "my.port", "MY-PORT", "My.Port"])
def test_names_that_become_one_variable_are_refused(other: str) -> None:
    with pytest.raises(Refused, match="STACKATO_HARBOR_MY_PORT") as refusal:
        check_variables("my-port", ["unlike", other], "web")
    assert (refusal.value.code, refusal.value.status) == ("variables_collide", 409)
    assert other in refusal.value.message


def test_names_that_become_different_variables_are_not() -> None:
    check_variables("my-port", ["myport", "my-port-2", "harbor", "services"], "web")
