"""What survives a crash: the interface, in plain values. ``harbor.store.sqlite`` implements it.

Every change is a value; ``commit`` makes a sequence of them durable together or not at all. Reading
happens once, at start: after that the node's memory is the truth and the store follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harbor.model import Backend, Binding, Event, Service
from harbor.model.certificate import Source


@dataclass(frozen=True, slots=True)
class SaveService:
    """Insert or replace a service."""

    service: Service


@dataclass(frozen=True, slots=True)
class RemoveService:
    """Delete a service, its backends, its bindings and what it remembers of certificates."""

    service_id: str


@dataclass(frozen=True, slots=True)
class SaveBackend:
    """Insert or replace a backend; ``position`` orders the queue of its service, lowest first."""

    service_id: str
    position: int
    backend: Backend
    draining: bool = False


@dataclass(frozen=True, slots=True)
class RemoveBackend:
    """Delete a backend."""

    service_id: str
    backend_id: str


@dataclass(frozen=True, slots=True)
class SaveBinding:
    """Insert or replace a binding."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class RemoveBinding:
    """Delete a binding."""

    binding_id: str


@dataclass(frozen=True, slots=True)
class SaveCertificate:
    """Remember which certificate is served from a source; its file is found by ``digest``.

    ``owner`` is the id of a service, or empty for what belongs to the node; ``since`` is Unix time.
    """

    owner: str
    source: Source
    digest: str
    since: float


@dataclass(frozen=True, slots=True)
class RemoveCertificate:
    """Forget it."""

    owner: str
    source: Source


@dataclass(frozen=True, slots=True)
class RestPort:
    """Remember that a released port rests."""

    port: int


@dataclass(frozen=True, slots=True)
class WakePorts:
    """Forget that these ports rested."""

    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SaveEvent:
    """Append an event; the store keeps the newest ones only."""

    event: Event


@dataclass(frozen=True, slots=True)
class SaveReply:
    """Remember how a request with an Idempotency-Key was answered. ``fingerprint`` identifies the request."""

    key: str
    fingerprint: str
    body: Mapping[str, Any]


Change = (
    SaveService
    | RemoveService
    | SaveBackend
    | RemoveBackend
    | SaveBinding
    | RemoveBinding
    | SaveCertificate
    | RemoveCertificate
    | RestPort
    | WakePorts
    | SaveEvent
    | SaveReply
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the store holds. Backends come by service and position; bindings and events oldest first."""

    services: Sequence[Service] = ()
    backends: Sequence[SaveBackend] = ()
    bindings: Sequence[Binding] = ()
    certificates: Sequence[SaveCertificate] = ()
    resting: Sequence[int] = ()
    replies: Sequence[SaveReply] = ()
    events: Sequence[Event] = field(default=())


class Store(Protocol):
    """Durable state behind one writer.

    Errors: ``commit`` raises ``StoreFailed`` when nothing of the changes was kept; the store stays usable
    and a later commit may succeed.
    """

    @property
    def failure(self) -> str | None:
        """Why the latest commit failed, in words; None after one that succeeded."""

    def load(self) -> Snapshot:
        """All that is stored. Blocks; meant for the start."""

    def key(self) -> bytes:
        """A secret that belongs to this state and to no other, the same one each time. Blocks; meant for the start."""

    async def commit(self, *changes: Change) -> None:
        """Return once the changes are on disk, all of them."""

    async def close(self) -> None:
        """Finish what was asked for, then release the state directory."""
