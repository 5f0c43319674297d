"""A daemon that is killed at any step of a change: afterwards there is what it promised, and at most one thing more."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from harbor.model import Address
from support.daemon import Api, Daemon, Serve, Unreachable, by_name
from support.needs import needs
from support.port_block import open_ports
from support.running_node import MakeBackend
from support.sockets import connected

KINDS: Final = {"tcp": {"tcp"}, "udp": {"udp"}, "both": {"tcp", "udp"}}
MOST: Final = 60  # kills of one sweep; it ends by itself long before


@dataclass(frozen=True)
class Step:
    """One request of a provisioning run; it may be repeated."""

    service: str
    backend: str = ""
    app: str = ""
    method: str = "POST"

    def ask(self, api: Api, address: Address) -> Any:
        service = f"/v1/services/{self.service}"
        if self.method == "DELETE":
            return api("DELETE", f"{service}/bindings/{self.app}" if self.app else f"{service}?force=true")
        if self.app:
            return api(
                "POST", f"{service}/bindings", {"app": self.app}, Idempotency_Key=f"{self.app} to {self.service}"
            )
        if self.backend:
            return api.put(self.service, self.backend, address)
        return api.create(self.service, key=f"key of {self.service}")


RUN: Final = (
    Step("tcp-a"),
    Step("tcp-a", "b1"),
    Step("both-b"),
    Step("both-b", "b1"),
    Step("tcp-a", app="web"),
    Step("tcp-a", "b2"),
    Step("both-b", app="web"),
    Step("both-b", app="web", method="DELETE"),
    Step("gone"),
    Step("gone", app="web"),
    Step("gone", method="DELETE"),
    Step("udp-c"),
)
LISTENERS: Final = 5  # that the run binds, one by one: both-b has two


def provision(api: Api, address: Address) -> tuple[list[Step], Step | None]:
    """Carry out the run: the steps that were acknowledged, and the one over which the daemon died."""
    done: list[Step] = []
    for step in RUN:
        try:
            answer = step.ask(api, address)
        except Unreachable:
            return done, step
        assert answer.status in (200, 201, 204), answer
        done.append(step)
    return done, None


def state_after(steps: list[Step]) -> dict[str, list[str]]:
    """What these steps make: service -> backends, then apps."""
    found: dict[str, list[str]] = {}
    for step in steps:
        if step.method == "DELETE" and step.app:
            found[step.service].remove(step.app)
        elif step.method == "DELETE":
            del found[step.service]
        elif step.backend:
            found[step.service] = sorted([*found[step.service], step.backend])
        elif step.app:
            found[step.service].append(step.app)
        else:
            found[step.service] = []
    return found


def present(daemon: Daemon) -> dict[str, list[str]]:
    return {
        name: [*(b["id"] for b in body["backends"]), *body["bindings"]] for name, body in daemon.api.services().items()
    }


def check_bindings(daemon: Daemon) -> None:
    """The environment of the app is what its bindings say, and each binding has its token."""
    api = daemon.api
    bound = [name for name, body in api.services().items() if body["bindings"]]
    environment = api("GET", "/v1/apps/web/env")
    if not bound:
        assert environment.status == 404
        return
    assert sorted(json.loads(environment.body["STACKATO_SERVICES"])) == bound
    for name in bound:
        token = api("GET", f"/v1/services/{name}/bindings/web").body["token"]
        again = Step(name, app="web").ask(api, Address("", 0))
        assert (again.status, again.body["token"]) == (201, token)


def check_listeners(daemon: Daemon, ports: range) -> None:
    """What is listened on is what the services say, no more and no less, and it is served."""
    services = daemon.api.services()
    assert {body["status"] for body in services.values()} <= {"ready"}
    assert open_ports(ports) == {body["port"]: KINDS[body["protocol"]] for body in services.values()}
    for body in services.values():
        if body["protocol"] != "udp" and body["backends"]:
            with connected(Address("127.0.0.1", body["port"])) as client:
                assert client.recv(5) == b"hello"


def kills(serve: Serve, ports: range, address: Address, call: str) -> Iterator[int]:
    """Kill a provisioning run at the first such call, then at the second, until one survives."""
    for when in range(1, MOST):
        daemon = serve()
        with daemon.under_strace(f"{call}:signal=KILL:when={when}"):
            done, lost = provision(daemon.api, address)
            if lost is None:
                daemon.kill()
                assert done == list(RUN)
                return
            assert daemon.await_exit() == -signal.SIGKILL
        daemon.close()
        daemon = serve()
        found = present(daemon)
        assert found in (state_after(done), state_after([*done, lost])), f"{call} {when}: {done}, then {lost}"
        check_listeners(daemon, ports)
        check_bindings(daemon)
        before = by_name(daemon.api.services(), "port")
        again = lost.ask(daemon.api, address)
        if lost.method == "DELETE":
            undone = lost.service not in found or (lost.app and lost.app not in found[lost.service])
            assert again.status == (404 if undone else 204)
        else:
            assert again.status in (200, 201)
        assert present(daemon) == state_after([*done, lost])
        after = by_name(daemon.api.services(), "port")
        assert {name: port for name, port in after.items() if name in before} == {
            name: port for name, port in before.items() if name in after
        }
        check_listeners(daemon, ports)
        check_bindings(daemon)
        daemon.stop()
        assert open_ports(ports) == {}
        shutil.rmtree(daemon.state)
        yield when
    raise AssertionError(f"still killed at {call} number {MOST}: is it in a loop?")


@pytest.mark.slow
@pytest.mark.parametrize(("call", "least"), [("fdatasync", len(RUN)), ("bind", LISTENERS)])
def test_G03_G04_killed_at_any_step_it_keeps_what_it_acknowledged_and_a_retry_completes_the_rest(
    serve: Serve, backend: MakeBackend, ports: range, call: str, least: int
) -> None:
    needs("strace")
    address = backend("hello").address
    # Every change is flushed once, and every new listener bound.
    assert len(list(kills(serve, ports, address, call))) >= least


def test_G04_a_restart_after_kill_9_binds_the_same_ports_and_serves_at_once(
    serve: Serve, backend: MakeBackend, ports: range
) -> None:
    daemon = serve()
    provision(daemon.api, backend("hello").address)
    before = daemon.api.services()
    with connected(Address("127.0.0.1", before["tcp-a"]["port"])) as live:
        assert live.recv(5) == b"hello"
        daemon.kill()
        daemon = serve()
        after = daemon.api.services()
        for key in ("id", "port", "int_port", "created", "policy", "exposure"):
            assert by_name(after, key) == by_name(before, key)
        check_listeners(daemon, ports)
        check_bindings(daemon)
        answer = daemon.api.create("tcp-a", key="key of tcp-a")
        assert (answer.status, answer.body["port"]) == (201, before["tcp-a"]["port"])
