"""A daemon that runs out of descriptors: it pauses, says so, answers its API, and goes on when there are some again."""

from __future__ import annotations

import contextlib

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
