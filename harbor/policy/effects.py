"""What the node has to do after a decision of the registry.

Effects come in the order in which they are applied, with nothing in between: what was released is released
before new routes are in force, so that ``Release`` never meets sessions of a successor under the same id.
"""

from __future__ import annotations

from dataclasses import dataclass

from harbor.model import Backend, State


@dataclass(frozen=True, slots=True)
class RoutesChanged:
    """The service's ``routes()`` differ from before."""

    service_id: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A backend changed state. ``before`` is None for a new one; up → up is a new instance under an old id."""

    service_id: str
    backend_id: str
    before: State | None
    after: State
    why: str


@dataclass(frozen=True, slots=True)
class CheckChanged:
    """Whether, how or where the backend is checked differs, or it began a new life: ``check_of`` says what to do."""

    service_id: str
    backend_id: str


@dataclass(frozen=True, slots=True)
class AllDown:
    """No backend of the service is up any more, so those that are down get its traffic (fail open)."""

    service_id: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """Another backend is primary of a service with UDP; ``before`` is None when for a while there was none.

    Not said of the first primary a service has, nor when it loses its last one: nobody takes over from anybody.
    """

    service_id: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Release:
    """The sessions that the backend has now end within so many seconds: 0 at once, None when they like.

    Unless ``keeps_flows``, those of UDP move on with their next datagram.
    """

    service_id: str
    backend_id: str
    within: float | None
    keeps_flows: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """The backend has a new place in the queue: save its ``row()``."""

    service_id: str
    backend_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The lease of the backend ran out: delete its row, unless ``row()`` has one again by then."""

    service_id: str
    backend_id: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The backend is forgotten: delete its row if there is one, unless ``row()`` has one again by then."""

    service_id: str
    backend_id: str


Effect = RoutesChanged | StateChanged | CheckChanged | AllDown | Promoted | Release | Moved | Expired | Gone


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration was: new, a mere renewal of the lease (perhaps with another ttl), or else a change."""

    created: bool
    renewed: bool
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A backend as it has to be on disk."""

    position: int
    backend: Backend
    draining: bool = False
