"""TCP: a client is accepted, a session is dialled at once, and two streams carry it.

    Acceptor → TcpListener → Dial (rotation.pick, connect) → TcpSession with two Streams

A backend is dialled before the client has said anything, so protocols in which the server speaks first work. A dial
that fails goes on to the other backends, each once, within one ``connect_timeout``; the client
notices nothing but the wait.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from harbor.dataplane.acceptor import Acceptor, Taker
from harbor.dataplane.backend_tls import BackendDoor
from harbor.dataplane.budget import PER_TCP_SESSION
from harbor.dataplane.dial import Dial, Waiting
from harbor.dataplane.http import PAGES
from harbor.dataplane.newcomers import Newcomer
from harbor.dataplane.pacing import pacer_for
from harbor.dataplane.proxy_protocol import listen_to_proxy, proxies_of
from harbor.dataplane.reactor import STREAM_EDGES, Reactor
from harbor.dataplane.session import TcpSession
from harbor.dataplane.sockets import plain_address
from harbor.dataplane.tally import Tally
from harbor.dataplane.tls import Door, Handshake
from harbor.dataplane.waiting import WaitingRoom
from harbor.model import Policy, ProxyProtocol, Reason
from harbor.policy.http import HttpRelay
from harbor.policy.limits import Gate, gate_of
from harbor.policy.rotation import Slot, rotation_for

if TYPE_CHECKING:
    from harbor.dataplane.plane import DataPlane
    from harbor.dataplane.shared_port import SharedPort

GROWN_UP: Final = 10.0  # seconds after which a session gets the options that short ones do without
SWEEP: Final = 5.0  # seconds between looks at the sessions of a service

_set_blocking: Final = os.set_blocking


class TcpListener(Taker):
    """The TCP half of a service: the sessions that come of the clients of its port.

    Closing: ``close()`` stops listening at once and leaves the sessions; the plane ends those.
    """

    def __init__(
        self,
        plane: DataPlane,
        service_id: str,
        entrance: Acceptor | SharedPort,
        policy: Policy,
        door: Door | None = None,
        is_http: bool = False,
    ) -> None:
        self.plane = plane
        self.reactor: Reactor = plane.reactor
        self.door = door
        self.backend_door: BackendDoor | None = None  # where the service speaks TLS to its backends
        self.port = entrance.port
        self.family = entrance.family
        self._says_http = is_http
        self.service_id = service_id
        self.policy = policy
        self.rotation = rotation_for(policy.balance, policy.slow_start)
        self._take_proxies(policy)
        self._pacer = pacer_for(self.reactor, policy)
        self.tally = Tally()
        self.sessions: dict[int, TcpSession] = {}
        self.gate: Gate[TcpSession] | None = None  # what new clients have to pass, if anything
        self.room: WaitingRoom | None = None  # where clients wait when the service is full, if anywhere
        self._entrance = entrance
        self._sweeping = False
        self.follow(policy)

    @property
    def is_http(self) -> bool:
        """Whether new sessions are read as HTTP."""
        return self._says_http if self.policy.http is None else self.policy.http

    def follow(self, policy: Policy) -> None:
        """Go by another policy from the next decision on."""
        former, self.policy = self.policy, policy
        self._take_proxies(policy)
        if policy.bandwidth != former.bandwidth:
            self._pacer = pacer_for(self.reactor, policy)
            for session in self.sessions.values():
                session.pace(None if self._pacer is None else self._pacer.of_session())
        if (policy.balance, policy.slow_start) != (former.balance, former.slow_start):
            slots = self.rotation.slots
            self.rotation = rotation_for(policy.balance, policy.slow_start)
            self.rotation.replace(slots)
        self.gate = gate_of(policy, self.gate)
        if self.gate is not None and self.gate.counts:
            for session in self.sessions.values():
                self.gate.take_in(session.client_host, session)
        if policy.queue is not None and self.room is None:
            self.room = WaitingRoom(self, policy.queue)
        if self.room is not None:
            self.room.follow(policy.queue)
            self.room.move()

    def turn_to(self, slots: list[Slot]) -> None:
        """Give new sessions to these backends."""
        self.rotation.replace(slots)
        if self.room is not None:
            self.room.move()

    def open(self) -> None:
        """Begin to accept."""
        self._entrance.open(self)

    def take(self, names: Sequence[str]) -> None:
        """Take clients who ask for these names from now on, where the port is one that may be shared."""
        if not isinstance(self._entrance, Acceptor):
            self._entrance.take(self, names)

    def close(self) -> None:
        """Stop listening, and end those who have no session yet."""
        self._entrance.close(self)
        self.plane.newcomers.forget(self)

    def accepted(self, client: int, address: Any) -> None:
        """A client has come: it gets its session, or has to shake hands first."""
        self.tally.opened += 1
        if self.proxies is not None:
            listen_to_proxy(self, self.proxies, client, address)
            return
        if self.door is None:
            _set_blocking(client, False)
        self.introduced(client, address, self.reactor.now)

    def introduced(self, client: int, address: Any, accepted: float) -> None:
        """It is known who the client is, which was accepted at that time."""
        if self.gate is not None and self._turns_away(self.gate, client, address):
            return
        if self.door is None:
            self._admit(client, address, None)
        else:
            self._shake(self.door, client, address, accepted)

    def _take_proxies(self, policy: Policy) -> None:
        self.proxies = proxies_of(policy.accept_proxy)
        self._trusted = proxies_of(policy.trusted_proxies)  # in HTTP, about those for whom they ask
        self.announces = policy.proxy_protocol not in (ProxyProtocol.OFF, ProxyProtocol.SIMPLE)

    def _turns_away(self, gate: Gate[TcpSession], client: int, address: Any) -> bool:
        """Whether a client is not wanted; it is gone then, before it costs a handshake.

        Where HTTP is spoken in TLS only its address counts as yet: whoever is to be told why has to shake hands first.
        """
        host = plain_address(address).host
        if self.door is not None and self.is_http:
            reason = Reason.ACL_DENIED if gate.denies(host) else None
        else:
            reason = gate.refuses(host, self.reactor.now)
        if reason is None:
            return False
        self._refuse(client, address, None, reason)
        return True

    def _shake(self, door: Door, client: int, address: Any, accepted: float) -> None:
        try:
            handshake = Handshake(self, door, client, address, accepted)
        except OSError:  # OpenSSL has no memory for it; the socket object has closed the descriptor
            self.lost(Reason.TLS_HANDSHAKE_FAILED, PER_TCP_SESSION)
            return
        handshake.is_checked = self.gate is not None and not self.is_http
        self.plane.newcomers.take_in(handshake, STREAM_EDGES)

    def heard(self, newcomer: Newcomer) -> None:
        """A client has said what it had to: now it gets its session."""
        client, address, gate = newcomer.sock.fileno(), newcomer.address, self.gate
        if gate is not None:
            host = plain_address(address).host
            if not newcomer.is_checked:
                reason = gate.refuses(host, self.reactor.now)
            else:
                reason = Reason.LIMIT_SOURCE if gate.is_full(host) else None  # others may have been faster
            if reason is not None:
                self._refuse(client, address, newcomer, reason)
                return
        self._admit(client, address, newcomer)

    def lost(self, reason: Reason, freed: int) -> None:
        """A client never came to have a session; so many of its descriptors are free now."""
        self.tally.closed[reason] += 1
        self.plane.descriptors.give(freed)

    def _refuse(self, client: int, address: Any, newcomer: Newcomer | None, reason: Reason) -> None:
        """End the connection of a client; in HTTP it is told why."""
        if self.is_http and reason in PAGES:
            self._session(client, address, newcomer).unreachable(reason)
        else:
            self.lost(reason, PER_TCP_SESSION)
            self.reactor.discard(client if newcomer is None else newcomer.sock.detach())

    def _admit(self, client: int, address: Any, newcomer: Newcomer | None) -> None:
        most, room = self.policy.max_sessions, self.room
        if room is not None and (len(room) or not self._may_have_more()):
            reason = Reason.LIMIT_BACKEND if self._may_have_more() else Reason.LIMIT_SERVICE
            session = self._session(client, address, newcomer)
            if not room.take_in(session, newcomer is not None):
                session.unreachable(reason)
        elif most and room is None and len(self.sessions) >= most:
            self._refuse(client, address, newcomer, Reason.LIMIT_SERVICE)
        else:
            self.begin(self._session(client, address, newcomer), newcomer is not None)

    def _session(self, client: int, address: Any, newcomer: Newcomer | None) -> TcpSession:
        session = TcpSession(self, client, address, self.plane.next_session_id())
        self.sessions[session.id] = session
        if not self._sweeping:
            self._sweep_later()
        if self._pacer is not None:
            session.pacing = self._pacer.of_session()
        if newcomer is not None:
            session.take_over(newcomer)
        if self.gate is not None:
            self.gate.take_in(session.client_host, session)
        if self.is_http:
            scheme: Literal["https", "http"] = "http" if session.tls is None else "https"
            hsts = f"max-age={self.policy.hsts}" if self.policy.hsts else None
            client_address = plain_address(address)
            trusted = self._trusted is not None and self._trusted.has(client_address.host)
            session.http = HttpRelay(client=client_address, port=self.port, scheme=scheme, trusted=trusted, hsts=hsts)
        return session

    def begin(self, session: TcpSession, is_watched: bool, may_wait: bool = True) -> None:
        """Look for a backend, now. ``may_wait``: if all are full, the session may wait for one that is not."""
        dial = session.dial = Dial(session, is_watched, may_wait)
        if is_watched:
            self.reactor.hand_over(session.client, Waiting(dial))
        dial.advance()

    def lets_wait(self, dial: Dial) -> bool:
        """Whether a session waits from now on for one of the backends that its dial passed over as full."""
        if self.room is None or len(dial.tried) >= len(self.rotation):
            return False
        if not self.room.take_in(dial.session, dial.client_watched):
            return False
        dial.session.dial = None
        return True

    def has_room(self) -> bool:
        """Whether the first of those who wait could go on to a backend."""
        return self._may_have_more() and self.rotation.has_room(self.policy.max_sessions_per_backend)

    def _may_have_more(self) -> bool:
        most, waiting = self.policy.max_sessions, 0 if self.room is None else len(self.room)
        return not most or len(self.sessions) - waiting < most

    def ended(self, session: TcpSession, reason: Reason, freed: int) -> None:
        """Take a session off the books; so many of its descriptors are free now."""
        tally = self.tally
        del self.sessions[session.id]
        tally.closed[reason] += 1
        tally.bytes_in += session.bytes_in
        tally.bytes_out += session.bytes_out
        if session.slot is not None:
            session.slot.active -= 1
        if self.gate is not None:
            self.gate.let_go(session.client_host, session)
        if self.room is not None:
            self.room.left(session)
        self.plane.descriptors.give(freed)
        if self.plane.session_ended is not None:
            self.plane.session_ended(session.view(time.monotonic(), time.time()), reason)

    def _sweep_later(self) -> None:
        self._sweeping = True
        policy = self.policy
        limits = (4 * SWEEP, policy.idle_timeout, policy.half_close_timeout, policy.max_session_age)
        self.reactor.loop.call_later(min(limit / 4 for limit in limits if limit), self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = time.monotonic()
        policy = self.policy
        all_of_them = bool(policy.idle_timeout or policy.half_close_timeout or policy.max_session_age)
        for session in list(self.sessions.values()):
            if (
                all_of_them
                or session.http is not None
                or (session.moved_before < 0 and now - session.started >= GROWN_UP)
            ):
                session.sweep(now, policy)
        if self.sessions:
            self._sweep_later()

    def why_nobody(self) -> Reason:
        """Why the rotation had nobody to offer."""
        return Reason.LIMIT_BACKEND if len(self.rotation) else Reason.NO_BACKEND
