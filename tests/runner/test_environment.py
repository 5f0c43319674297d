from __future__ import annotations

import json
from typing import Any

import pytest

from harbor.errors import HarborError
from harbor.model import Exposure, Protocol, Service, Tls
from harbor.policy.environment import Place, credentials
from harbor.policy.environment import environment as told_by_node
from harbor.runner.environment import Bound, Identity, environment, own_variables

WHO = Identity("my-app", 2, "cafe")


def bound(*names: str) -> Bound:
    """What a node says of an app that is bound to these services, whose internal ports are 4100, 4101 ..."""
    services = [
        Service(f"id-{name}", name, Protocol.TCP, 30_000 + n, 4100 + n, Exposure.PRIVATE, Tls.OFF, None, 0.0)
        for n, name in enumerate(names)
    ]
    place = Place("harbor_node_1", "10.0.0.1")
    return Bound.parse(told_by_node((service, credentials(service, place)) for service in services))


def of(told: Bound, ports: dict[str, int], inherited: dict[str, str] | None = None, **declared: str) -> dict[str, str]:
    own = own_variables(told, WHO, ports, next(iter(ports)))
    return environment(inherited or {}, declared, told, own, ports)


def test_wherever_the_node_names_an_internal_port_the_instance_finds_its_own() -> None:
    found = of(bound("my-port"), {"my-port": 20_001})
    assert found["STACKATO_HARBOR"] == found["STACKATO_HARBOR_MY_PORT"] == found["PORT"] == "20001"
    services = json.loads(found["STACKATO_SERVICES"])
    assert services["my-port"]["int_port"] == 20_001
    assert services["my-port"]["port"] == 30_000
    assert json.loads(found["VCAP_SERVICES"])["harbor-1.0"][0]["credentials"] == services["my-port"]
    assert "4100" not in " ".join(found.values())


def test_with_two_services_each_has_its_variable_and_PORT_is_the_first() -> None:
    found = of(bound("udp-port", "tcp.port"), {"tcp.port": 20_002, "udp-port": 20_001})
    assert found["STACKATO_HARBOR_UDP_PORT"] == "20001"
    assert found["STACKATO_HARBOR_TCP_PORT"] == found["PORT"] == "20002"
    assert "STACKATO_HARBOR" not in found


def test_an_instance_knows_who_it_is() -> None:
    found = of(bound("web"), {"web": 20_001})
    assert found["STACKATO_APP_NAME"] == "my-app"
    assert found["STACKATO_APP_NAME_UPCASE"] == "MY_APP"
    assert found["HARBOR_INSTANCE"] == "my-app.2"
    assert found["CF_INSTANCE_INDEX"] == "1"
    assert found["HARBOR_INSTANCE_ID"] == "cafe"


def test_K03_the_keys_of_the_node_and_the_ports_of_others_are_not_inherited() -> None:
    inherited = {
        "HARBOR_TOKEN": "secret", "HARBOR_URL": "http://x", "HARBOR_CONFIG": "x", "STACKATO_HARBOR_OLD": "1",
        "STACKATO_HARBOR": "2", "VCAP_SERVICES": "{}", "STACKATO_SERVICES": "{}", "PORT": "3", "PATH": "/bin",
        "STACKATO_HOME": "kept", "HARBOR_INSTANCE": "outer.1",
    }  # fmt: skip
    found = of(bound("a", "b"), {"a": 20_001, "b": 20_002}, inherited)
    assert {"HARBOR_TOKEN", "HARBOR_URL", "HARBOR_CONFIG", "STACKATO_HARBOR_OLD", "STACKATO_HARBOR"} & set(
        found
    ) == set()
    assert (found["PATH"], found["STACKATO_HOME"], found["PORT"]) == ("/bin", "kept", "20001")
    assert found["HARBOR_INSTANCE"] == "my-app.2"


def test_what_is_declared_wins_over_what_is_inherited_and_yields_to_the_ports() -> None:
    found = of(bound("a"), {"a": 20_001}, {"LEVEL": "info", "PYTHONUNBUFFERED": ""}, LEVEL="debug", PORT="80")
    assert (found["LEVEL"], found["PORT"], found["PYTHONUNBUFFERED"]) == ("debug", "20001", "")


def test_a_node_sets_no_other_variable() -> None:
    """It may be another's, or none at all: what it says must not decide what runs here."""
    told = dict(bound("a").variables) | {
        "LD_PRELOAD": "/x.so",
        "PATH": "/evil",
        "STACKATO_HARBOR_a=b": "x",
        "PORT": "1",
    }
    found = of(Bound.parse(told), {"a": 20_001}, {"PATH": "/bin"})
    assert found["PATH"] == "/bin"
    assert found["PORT"] == "20001"
    assert {"LD_PRELOAD", "STACKATO_HARBOR_a=b"} & set(found) == set()


@pytest.mark.parametrize(
    "told",
    [
        None, [], "text", {}, {"STACKATO_SERVICES": "{}"}, {"STACKATO_SERVICES": "no JSON", "VCAP_SERVICES": "{}"},
        {"STACKATO_SERVICES": '{"a": 1}', "VCAP_SERVICES": "{}"}, {"STACKATO_SERVICES": 1, "VCAP_SERVICES": "{}"},
        {"STACKATO_SERVICES": "[" * 100_000, "VCAP_SERVICES": "{}"},
        {"STACKATO_SERVICES": "{}", "VCAP_SERVICES": "{}", "STACKATO_HARBOR": "a\0b"},
        {"STACKATO_SERVICES": "{}", "VCAP_SERVICES": "{}", "STACKATO_HARBOR": 4100},
    ],
)  # fmt: skip
def test_something_that_is_no_environment_is_refused(told: Any) -> None:
    with pytest.raises(HarborError, match="not what a Harbor node says"):
        Bound.parse(told)
