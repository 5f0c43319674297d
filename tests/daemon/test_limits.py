"""A daemon that runs out of descriptors: it pauses, says so, answers its API, and goes on when there are some again."""

from __future__ import annotations

import contextlib
import json
import threading

from harbor.model import Address
from support.daemon import Daemon, Serve
from support.running_node import MakeBackend
from support.sockets import connected
from support.waiting import eventually


def test_J01_out_of_descriptors_ports_pause_the_api_answers_and_clients_that_wait_are_served_later(
    serve: Serve, backend: MakeBackend
) -> None:
    daemon = serve(max_descriptors=200)  # of which sessions may have half
    port = daemon.api.create("web").body["port"]
    daemon.api.put("web", "b", backend("hello").address)
    limits = daemon.api("GET", "/v1/node").body["limits"]
    fit = limits["session_descriptors"] // 2
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(connected(Address("127.0.0.1", port))) for _ in range(fit)]
        for client in served:
            assert client.recv(5) == b"hello"
        waiting = [stack.enter_context(connected(Address("127.0.0.1", port))) for _ in range(20)]
        eventually(lambda: daemon.api("GET", "/readyz").status == 503)
        (problem,) = daemon.api("GET", "/readyz").body["problems"]
        assert "RLIMIT_NOFILE" in problem
        node = daemon.api("GET", "/v1/node").body
        assert (node["sessions"], node["ports_waiting"], node["problems"]) == (fit, 1, [problem])
        eventually(lambda: told(daemon) == ["node.full"], what="the event")
        eventually(lambda: "node.full" in daemon.log, what="the log line")
        assert daemon.api.create("another").status == 201
        for client in waiting:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raise AssertionError(f"{client.recv(5)!r} beyond the limit")
            client.settimeout(10)
        for client in served:
            client.close()
        for client in waiting:
            assert client.recv(5) == b"hello"
        assert daemon.api("GET", "/readyz").status == 200
        eventually(lambda: told(daemon) == ["node.full", "node.has_room"], what="the event that it is over")
    eventually(lambda: daemon.api("GET", "/v1/node").body["limits"]["used"] == 0)
    daemon.stop()


def told(daemon: Daemon) -> list[str]:
    """What the feed says of the node itself."""
    return [e["kind"] for e in daemon.api("GET", "/v1/events").body if e["kind"].startswith("node.")]


def test_J02_idle_clients_beyond_every_limit_at_ports_and_api_leave_others_alone(
    serve: Serve, backend: MakeBackend
) -> None:
    daemon = serve(max_descriptors=400)
    port = daemon.api.create("web").body["port"]
    daemon.api.put("web", "b", backend("hello").address)
    eventually(lambda: "node.ready" in daemon.log, what="the address of the API")
    line = next(line for line in daemon.log.splitlines() if "node.ready" in line)
    api = Address("127.0.0.1", int(json.loads(line)["api"].rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        for _ in range(450):
            stack.enter_context(connected(api))
        with connected(Address("127.0.0.1", port)) as client:
            assert client.recv(5) == b"hello"
        assert daemon.api("GET", "/healthz").status == 200
        assert daemon.api.create("another").status == 201
        for _ in range(250):
            stack.enter_context(connected(Address("127.0.0.1", port)))
        daemon.api.close()  # the node may have ended what was kept
        assert daemon.api("GET", "/healthz").status == 200
    with connected(Address("127.0.0.1", port)) as client:
        assert client.recv(5) == b"hello"
    eventually(lambda: daemon.api("GET", "/v1/node").body["limits"]["used"] == 0)
    daemon.stop()


def test_the_api_answers_while_the_data_path_is_saturated(serve: Serve, backend: MakeBackend) -> None:
    daemon = serve()
    port = daemon.api.create("web").body["port"]
    daemon.api.put("web", "b", backend().address)
    over, moved = threading.Event(), []

    def load() -> None:
        with connected(Address("127.0.0.1", port)) as client:
            client.setblocking(False)
            while not over.is_set():
                for act in (lambda: client.send(bytes(1 << 16)), lambda: client.recv(1 << 16)):
                    with contextlib.suppress(BlockingIOError):
                        moved.append(act())

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        before = daemon.api("GET", "/v1/services/web").body["bytes"]["in"]
        for number in range(20):
            assert daemon.api("GET", "/healthz").status == 200
            assert daemon.api.create(f"more-{number % 5}").status == (201 if number < 5 else 409)
        eventually(lambda: daemon.api("GET", "/v1/services/web").body["bytes"]["in"] > before)
        assert moved
    finally:
        over.set()
        for client in clients:
            client.join()
    daemon.stop()


def test_J01_services_beyond_the_descriptors_are_degraded_and_heal_when_others_go(serve: Serve, ports: range) -> None:
    daemon = serve()
    for port in ports:
        assert daemon.api.create(f"both-{port}", port=port).status == 201
    daemon.stop()
    daemon = serve(max_descriptors=60)

    def degraded() -> dict[str, str]:
        return {name: body["reason"] for name, body in daemon.api.services().items() if body["status"] == "degraded"}

    lacking = degraded()
    assert 0 < len(lacking) < len(ports)
    assert all("RLIMIT_NOFILE leaves no descriptor" in reason for reason in lacking.values())
    refused = daemon.api.create("udp-more")
    assert (refused.status, refused.code) == (409, "ports_exhausted")
    opened = [name for name in daemon.api.services() if name not in lacking]
    for name in opened[: len(lacking)]:
        assert daemon.api("DELETE", f"/v1/services/{name}").status == 204
    eventually(lambda: degraded() == {}, what="the others have their ports")
    daemon.stop()
