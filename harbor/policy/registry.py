"""Which services exist, which backends each has, and what becomes of them: decided here, done by the node.

Theory. Every method decides at once, changes this registry and returns effects; the node applies them. The
node serialises the changes of a service and makes them durable first: it asks ``plan`` for the row to save,
commits it, then calls ``register``. Only ``tick`` and news from the data plane may come in between. The rows
they concern (``Moved``, ``Expired``, ``Gone``) are saved or deleted in their turn, as ``row`` has them by then.

The queue of a service is the order of positions, and positions only grow. A backend joins the end when it
registers, when it fails, and when it comes back up before others that are up: so the primary of a UDP service
never loses its place to one that returns, not even over a restart of the node. A name that is resolved late keeps
the place that its registration gave it. The primary is the first backend that is up. If none is up it is the
first that is down (fail open): trying costs little, and the failure may be over. One that is starting gets
nothing, as it was never seen to work.

Each backend has one deadline, the soonest of lease, retry and drain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harbor.errors import NotFound, Refused
from harbor.model import Address, Backend, BackendView, Policy, Removal, Route, Service, ServiceWish, State
from harbor.model.policy import Failback
from harbor.policy.deadlines import Deadlines
from harbor.policy.effects import CheckChanged, Effect, Expired, Gone, Moved, Registered, Row, StateChanged
from harbor.policy.health import Standing
from harbor.policy.lifecycle import Event, after
from harbor.policy.naming import shown
from harbor.policy.queue import Check, Entry, Queue

Effects = tuple[Effect, ...]

NOT_CHECKED: Final = "it is not checked any more"


class Registry:
    """The services of a node and their backends. Callers pass ``now`` in monotonic seconds."""

    __slots__ = ("_by_name", "_by_origin", "_by_port", "_deadlines", "_draining", "_position", "_queues")

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._by_name: dict[str, str] = {}
        self._by_origin: dict[tuple[str, str], str] = {}  # platform and its own id for the service -> service id
        self._by_port: dict[int, list[str]] = {}  # port -> ids of services, in the order in which they came
        self._deadlines: Deadlines[Entry] = Deadlines()
        self._draining: dict[Entry, None] = {}  # an ordered set
        self._position = 0

    def __repr__(self) -> str:
        states = [entry.state for queue in self._queues.values() for entry in queue.entries.values()]
        counts = ", ".join(f"{states.count(state)} {state.value}" for state in State if state in states)
        return f"<Registry [{len(self._queues)} services | {len(states)} backends{counts and f': {counts}'}]>"

    # Services

    def add(self, service: Service, policy: Policy) -> None:
        """Add a service. Errors: ``Refused`` (``service_exists``) if its id or name is in use."""
        if service.id in self._queues:
            raise Refused(f"there is a service with the id {shown(service.id)} already", code="service_exists")
        self._claim_name(service)
        self._queues[service.id] = Queue(service, policy)
        self._by_port.setdefault(service.port, []).append(service.id)
        origin = origin_of(service)
        if origin is not None:
            self._by_origin[origin] = service.id

    def replace(self, service: Service, policy: Policy, now: float) -> Effects:
        """Let the service of this id be this one from now on; its backends, its port and its origin stay.

        Backends that are not checked any more are up; those that are checked from now on, or in another way, stay what
        they are until checks say otherwise. Errors: as ``find`` and ``add``.
        """
        queue = self._queue(service.id)
        self._claim_name(service)
        if service.name != queue.service.name:
            del self._by_name[queue.service.name]
        before, queue.service, queue.policy = queue.policy, service, policy
        effects: list[Effect] = []
        if policy.health != before.health:
            for entry in list(queue.entries.values()):
                effects += self._judge_anew(entry, now)
        return (*effects, *queue.settle())

    def remove(self, service_id: str) -> Service:
        """Forget a service and its backends. Errors: ``NotFound`` (``service_not_found``)."""
        queue = self._queue(service_id)
        for entry in list(queue.entries.values()):
            self._forget(entry)
        del self._queues[service_id]
        del self._by_name[queue.service.name]
        there = self._by_port[queue.service.port]
        there.remove(service_id)
        if not there:
            del self._by_port[queue.service.port]
        origin = origin_of(queue.service)
        if origin is not None:
            self._by_origin.pop(origin, None)
        return queue.service

    def find(self, ref: str) -> Service:
        """The service with this id or name. Errors: ``NotFound`` (``service_not_found``)."""
        return self._queue(ref if ref in self._queues else self._by_name.get(ref, ref)).service

    def from_origin(self, platform: str, instance_id: str) -> Service | None:
        """The service that this platform knows by this id of its own."""
        service_id = self._by_origin.get((platform, instance_id))
        return None if service_id is None else self._queue(service_id).service

    def on_port(self, port: int) -> list[Service]:
        """The services that have this port, the first to come first."""
        return [self._queue(service_id).service for service_id in self._by_port.get(port, ())]

    def __contains__(self, ref: object) -> bool:
        """Whether a service has this id or name."""
        return ref in self._queues or ref in self._by_name

    def services(self) -> list[Service]:
        """All services, by name."""
        return [self._queues[self._by_name[name]].service for name in sorted(self._by_name)]

    def policy(self, service_id: str) -> Policy:
        return self._queue(service_id).policy

    # Backends come

    def next_position(self) -> int:
        """A place in the queue behind all that were ever given."""
        self._position += 1
        return self._position

    def restore(
        self, service_id: str, position: int, backend: Backend, address: Address | None, draining: bool, now: float
    ) -> None:
        """Put back a backend at start, in any order; a lease gets one fresh ttl.

        One that is checked is taken for up until its first check, which decides alone: a restart of the node
        is no news of the app. One that was draining has no sessions left: the caller follows with ``idle``.
        """
        entry = self._begin(self._queue(service_id), backend, position, address, now, Standing(proven=False))
        if address is not None and entry.state is State.STARTING:
            entry.enter(after(entry.state, Event.RESOLVED), now)
        if draining:
            self._step(entry, Event.DRAIN, now, "")
        self._settle(entry)

    def known(self, service_id: str, backend_id: str) -> Backend | None:
        """The backend as it registered last; None if it never did or has been deregistered since."""
        row = self.row(service_id, backend_id)
        return None if row is None else row.backend

    def row(self, service_id: str, backend_id: str) -> Row | None:
        """The backend as it has to be on disk; None if it must not be there."""
        entry = self._entry(service_id, backend_id)
        return None if entry is None or entry.deregistered else entry.row()

    def plan(self, service_id: str, backend: Backend) -> Row | None:
        """What has to be saved before this registration is applied; None for a mere heartbeat."""
        entry = self._queue(service_id).entries.get(backend.id)
        if entry is None or not entry.is_renewed_by(backend):
            return Row(self.next_position(), backend)
        return None if entry.backend == backend else Row(entry.position, backend, entry.is_draining)

    def register(
        self, service_id: str, backend: Backend, position: int | None, address: Address | None, now: float
    ) -> Registered:
        """Register a backend, or renew its lease.

        ``position`` is the planned one, None draws one. ``address`` is where to dial it, admitted; None while its
        name is not resolved. A registration that equals the present one but for the ttl renews the lease and
        touches neither state nor queue nor address: what is down stays down until its retry is due, what an operator
        drains stays draining. Without a ttl it is no heartbeat, and brings back what is down, unless that is
        checked. Any other registration is a new instance at the end of the queue.
        """
        queue = self._queue(service_id)
        old = queue.entries.get(backend.id)
        if old is not None and old.is_renewed_by(backend):
            old.renew(backend, now)
            back: list[Effect] = []
            if old.retry_at is not None and backend.ttl is None:
                # Without a lease there are no heartbeats: somebody says that it is back.
                back = [self._step(old, Event.RETRY_DUE, now, "registered again"), *self._rejoin(old)]
            return Registered(created=False, renewed=True, effects=self._settle(old, back))
        if old is not None:
            self._forget(old)
        entry = self._begin(queue, backend, self.next_position() if position is None else position, address, now)
        created = old is None or old.deregistered
        why = "registered" if created else "registered again as a new instance"
        effects: list[Effect] = [
            StateChanged(service_id, backend.id, None if old is None else old.state, entry.state, why)
        ]
        if old is not None and not old.is_draining:  # the sessions of one that drains have their end already
            effects.append(queue.release(old, queue.policy.removal))
        effects += self._rejoin(entry)  # while the planned row was being saved, others may have joined
        if old is not None and old.check is not None:
            entry.check = None
            effects += self._watch(entry, anew=True)
        return Registered(created, renewed=False, effects=self._settle(entry, effects))

    def resolved(self, service_id: str, backend_id: str, address: Address, now: float) -> Effects:
        """The backend's name has this admitted address: new sessions go there, running ones stay where they are."""
        entry = self._entry(service_id, backend_id)
        if entry is None:
            return ()
        if address != entry.address:
            entry.address = address
            entry.standing.begin_anew()
        if entry.state is not State.STARTING or entry.due_check is not None:
            return self._settle(entry)
        return self._settle(entry, [self._step(entry, Event.RESOLVED, now, f"{entry.backend.host} is {address.host}")])

    # Backends go

    def deregister(self, service_id: str, backend_id: str, now: float) -> Effects:
        """Take a backend out, as the removal policy says. Errors: ``NotFound`` (``backend_not_found``).

        Doing it again changes nothing, unless the policy has become stricter meanwhile.
        """
        entry = self._must(service_id, backend_id)
        return self._settle(entry, self._leave(entry, now, "deregistered"))

    def drain(self, service_id: str, backend_id: str, now: float) -> Effects:
        """Give a backend no new sessions, as an operator asks. Errors: ``NotFound`` (``backend_not_found``)."""
        entry = self._must(service_id, backend_id)
        if entry.is_draining:
            return ()
        step = self._step(entry, Event.DRAIN, now, "drained by an operator")
        entry.drain_until = now + entry.queue.policy.drain_timeout
        return self._settle(entry, [step, entry.queue.release(entry, Removal.DRAIN, keeps_flows=True)])

    def failed(self, service_id: str, backend_id: str, detail: str, now: float) -> Effects:
        """A dial failed, or a datagram was refused. News of a backend that is not up (any more) changes no state.

        A failure of one that is down does not put off its retry: the rhythm is the same under any load.
        """
        entry = self._entry(service_id, backend_id)
        if entry is None or entry.state not in (State.UP, State.DOWN):
            return ()
        entry.last_failure = detail
        if not entry.standing.dial_failed(entry.queue.policy, entry.state, now):
            return ()
        return self._settle(entry, [self._step(entry, Event.FAILED, now, detail), *self._to_the_end(entry)])

    # Checks

    def check_of(self, service_id: str, backend_id: str) -> Check | None:
        """How and where the backend is to be checked; None if it is not."""
        entry = self._entry(service_id, backend_id)
        return None if entry is None else entry.due_check

    def checks(self) -> list[tuple[str, str]]:
        """Service and backend of all that are to be checked."""
        entries = (entry for queue in self._queues.values() for entry in queue.entries.values())
        return [(entry.queue.service.id, entry.backend.id) for entry in entries if entry.due_check is not None]

    def checked(self, service_id: str, backend_id: str, failure: str | None, now: float) -> Effects:
        """A check passed, or failed for a reason in words. News of a backend that is not checked changes nothing.

        One that was starting keeps the place that its registration gave it.
        """
        entry = self._entry(service_id, backend_id)
        if entry is None or entry.due_check is None:
            return ()
        how, state = entry.due_check[0], entry.state
        if failure is None:
            if not entry.standing.passed(how, state):
                return ()
            back = self._rejoin(entry) if state is State.DOWN else []
            return self._settle(entry, [self._step(entry, Event.CHECK_PASSED, now, "it passes its checks"), *back])
        entry.last_failure = failure
        if not entry.standing.failed(how, state, now - entry.since):
            return ()
        return self._settle(entry, [self._step(entry, Event.CHECK_FAILED, now, failure), *self._to_the_end(entry)])

    def idle(self, service_id: str, backend_id: str) -> Effects:
        """The backend has no sessions. One that drains is gone by that, unless it still renews its lease."""
        entry = self._entry(service_id, backend_id)
        if entry is None or not entry.ends_when_idle:
            return ()
        return self._settle(entry, self._end(entry, Event.IDLE, "its last session ended"))

    # Time passes

    def next_deadline(self) -> float | None:
        """When ``tick`` has something to do next."""
        return self._deadlines.next()

    def tick(self, now: float) -> Effects:
        """Do what has fallen due: leases that ran out, retries, drains that are over."""
        effects: list[Effect] = []
        entries = self._deadlines.due(now)
        for entry in entries:
            effects += self._fall_due(entry, now)
            self._rearm(entry)
            effects += self._watch(entry)
        for queue in dict.fromkeys(entry.queue for entry in entries):
            effects += queue.settle()
        return tuple(effects)

    # What there is

    def routes(self, service_id: str) -> tuple[Route, ...]:
        """The backends that may get sessions, in queue order."""
        return self._queue(service_id).routes

    def primary(self, service_id: str) -> str | None:
        """The backend that gets the datagrams."""
        return self._queue(service_id).primary

    def all_down(self, service_id: str) -> bool:
        """Whether the traffic goes to backends that are down, because none is up."""
        return self._queue(service_id).all_down

    def draining(self) -> list[tuple[str, str]]:
        """Service and backend of all that drain, the first to begin first."""
        return [(entry.queue.service.id, entry.backend.id) for entry in self._draining]

    def backends(self, service_id: str, now: float, wall: float, active: Mapping[str, int]) -> tuple[BackendView, ...]:
        """All backends of a service in queue order; ``wall`` is Unix time at ``now``, ``active`` counts sessions."""
        return self._queue(service_id).views(now, wall, active)

    # Inside

    def _claim_name(self, service: Service) -> None:
        # A name that is another's id would be found as that other.
        taken = self._by_name.get(service.name, service.name if service.name in self._queues else service.id)
        if taken != service.id:
            raise Refused(f"there is a service {shown(service.name)} already", code="service_exists")
        self._by_name[service.name] = service.id

    def _queue(self, service_id: str) -> Queue:
        try:
            return self._queues[service_id]
        except KeyError:
            raise NotFound(f"there is no service {shown(service_id)}", code="service_not_found") from None

    def _entry(self, service_id: str, backend_id: str) -> Entry | None:
        queue = self._queues.get(service_id)
        return None if queue is None else queue.entries.get(backend_id)

    def _must(self, service_id: str, backend_id: str) -> Entry:
        queue = self._queue(service_id)
        try:
            return queue.entries[backend_id]
        except KeyError:
            raise NotFound(
                f"service {queue.service.name} has no backend {shown(backend_id)}", code="backend_not_found"
            ) from None

    def _begin(
        self,
        queue: Queue,
        backend: Backend,
        position: int,
        address: Address | None,
        now: float,
        standing: Standing | None = None,
    ) -> Entry:
        self._position = max(self._position, position)
        entry = Entry(queue, backend, position, address, now, standing or Standing())
        if address is not None and queue.policy.health is None:
            entry.enter(after(entry.state, Event.RESOLVED), now)
        queue.place(entry)
        return entry

    def _step(self, entry: Entry, event: Event, now: float, why: str) -> StateChanged:
        before = entry.state
        entry.enter(after(before, event), now)
        if entry.is_draining:
            self._draining[entry] = None
        return StateChanged(entry.queue.service.id, entry.backend.id, before, entry.state, why)

    def _leave(self, entry: Entry, now: float, why: str) -> list[Effect]:
        """Deregister: by ``removal: drain`` what is not draining yet begins to, else it is gone at once."""
        removal, was_draining = entry.queue.policy.removal, entry.is_draining
        effects: list[Effect] = []
        if removal is not Removal.DRAIN:
            effects.append(self._step(entry, Event.REMOVED, now, why))
        elif not was_draining:
            effects.append(self._step(entry, Event.DEREGISTERED, now, why))
            entry.drain_until = now + entry.queue.policy.drain_timeout
        if removal is Removal.CUT or not was_draining:
            effects.append(entry.queue.release(entry, removal))
        entry.deregistered, entry.expires = True, None
        if entry.state is State.GONE:
            effects.append(self._forget(entry))
        elif entry.drain_until is None:  # an operator drained it and the time for that is over
            effects += self._end(entry, Event.DRAIN_OVER, why)
        return effects

    def _fall_due(self, entry: Entry, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if entry.expires is not None and entry.expires <= now:
            effects.append(Expired(entry.queue.service.id, entry.backend.id))
            effects += self._leave(entry, now, f"its lease of {entry.backend.ttl:g} s ran out")
        if entry.is_draining and entry.drain_until is not None and entry.drain_until <= now:
            entry.drain_until = None
            if entry.ends_when_idle:
                effects += self._end(entry, Event.DRAIN_OVER, "its drain_timeout ran out")
        if entry.retry_at is not None and entry.retry_at <= now:
            effects.append(self._step(entry, Event.RETRY_DUE, now, "tried again"))
            effects += self._rejoin(entry)
        return effects

    def _rejoin(self, entry: Entry) -> list[Effect]:
        """Send a backend that is back up behind all that are up; one that is behind them keeps its place."""
        return [] if entry.queue.is_behind_all_up(entry) else self._to_the_end(entry)

    def _to_the_end(self, entry: Entry) -> list[Effect]:
        if entry.queue.is_last(entry) or entry.queue.policy.failback is Failback.RETURN:
            return []
        entry.position = self.next_position()
        entry.queue.place(entry)
        return [Moved(entry.queue.service.id, entry.backend.id, entry.position)]

    def _judge_anew(self, entry: Entry, now: float) -> list[Effect]:
        """Another check is in force, or none."""
        effects: list[Effect] = []
        entry.standing.begin_anew()
        if entry.queue.policy.health is not None:
            entry.retry_at = None
        elif entry.state is State.DOWN:
            effects = [self._step(entry, Event.RETRY_DUE, now, NOT_CHECKED), *self._rejoin(entry)]
        elif entry.state is State.STARTING and entry.address is not None:
            effects = [self._step(entry, Event.RESOLVED, now, NOT_CHECKED)]
        self._rearm(entry)
        return [*effects, *self._watch(entry)]

    def _watch(self, entry: Entry, anew: bool = False) -> list[Effect]:
        """Say so if the backend is to be checked in another way than whoever does it was told last."""
        before, entry.check = entry.check, entry.due_check
        same = entry.check == before and not anew
        return [] if same else [CheckChanged(entry.queue.service.id, entry.backend.id)]

    def _end(self, entry: Entry, event: Event, why: str) -> list[Effect]:
        return [self._step(entry, event, entry.since, why), self._forget(entry)]

    def _forget(self, entry: Entry) -> Gone:
        del entry.queue.entries[entry.backend.id]
        self._deadlines.set(entry, None)
        self._draining.pop(entry, None)
        return Gone(entry.queue.service.id, entry.backend.id)

    def _rearm(self, entry: Entry) -> None:
        self._deadlines.set(entry, None if entry.state is State.GONE else entry.due())

    def _settle(self, entry: Entry, effects: list[Effect] | None = None) -> Effects:
        """Arm the deadline anew and close the list of effects with what follows for routes and primary."""
        self._rearm(entry)
        return (*(effects or ()), *self._watch(entry), *entry.queue.settle())


def origin_of(made: Service | ServiceWish) -> tuple[str, str] | None:
    """Which platform asked for a service, and by which id the platform knows it; None if no platform did."""
    platform, instance_id = made.origin.get("platform"), made.origin.get("instance_id")
    return None if platform is None or instance_id is None else (str(platform), str(instance_id))
