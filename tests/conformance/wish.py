"""What a case wants of a proxy, in Harbor's words; each proxy has a module that says it in its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harbor.model import Address
from support.pairs import Made


class Lacks(Exception):
    """The proxy has nothing of the kind."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A port in front of ``backends``. ``weights`` are theirs, in their order; timeouts are seconds, 0 for none.

    With ``certificates`` TLS ends at the proxy, and ``clients_by`` says who must have signed its clients. With
    ``backends_by`` TLS is spoken to the backends, which have to show ``backend_name``, signed by it. ``names`` routes
    TLS untouched by its server name; the backends then take all other names.
    """

    backends: tuple[Address, ...]
    host: str = "127.0.0.1"
    udp: bool = False
    weights: tuple[int, ...] = ()
    balance: str = "round_robin"
    max_sessions_per_backend: int = 0
    connect_timeout: float = 5
    idle_timeout: float = 0
    udp_timeout: float = 60
    udp_responses: int = 0
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    proxy_protocol: str = "off"
    accept_proxy: tuple[str, ...] = ()
    certificates: tuple[Made, ...] = ()
    min_version: str = "1.2"
    alpn: tuple[str, ...] = ()
    clients_by: Made | None = None
    backends_by: Made | None = None
    backend_name: str = ""
    names: Mapping[str, Address] = field(default_factory=dict)

    @property
    def weighted(self) -> list[tuple[Address, int]]:
        """Each backend with its weight."""
        return list(zip(self.backends, self.weights or (1,) * len(self.backends), strict=True))
