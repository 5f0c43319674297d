from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from harbor.model import Drop, Reason, ServiceCounters
from support.running_api import FIRST_PORT, StagedApi


async def test_health_and_readiness(staged: StagedApi) -> None:
    assert (await staged.tcp("GET", "/healthz")).body == {"status": "ok"}
    assert (await staged.tcp("GET", "/readyz")).body == {"status": "ready"}
    assert (await staged.tcp("HEAD", "/readyz")).status == 200
    staged.node.problems_ = ["the store cannot write: no space left on device"]
    unready = await staged.tcp("GET", "/readyz")
    assert (unready.status, unready.body["problems"]) == (503, staged.node.problems_)
    assert (await staged.tcp("HEAD", "/readyz")).status == 503
    assert (await staged.tcp("GET", "/healthz")).status == 200


async def test_a_degraded_service_does_not_make_the_node_unready(staged: StagedApi) -> None:
    await staged.tcp("POST", "/v1/services", {"name": "a"})
    staged.node.degraded["a"] = "port in use by nc (pid 7)"
    assert (await staged.tcp("GET", "/readyz")).status == 200
    shown = (await staged.tcp("GET", "/v1/services/a")).body
    assert (shown["status"], shown["reason"]) == ("degraded", "port in use by nc (pid 7)")


async def test_the_node_and_its_ports_are_shown(staged: StagedApi) -> None:
    await staged.tcp("POST", "/v1/services", {"name": "a", "port": FIRST_PORT + 1})
    assert (await staged.tcp("GET", "/v1/node")).body["id"] == "harbor_node_1"
    ports = (await staged.tcp("GET", "/v1/ports")).body
    assert ports["used"] == [{"port": FIRST_PORT + 1, "service": "a"}]
    assert ports["free"] == 98


async def test_metrics_have_a_line_for_every_figure(staged: StagedApi) -> None:
    staged.node.counters = ServiceCounters(
        opened=10,
        active=3,
        bytes_in=100,
        bytes_out=200,
        datagrams_in=5,
        datagrams_out=6,
        closed={Reason.KILLED: 2, Reason.CLIENT_CLOSED: 5},
        dropped={Drop.NO_BACKEND: 1},
    )
    for name, port in (("both-x", FIRST_PORT + 1), ("web", FIRST_PORT + 2), ("gone", FIRST_PORT + 3)):
        await staged.tcp("POST", "/v1/services", {"name": name, "port": port})
    await staged.tcp("DELETE", "/v1/services/gone")
    await staged.tcp("PUT", "/v1/services/web/backends/one", {"host": "127.0.0.1", "port": 1})
    staged.node.degraded["web"] = "port in use"

    answer = await staged.tcp("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    figures = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }

    def figure(name: str, **labels: str) -> float:
        return figures[(name, *sorted(labels.items()))]

    assert figure("harbor_sessions_opened_total", service="both-x") == 10
    assert figure("harbor_sessions_active", service="web") == 3
    assert figure("harbor_sessions_closed_total", service="web", reason="client_closed") == 5
    assert figure("harbor_bytes_total", service="web", direction="in") == 100
    assert figure("harbor_bytes_total", service="web", direction="out") == 200
    assert figure("harbor_datagrams_total", service="both-x", direction="out") == 6
    assert ("harbor_datagrams_total", ("direction", "in"), ("service", "web")) not in figures
    assert figure("harbor_datagrams_dropped_total", service="both-x", reason="no_backend") == 1
    assert figure("harbor_backends", service="web", state="up") == 1
    assert figure("harbor_backends", service="web", state="down") == 0
    states = {state: figure("harbor_ports", state=state) for state in ("used", "free", "quarantined", "degraded")}
    assert states == {"used": 1, "degraded": 1, "quarantined": 1, "free": 96}
    assert figure("harbor_event_loop_lag_seconds") == 0.25
    assert figure("process_open_fds") > 0
    assert staged.token not in answer.text
