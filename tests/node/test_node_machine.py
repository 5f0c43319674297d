"""A real node against a model of what it promised: random changes, restarts, and deaths without a goodbye."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harbor.errors import HarborError
from support.port_block import open_ports, port_block
from support.running_node import RunningNode, node_config

PORTS: Final = 5  # few, so that they are soon exhausted
NAMES: Final = ("web", "udp-a", "both-b", "tcp-c", "tcp-d", "tcp-e", "tcp-f")
KINDS: Final = {"web": {"tcp"}, "udp-a": {"udp"}, "both-b": {"tcp", "udp"}}
HOSTS: Final = ("127.0.0.1", "127.0.0.2")
BACKENDS: Final = ("x", "y", "z")

names = st.sampled_from(NAMES)
backends = st.sampled_from(BACKENDS)


class Leased:
    """What the model knows of a service: its reply, and its queue as (id, host)."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.queue: list[tuple[str, str]] = []


class NodeMachine(RuleBasedStateMachine):
    """G14: whatever was acknowledged is there, on the port it was promised, and nothing else is."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.ports = self.stack.enter_context(port_block(PORTS))
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.config = node_config(directory / "state", self.ports)
        self.services: dict[str, Leased] = {}
        self.resting: set[int] = set()
        self.replies: dict[str, dict[str, Any]] = {}

    @initialize()
    def start(self) -> None:
        self.node = RunningNode(self.config)

    @rule(name=names, keyed=st.booleans())
    def create(self, name: str, keyed: bool) -> None:
        key = f"key of {name}" if keyed else None
        code, body = self.outcome(lambda: self.node.create(name, key=key))
        if key in self.replies:
            assert body == self.replies[key]  # as the first time, even if it has been deleted since
        elif name in self.services:
            assert code == "service_exists"
        elif len(self.services) + len(self.resting) == PORTS:
            assert code == "ports_exhausted"
        else:
            assert body is not None, code
            assert body["port"] in {*self.ports} - self.leased() - self.resting
            taken = {service.body["int_port"] for service in self.services.values()}
            assert body["int_port"] == min({*range(4100, 4100 + PORTS)} - taken)
            self.services[name] = Leased(body)
            if key is not None:
                self.replies[key] = body

    @rule(name=names)
    def delete(self, name: str) -> None:
        code, _ = self.outcome(lambda: self.node.delete(name))
        if name in self.services:
            assert code == "done"
            self.resting.add(self.services.pop(name).body["port"])
        else:
            assert code == "service_not_found"

    @rule(name=names, backend=backends, host=st.sampled_from(HOSTS))
    def put(self, name: str, backend: str, host: str) -> None:
        code, _ = self.outcome(lambda: self.node.put(name, backend, (host, 9)))
        if name not in self.services:
            assert code == "service_not_found"
            return
        assert code == "done"
        queue = self.services[name].queue
        if (backend, host) not in queue:  # another instance: at the end
            queue[:] = [entry for entry in queue if entry[0] != backend] + [(backend, host)]

    @rule(name=names, backend=backends)
    def remove(self, name: str, backend: str) -> None:
        code, _ = self.outcome(lambda: self.node.remove(name, backend))
        if name not in self.services:
            assert code == "service_not_found"
            return
        queue = self.services[name].queue
        known = any(entry[0] == backend for entry in queue)
        assert code == ("done" if known else "backend_not_found")
        queue[:] = [entry for entry in queue if entry[0] != backend]

    @rule()
    def restart(self) -> None:
        self.node.close()
        self.start()

    @rule()
    def die(self) -> None:
        self.node.vanish()
        self.start()

    @precondition(lambda self: hasattr(self, "node"))
    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        found = self.node.services()
        assert found.keys() == self.services.keys()
        for name, leased in self.services.items():
            view = found[name].as_json()
            assert {**view, "backends": []} == leased.body
            # One that was removed drains for a moment; it is no part of the promise.
            queue = [(b.id, b.host) for b in found[name].backends if b.state == "up"]
            assert queue == leased.queue
        assert open_ports(self.ports) == {s.body["port"]: KINDS.get(name, {"tcp"}) for name, s in self.services.items()}
        view = self.node.call(self.node.node.ports)
        assert view.resting.keys() == self.resting
        assert view.free == PORTS - len(self.services) - len(self.resting)

    def teardown(self) -> None:
        if hasattr(self, "node"):
            self.node.close()
        self.stack.close()

    def leased(self) -> set[int]:
        return {service.body["port"] for service in self.services.values()}

    def outcome(self, change: Any) -> tuple[str, Any]:
        try:
            return "done", change()
        except HarborError as error:
            return error.code, None


TestG14TheNodeIsWhatItPromised = NodeMachine.TestCase
TestG14TheNodeIsWhatItPromised.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
