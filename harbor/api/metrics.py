"""Prometheus metrics, collected when they are scraped: nothing is counted for this alone.

Labels are services, states and reasons: their number is bounded by the services, never by the clients.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from harbor.api.context import ActingNode
from harbor.api.replies import PROBLEM
from harbor.model import PortsView, ServiceView, State, Status
from harbor.model.certificate import CertificateView

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STRAIN: Final = {
    "harbor_event_loop_lag_seconds": "How late the event loop was at most within the last minute.",
    "harbor_ports_waiting": "Ports that take no sessions because no descriptors are left.",
    "harbor_session_descriptors_used": "Descriptors that sessions have.",
    "harbor_session_descriptors_limit": "Descriptors that sessions may have.",
}
SHOWN_STATES: Final = (State.STARTING, State.UP, State.DOWN, State.DRAINING)

router = APIRouter(tags=["node"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text format", "content": {"text/plain": {"schema": {"type": "string"}}}},
        "default": PROBLEM,
    },
)
async def get_metrics(node: ActingNode) -> Response:
    """What the node has carried, in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(Figures(node.services(), node.ports(), node.certificates(), node.strain()))
    ProcessCollector(registry=registry)
    # Rendering a thousand services takes longer than the data path may wait; only the figures are taken here.
    text = await asyncio.to_thread(generate_latest, registry)
    return Response(text, media_type=MEDIA_TYPE)


class Figures(Collector):
    """The metrics of one moment."""

    def __init__(
        self,
        services: Sequence[ServiceView],
        ports: PortsView,
        certificates: Sequence[CertificateView] = (),
        strain: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._services = services
        self._ports = ports
        self._certificates = certificates
        self._strain = strain

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._sessions()
        yield from self._traffic()
        yield self._port_states()
        yield self._backends()
        yield self._expiry()
        for name, value in self._strain.items():
            yield GaugeMetricFamily(name, STRAIN[name], value)

    def _sessions(self) -> Iterator[Metric]:
        opened = CounterMetricFamily("harbor_sessions_opened", "Sessions that began.", labels=["service"])
        active = GaugeMetricFamily("harbor_sessions_active", "Sessions right now.", labels=["service"])
        closed = CounterMetricFamily(
            "harbor_sessions_closed", "Sessions by the reason of their end.", labels=["service", "reason"]
        )
        for view in self._services:
            name, counters = view.service.name, view.counters
            opened.add_metric([name], counters.opened)
            active.add_metric([name], counters.active)
            for reason, count in counters.closed.items():
                closed.add_metric([name, reason.value], count)
        yield from (opened, active, closed)

    def _traffic(self) -> Iterator[Metric]:
        labels = ["service", "direction"]
        moved = CounterMetricFamily("harbor_bytes", "Payload; in is from clients.", labels=labels)
        datagrams = CounterMetricFamily("harbor_datagrams", "UDP datagrams; in is from clients.", labels=labels)
        dropped = CounterMetricFamily(
            "harbor_datagrams_dropped", "Datagrams that went nowhere, by reason.", labels=["service", "reason"]
        )
        for view in self._services:
            name, counters = view.service.name, view.counters
            moved.add_metric([name, "in"], counters.bytes_in)
            moved.add_metric([name, "out"], counters.bytes_out)
            if view.service.protocol.has_udp:
                datagrams.add_metric([name, "in"], counters.datagrams_in)
                datagrams.add_metric([name, "out"], counters.datagrams_out)
            for drop, count in counters.dropped.items():
                dropped.add_metric([name, drop.value], count)
        yield from (moved, datagrams, dropped)

    def _port_states(self) -> Metric:
        ports = GaugeMetricFamily("harbor_ports", "Ports of the node by what they are doing.", labels=["state"])
        degraded = len({view.service.port for view in self._services if view.status is Status.DEGRADED})
        ports.add_metric(["used"], len(self._ports.used) - degraded)
        ports.add_metric(["degraded"], degraded)
        ports.add_metric(["free"], self._ports.free)
        ports.add_metric(["quarantined"], len(self._ports.resting))
        return ports

    def _expiry(self) -> Metric:
        expiry = GaugeMetricFamily(
            "harbor_certificate_not_after_seconds",
            "When the certificate of a service expires, in Unix time.",
            labels=["service"],
        )
        for view in self._certificates:
            expiry.add_metric([view.service], view.facts.not_after)
        return expiry

    def _backends(self) -> Metric:
        backends = GaugeMetricFamily("harbor_backends", "Backends by state.", labels=["service", "state"])
        for view in self._services:
            states = Counter(backend.state for backend in view.backends)
            for state in SHOWN_STATES:
                backends.add_metric([view.service.name, state.value], states[state])
        return backends
