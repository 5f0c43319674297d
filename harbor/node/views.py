"""The node as it is shown: its services, its backends, its ports, and what troubles it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harbor import __version__
from harbor.errors import NotFound
from harbor.model import BackendView, PortsView, Service, ServiceView, State, Status
from harbor.model.views import all_down
from harbor.node.listeners import Listeners
from harbor.node.parts import Parts
from harbor.node.shelf import Shelf
from harbor.node.watch import Watch
from harbor.policy.ports import Ports


class Views:
    """Puts together what the rooms of the node know. Reads only, touches no disk.

    ``shelf`` knows how TLS is spoken with both sides, ``others`` which warnings there are beside its own.
    """

    def __init__(
        self,
        parts: Parts,
        ports: Ports,
        listeners: Listeners,
        shelf: Shelf,
        watch: Watch,
        others: Callable[[], tuple[str, ...]],
    ) -> None:
        self._parts = parts
        self._ports = ports
        self._listeners = listeners
        self._shelf = shelf
        self._watch = watch
        self._others = others
        self._started = time.time()

    def service(self, service: Service) -> ServiceView:
        parts = self._parts
        reason = self._listeners.reason(service.id)
        counters = self._parts.plane.counters(service.id)
        return ServiceView(
            service=service,
            status=Status.READY if reason is None else Status.DEGRADED,
            reason=reason,
            listen=parts.listen_address(service.exposure),
            policy=parts.registry.policy(service.id),
            backends=parts.registry.backends(service.id, time.monotonic(), time.time(), counters.active_by_backend),
            counters=counters,
            apps=tuple(binding.app for binding in parts.bindings.of_service(service.id)),
            tls_rules=self._shelf.rules(service),
            backend_tls=self._shelf.backend_rules(service),
            warnings=(all_down(service.protocol),) if parts.registry.all_down(service.id) else (),
        )

    def backend(self, ref: str, backend_id: str) -> BackendView:
        view = self.service(self._parts.registry.find(ref))
        for backend in view.backends:
            if backend.id == backend_id:
                return backend
        raise NotFound(f"backend {backend_id} of service {view.service.name} has gone", code="backend_not_found")

    def ports(self) -> PortsView:
        """The ports of this node: which are used, by whom, and which rest."""
        now = time.monotonic()
        used: dict[int, list[str]] = {}
        for service in self._parts.registry.services():
            used.setdefault(service.port, []).append(service.name)
        return PortsView(
            ranges=self._parts.config.ports.ranges,
            total=self._ports.total,
            free=self._ports.free(now),
            used=used,
            resting=self._ports.resting(now),
            reserved=self._ports.reserved,
            warnings=self.warnings(),
        )

    def describe(self) -> dict[str, Any]:
        """The node as ``GET /v1/node`` shows it."""
        node, views = self._parts.config.node, [self.service(one) for one in self._parts.registry.services()]
        backends = [backend for view in views for backend in view.backends]
        descriptors = self._parts.plane.descriptors
        return {
            "id": node.id,
            "version": __version__,
            "host": node.host,
            "hostname": node.hostname or node.host,
            **({"ext_host": node.ext_host} if node.ext_host else {}),
            **({"ext_hostname": node.ext_hostname} if node.ext_hostname else {}),
            "started": self._started,
            "uptime": time.time() - self._started,
            "services": len(views),
            "degraded": [{"name": v.service.name, "reason": v.reason} for v in views if v.status is Status.DEGRADED],
            "backends": {state.value: sum(b.state is state for b in backends) for state in State},
            "sessions": self._parts.plane.session_count(),
            "limits": {"session_descriptors": descriptors.limit, "used": descriptors.used},
            "ports_waiting": self._parts.plane.paused,
            "loop_lag": {"latest": round(self._watch.lag, 6), "largest": round(self._watch.largest, 6)},
            "problems": self.problems(),
            "warnings": list(self.warnings()),
        }

    def warnings(self) -> tuple[str, ...]:
        """What works but is probably not meant, and what is wrong outside of this node."""
        return (
            *self._others(),
            *self._watch.warnings(),
            *(
                f"service {service.name} keeps port {service.port}, which ports.ranges and ports.reserved do not allow"
                for service in self._parts.registry.services()
                if not self._ports.is_leasable(service.port)
            ),
        )

    def problems(self) -> list[str]:
        """Why the node cannot do all of its job now; empty when it is ready."""
        failure = self._parts.journal.failure
        full = self._watch.full()
        return [
            *(["the node is stopping"] if self._parts.stopping else []),
            *([f"the state cannot be written: {failure}"] if failure else []),
            *([full] if full else []),
        ]
