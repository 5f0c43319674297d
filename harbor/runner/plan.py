"""What the lives of an app have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harbor.errors import HarborError
from harbor.runner.environment import Bound
from harbor.runner.health import Check
from harbor.runner.node import Leased, Node
from harbor.runner.output import Output
from harbor.runner.ports import Ports
from harbor.runner.process import Warden


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run, until it is planned anew."""

    app: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    bound: Bound
    services: tuple[Leased, ...]  # all that the app is bound to; PORT is that of the first
    asked: frozenset[str]  # those without which it is not ready


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lives need of the supervisor."""

    node: Node
    host: str  # where the node reaches this machine
    ttl: float
    stop_timeout: float
    health: Check | None
    ports: Ports
    warden: Warden
    output: Output
    contact: Callable[[HarborError | None], None]  # is told how the last talk with the node went
