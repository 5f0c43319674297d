"""One service's backends in the order of their positions, and what follows from that order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harbor.model import Address, Backend, BackendView, Policy, Removal, Route, Service, State
from harbor.model.health import HealthCheck
from harbor.policy.admission import parse_host
from harbor.policy.effects import AllDown, Effect, Promoted, Release, RoutesChanged, Row
from harbor.policy.health import Standing

ROUTED: Final = (State.UP, State.DOWN)
CHECKED: Final = (State.STARTING, State.UP, State.DOWN)  # nobody asks one that leaves how it is
Check = tuple[HealthCheck, Address]  # and the backend's address, to which the check may have a port of its own


class Entry:
    """One life of a backend. Times are monotonic; a time that is None is not awaited."""

    __slots__ = (
        "address",
        "backend",
        "check",
        "deregistered",
        "drain_until",
        "expires",
        "last_failure",
        "position",
        "queue",
        "retry_at",
        "since",
        "standing",
        "state",
    )

    def __init__(
        self,
        queue: Queue,
        backend: Backend,
        position: int,
        address: Address | None,
        now: float,
        standing: Standing,
    ) -> None:
        self.queue = queue
        self.backend = backend
        self.position = position
        self.address = address
        self.state = State.STARTING
        self.since = now
        self.retry_at: float | None = None
        self.drain_until: float | None = None
        self.deregistered = False  # draining because it left, not because an operator wants it to
        self.last_failure: str | None = None
        self.standing = standing
        self.check: Check | None = None  # what whoever checks it was told last
        self.renew(backend, now)

    @property
    def is_draining(self) -> bool:
        return self.state is State.DRAINING

    @property
    def ends_when_idle(self) -> bool:
        """Whether nothing holds it but its sessions; one that renews its lease stays, or it would come back up."""
        return self.is_draining and (self.deregistered or self.backend.ttl is None)

    @property
    def due_check(self) -> Check | None:
        """How and where it is to be checked; None if it is not."""
        how = self.queue.policy.health
        return None if how is None or self.address is None or self.state not in CHECKED else (how, self.address)

    def is_renewed_by(self, backend: Backend) -> bool:
        """Whether this registration is by the instance that is here already and changes no more than its ttl."""
        mine = self.backend
        same = (mine.host, mine.port, mine.instance) == (backend.host, backend.port, backend.instance)
        # Without a lease there are no heartbeats: such a registration is somebody's wish to have it back.
        wanted_back = self.deregistered or (self.is_draining and None in (mine.ttl, backend.ttl))
        return same and not wanted_back

    def renew(self, backend: Backend, now: float) -> None:
        """Begin the lease anew, with the ttl of this registration."""
        self.backend = backend
        self.expires = None if backend.ttl is None else now + backend.ttl

    def enter(self, state: State, now: float) -> None:
        self.state = state
        self.since = now
        policy = self.queue.policy
        self.retry_at = now + policy.fail_timeout if state is State.DOWN and policy.health is None else None
        if state is State.DOWN:
            self.standing.went_down(now)

    def due(self) -> float | None:
        """When something of it falls due next."""
        return min((at for at in (self.expires, self.retry_at, self.drain_until) if at is not None), default=None)

    def row(self) -> Row:
        return Row(self.position, self.backend, self.is_draining)

    def view(self, now: float, wall: float, active: int) -> BackendView:
        """As the API shows it; ``wall`` is Unix time at ``now``."""
        return BackendView(
            id=self.backend.id,
            host=self.backend.host,
            port=self.backend.port,
            state=self.state,
            since=wall - (now - self.since),
            active=active,
            ttl=self.backend.ttl,
            expires_in=None if self.expires is None else max(0.0, self.expires - now),
            instance=self.backend.instance,
            weight=self.backend.weight,
            last_failure=self.last_failure,
        )


class Queue:
    """A service, its policy and its backends by id, in queue order."""

    __slots__ = ("_had_primary", "all_down", "entries", "policy", "primary", "routes", "service")

    def __init__(self, service: Service, policy: Policy) -> None:
        self.service = service
        self.policy = policy
        self.entries: dict[str, Entry] = {}
        self.routes: tuple[Route, ...] = ()
        self.primary: str | None = None
        self.all_down = False  # there are backends to dial, but none that is up
        self._had_primary = False

    def place(self, entry: Entry) -> None:
        """Put a backend where its position says, usually at the end."""
        self.entries.pop(entry.backend.id, None)
        last = next(reversed(self.entries.values()), entry)
        self.entries[entry.backend.id] = entry
        if last.position > entry.position:
            self.entries = dict(sorted(self.entries.items(), key=lambda item: item[1].position))

    def is_last(self, entry: Entry) -> bool:
        """Whether the queue ends with this backend."""
        return entry is next(reversed(self.entries.values()), None)

    def is_behind_all_up(self, entry: Entry) -> bool:
        """Whether no backend that is up stands behind this one."""
        return not any(o.position > entry.position for o in self.entries.values() if o.state is State.UP)

    def release(self, entry: Entry, removal: Removal, keeps_flows: bool = False) -> Release:
        """The sessions of a backend come to the end that this removal means."""
        ends = {Removal.DRAIN: self.policy.drain_timeout, Removal.CUT: 0.0, Removal.KEEP: None}
        return Release(self.service.id, entry.backend.id, ends[removal], keeps_flows)

    def settle(self) -> list[Effect]:
        """Work out routes and primary anew and say what is different."""
        effects: list[Effect] = []
        routes = tuple(
            Route(
                entry.backend.id,
                entry.address,
                entry.state is State.UP,
                entry.backend.weight,
                entry.since,
                _name(entry.backend),
            )
            for entry in self.entries.values()
            if entry.state in ROUTED and entry.address is not None
        )
        if routes != self.routes:
            self.routes = routes
            effects.append(RoutesChanged(self.service.id))
        was, self.all_down = self.all_down, bool(routes) and not any(route.up for route in routes)
        if self.all_down and not was:
            effects.append(AllDown(self.service.id))
        before, self.primary = self.primary, _primary(routes)
        if self.primary is None or self.primary == before:
            return effects
        if self._had_primary and self.service.protocol.has_udp:
            effects.append(Promoted(self.service.id, before, self.primary))
        self._had_primary = True
        return effects

    def views(self, now: float, wall: float, active: Mapping[str, int]) -> tuple[BackendView, ...]:
        """All backends as the API shows them; ``active`` counts sessions by backend."""
        return tuple(entry.view(now, wall, active.get(id, 0)) for id, entry in self.entries.items())


def _name(backend: Backend) -> str | None:
    return backend.host.removesuffix(".") if parse_host(backend.host) is None else None


def _primary(routes: tuple[Route, ...]) -> str | None:
    first = next((route for route in routes if route.up), routes[0] if routes else None)
    return None if first is None else first.backend_id
