"""The environment of one instance: the node's, with the ports that this instance has got.

A container has ports of its own, so there the internal port of a service is the same in every instance. Instances
without containers share a machine: each gets a free port per service, and wherever the node's environment names an
internal port, the instance finds its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harbor.errors import HarborError
from harbor.policy.naming import variable_for

# What a node may set. Another variable, LD_PRELOAD say, would give it a say in what runs here.
FROM_NODE: Final = re.compile(r"STACKATO_HARBOR(_[A-Z0-9_]+)?|STACKATO_SERVICES|VCAP_SERVICES")
# Not for instances: whoever holds the node's token may do everything there.
KEPT_BACK: Final = ("HARBOR_TOKEN", "HARBOR_URL", "HARBOR_CONFIG")


@dataclass(frozen=True, slots=True)
class Bound:
    """What the node says about an app: its variables, and the services that it is bound to."""

    variables: Mapping[str, str]
    services: tuple[str, ...]

    @classmethod
    def parse(cls, variables: Any) -> Bound:
        """From the reply of ``GET /v1/apps/{app}/env``. Errors: ``HarborError`` if that is none."""
        try:
            told = {name: value for name, value in variables.items() if FROM_NODE.fullmatch(name)}
            services = json.loads(told["STACKATO_SERVICES"])
            names = tuple(name for name in services if "int_port" in services[name])
            json.loads(told["VCAP_SERVICES"])
            if not all(isinstance(value, str) and "\0" not in value for value in told.values()):
                raise TypeError
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise HarborError("the node's environment of the app is not what a Harbor node says") from error
        return cls(told, names)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an instance is."""

    app: str
    number: int  # from 1
    id: str  # of this one life

    @property
    def name(self) -> str:
        return f"{self.app}.{self.number}"


def own_variables(bound: Bound, identity: Identity, ports: Mapping[str, int], first: str) -> dict[str, str]:
    """Those variables that are this instance's own; they may stand in its command.

    ``ports`` are its ports by service, ``first`` is the service that ``PORT`` is about.
    """
    own = {variable_for(name): str(port) for name, port in ports.items()}
    if "STACKATO_HARBOR" in bound.variables and len(ports) == 1:
        own["STACKATO_HARBOR"] = str(ports[first])
    return own | {
        "PORT": str(ports[first]),
        "STACKATO_APP_NAME": identity.app,
        "STACKATO_APP_NAME_UPCASE": identity.app.upper().replace("-", "_").replace(".", "_"),
        "CF_INSTANCE_INDEX": str(identity.number - 1),
        "HARBOR_INSTANCE": identity.name,
        "HARBOR_INSTANCE_ID": identity.id,
    }


def environment(
    inherited: Mapping[str, str],
    declared: Mapping[str, str],
    bound: Bound,
    own: Mapping[str, str],
    ports: Mapping[str, int],
) -> dict[str, str]:
    """The whole environment: inherited, then declared, then the node's, then the instance's own; later ones win."""
    passed_on = {
        name: value
        for name, value in inherited.items()
        # A variable of another service, left in this shell by somebody, would be a port that is not ours.
        if name not in KEPT_BACK and not FROM_NODE.fullmatch(name)
    }
    passed_on.setdefault("PYTHONUNBUFFERED", "1")  # its output is a pipe now, and should be seen as it is written
    told = {name: _with_ports(name, value, ports) for name, value in bound.variables.items()}
    return passed_on | dict(declared) | told | dict(own)


def _with_ports(variable: str, value: str, ports: Mapping[str, int]) -> str:
    if variable == "STACKATO_SERVICES":
        services = json.loads(value)
        for name, port in ports.items():
            services[name]["int_port"] = port
        return json.dumps(services)
    if variable == "VCAP_SERVICES":
        labels = json.loads(value)
        for instance in (one for instances in labels.values() for one in instances):
            if instance.get("name") in ports:
                instance["credentials"]["int_port"] = ports[instance["name"]]
        return json.dumps(labels)
    return value
