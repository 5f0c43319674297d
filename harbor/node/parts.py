"""What the rooms of the node share: its memory, its data plane, its journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from harbor.config import Config
from harbor.dataplane.plane import DataPlane
from harbor.errors import Refused
from harbor.model import Exposure, Opening, Policy, Service, TlsTerms
from harbor.model.tls import BackendTls
from harbor.node.feed import EventFeed
from harbor.node.journal import Journal
from harbor.node.locks import Locks
from harbor.policy.admission import Admission
from harbor.policy.bindings import Bindings
from harbor.policy.naming import says_tls
from harbor.policy.registry import Registry

NODE: Final = "node"  # the actor of what nobody asked for

T = TypeVar("T")


@dataclass(slots=True)
class Parts:
    """One of each, made by ``Node``. ``terms`` says how the node ends the TLS of a service, ``backend_terms`` how it
    speaks TLS to the backends. ``under_way`` keeps changes alive whose caller has gone; while ``stopping`` no new ones
    begin.
    """

    config: Config
    defaults: Policy
    registry: Registry
    bindings: Bindings
    plane: DataPlane
    feed: EventFeed
    locks: Locks
    journal: Journal
    admission: Admission
    terms: Callable[[Service], TlsTerms | None] = lambda service: None
    backend_terms: Callable[[Service], BackendTls | None] = lambda service: None
    under_way: set[asyncio.Task[Any]] = field(default_factory=set)
    stopping: bool = False

    def listen_address(self, exposure: Exposure) -> str:
        """Where services of this exposure listen."""
        listen = self.config.listen
        return listen.public if exposure is Exposure.PUBLIC else listen.private

    def opening(self, service: Service, policy: Policy) -> Opening:
        """The listener that the service needs. Errors: ``Refused`` if it has no certificate to show."""
        host = self.listen_address(service.exposure)
        terms = self.terms(service)
        says_https = terms is not None and says_tls(service.name, service.plan)
        to_backends = self.backend_terms(service)
        names = service.server_names if service.can_share else None
        what = (service.id, service.name, service.protocol, host, service.port)
        return Opening(*what, policy, terms, says_https, to_backends, names)

    def show(self, service: Service) -> None:
        """Let the port of the service speak TLS, to both sides, as it should by now. Errors: OSError, ``Refused``."""
        self.plane.set_backend_tls(service.id, self.backend_terms(service))
        terms = self.terms(service)
        if terms is not None:
            self.plane.set_tls(service.id, terms)

    async def to_the_end(self, change: Coroutine[Any, Any, T]) -> T:
        """Carry a change through even if its caller goes away half way. Errors: ``Refused`` (``node_stopping``)."""
        if self.stopping:
            change.close()
            raise Refused("the node is stopping and takes no changes; try again", code="node_stopping", status=503)
        task = asyncio.get_running_loop().create_task(change)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        return await asyncio.shield(task)
