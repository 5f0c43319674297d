"""A daemon that is killed over a platform's request: the retry gets what the first request made, or makes it."""

from __future__ import annotations

import shutil
import signal
from typing import Any, Final

import pytest

from support.daemon import Answer, Api, Daemon, Serve, Unreachable
from support.needs import needs
from support.osb_platform import BROKER, PLANS, SERVICE_ID, chosen, wanted
from support.port_block import open_ports

MOST: Final = 40  # kills of one sweep; it ends by itself long before
APP: Final = {"service_id": SERVICE_ID, "plan_id": PLANS["tcp"], "bind_resource": {"app_guid": "app-1"}}
INSTANCE: Final = "/service_instances/i-1"
BINDING: Final = f"{INSTANCE}/service_bindings/b-1"


def ask(api: Api, method: str, path: str, body: Any = None) -> Answer:
    return api(method, f"/v2{path}", body, X_Broker_API_Version="2.17")


# One life, step by step: what is asked, what it answers when it is the first, and when it is a repetition.
LIFE: Final = (
    ("PUT", INSTANCE, wanted(name="shop"), 201, 200),
    ("PUT", BINDING, APP, 201, 200),
    ("PATCH", INSTANCE, {"service_id": SERVICE_ID, "parameters": {"max_sessions": 5}}, 200, 200),
    ("DELETE", f"{BINDING}?{chosen()}", None, 200, 410),
    ("DELETE", f"{INSTANCE}?{chosen()}", None, 200, 410),
)


def seen(api: Api) -> dict[str, Any]:
    """What the platform would find: the instance and the binding, whole."""
    found = {path: ask(api, "GET", path) for path in (INSTANCE, BINDING)}
    for answer in found.values():
        if answer.status == 200 and "credentials" in answer.body:
            answer.body["credentials"].pop("backends_uri")  # the API's port is another after a restart
    return {path: answer.body for path, answer in found.items() if answer.status == 200}


def check_ports(daemon: Daemon, ports: range) -> None:
    """No port is open that is no service's, and no service is without its port."""
    assert set(open_ports(ports)) == {body["port"] for body in daemon.api.services().values()}


def sweep(serve: Serve, ports: range, call: str) -> int:
    """Kill a life at the first such call, then at the second, until one survives; returns how many were killed."""
    for when in range(1, MOST):
        daemon = serve(BROKER)
        before: dict[str, Any] = {}
        lost = None
        with daemon.under_strace(f"{call}:signal=KILL:when={when}"):
            for step in LIFE:
                try:
                    answer = ask(daemon.api, *step[:3])
                    assert answer.status == step[3], answer
                    before = seen(daemon.api)
                except Unreachable:
                    lost = step
                    break
            if lost is None:
                daemon.kill()
                return when - 1
            assert daemon.await_exit() == -signal.SIGKILL
        daemon.close()
        daemon = serve(BROKER)
        after = seen(daemon.api)
        done = after != before
        again = ask(daemon.api, *lost[:3])
        assert again.status == (lost[4] if done else lost[3]), f"{call} {when}: {lost[:2]}, then {again}"
        for path in before.keys() & after.keys():
            if lost[0] != "PATCH":
                assert after[path] == before[path]
        if INSTANCE in after and lost[0] == "PUT":
            assert again.status == (200 if lost[1] == INSTANCE or BINDING in after else 201)
        check_ports(daemon, ports)
        for method, path, body, _, _ in LIFE[-2:]:
            assert ask(daemon.api, method, path, body).status in (200, 410)
        assert daemon.api.services() == {}
        daemon.stop()
        assert open_ports(ports) == {}
        shutil.rmtree(daemon.state)
    raise AssertionError(f"still killed at {call} number {MOST}: is it in a loop?")


@pytest.mark.slow
def test_G04_killed_at_any_step_a_retry_finds_or_makes_the_same(serve: Serve, ports: range) -> None:
    needs("strace")
    assert sweep(serve, ports, "fdatasync") >= len(LIFE)  # every change is flushed once


def test_G04_after_kill_9_a_retry_is_answered_with_the_same_port_and_token(serve: Serve, ports: range) -> None:
    daemon = serve(BROKER)
    assert ask(daemon.api, "PUT", INSTANCE, wanted(name="shop")).status == 201
    assert ask(daemon.api, "PUT", BINDING, APP).status == 201
    before = seen(daemon.api)
    assert set(before) == {INSTANCE, BINDING}
    daemon.kill()
    daemon = serve(BROKER)
    assert ask(daemon.api, "PUT", INSTANCE, wanted(name="shop")).status == 200
    assert ask(daemon.api, "PUT", BINDING, APP).status == 200
    assert seen(daemon.api) == before
    assert ask(daemon.api, "PUT", INSTANCE, wanted("udp", name="shop")).status == 409
    check_ports(daemon, ports)
    for method, path, body, first, again in LIFE[-2:]:
        assert ask(daemon.api, method, path, body).status == first
        assert ask(daemon.api, method, path, body).status == again
    daemon.stop()
    assert open_ports(ports) == {}
