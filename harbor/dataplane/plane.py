"""The data plane as the node drives it: open, close, set_backends, sessions, kill, counters, all in plain values.

The node never sees a socket, and the plane never decides: which backends are up, and in which order, it is told.
What it learns by trying, it reports to its observer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from harbor.dataplane.acceptor import Acceptor
from harbor.dataplane.backend_tls import BackendDoor
from harbor.dataplane.budget import PER_TCP_SESSION, PER_UDP_FLOW, Descriptors
from harbor.dataplane.dial import Dial
from harbor.dataplane.leaving import Leaving
from harbor.dataplane.newcomers import Newcomers
from harbor.dataplane.reactor import Reactor
from harbor.dataplane.session import TcpSession
from harbor.dataplane.shared_port import SharedPort
from harbor.dataplane.sockets import Liveness, bind_tcp, bind_udp, is_wildcard, plain_address, source_port_range
from harbor.dataplane.tcp import TcpListener
from harbor.dataplane.tls import Door, Handshakes
from harbor.dataplane.udp import UdpFlow, UdpPort
from harbor.dataplane.whois import with_local
from harbor.errors import PortTaken
from harbor.model import (
    Address,
    Drop,
    Opening,
    Policy,
    Reason,
    Route,
    ServiceCounters,
    SessionQuery,
    SessionView,
)
from harbor.model.tls import BackendTls, TlsTerms
from harbor.policy.rotation import Slot

DIAL_TICK: Final = 0.05  # seconds between looks at dials that have not been answered


class Observer(Protocol):
    """Who is told what the relays find out."""

    def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
        """A dial failed, or ICMP said that nobody listens there. May change the backends at once."""


class OpenPort:
    """Everything that the plane keeps for one service."""

    __slots__ = ("former", "opening", "slots", "tcp", "udp")

    def __init__(self, opening: Opening, tcp: TcpListener | None, udp: UdpPort | None) -> None:
        self.opening = opening
        self.tcp = tcp
        self.udp = udp
        self.slots: dict[tuple[str, Address], Slot] = {}  # of the backends that get new sessions
        self.former: list[Slot] = []  # of those that do not any more, as long as they have sessions

    def sessions(self) -> Iterator[TcpSession | UdpFlow]:
        """All live sessions, of both protocols."""
        if self.tcp is not None:
            yield from self.tcp.sessions.values()
        if self.udp is not None:
            yield from self.udp.flows

    def end(self, session: TcpSession | UdpFlow, reason: Reason) -> None:
        """End one session from our side."""
        if isinstance(session, TcpSession):
            session.abort(reason)
        elif self.udp is not None:
            self.udp.end(session, reason)

    def turn_to(self, routes: Sequence[Route]) -> None:
        """Give new sessions to these backends; counts of sessions go on where a backend is known already."""
        known, self.slots = self.slots, {}
        for route in routes:
            key = (route.backend_id, route.address)
            slot = self.slots[key] = known.pop(key) if key in known else Slot(*key)
            slot.up, slot.weight, slot.since = route.up, float(route.weight), route.since
            slot.host = route.host
        self.former = [slot for slot in (*self.former, *known.values()) if slot.active]
        current = list(self.slots.values())
        if self.tcp is not None:
            self.tcp.turn_to(current)
        if self.udp is not None:
            self.udp.primary = next((slot for slot in current if slot.up), current[0] if current else None)

    def active(self) -> dict[str, int]:
        """How many sessions each backend has, former backends included."""
        counts: Counter[str] = Counter()
        for slot in (*self.slots.values(), *self.former):
            counts[slot.backend_id] += slot.active
        return dict(counts)

    def counters(self) -> ServiceCounters:
        """Totals since the port was opened; what live sessions have moved is included."""
        total: Counter[str] = Counter()
        closed: Counter[Reason] = Counter()
        dropped: Counter[Drop] = Counter()
        for half in (self.tcp, self.udp):
            if half is not None:
                tally = half.tally
                total["opened"] += tally.opened
                total["bytes_in"] += tally.bytes_in
                total["bytes_out"] += tally.bytes_out
                total["datagrams_in"] += tally.datagrams_in
                total["datagrams_out"] += tally.datagrams_out
                closed.update(tally.closed)
        if self.udp is not None:
            dropped.update(self.udp.dropped())
        for session in self.sessions():
            total["active"] += 1
            total["bytes_in"] += session.bytes_in
            total["bytes_out"] += session.bytes_out
            if isinstance(session, UdpFlow):
                total["datagrams_in"] += session.datagrams_in
                total["datagrams_out"] += session.datagrams_out
        return ServiceCounters(**total, closed=closed, dropped=dropped, active_by_backend=self.active())

    def let_go(self, backend_id: str) -> list[Slot]:
        """Count a backend as former; returns what it was to the relays, as far as that has sessions."""
        for key in [key for key in self.slots if key[0] == backend_id]:
            self.former.append(self.slots.pop(key))
        return [slot for slot in self.former if slot.backend_id == backend_id and slot.active]

    def cut(self, leaving: Sequence[Slot], reason: Reason) -> None:
        """End the sessions of former backends, and the dials that are under way to them."""
        for session in list(self.sessions()):
            if session.slot in leaving:
                self.end(session, reason)
            elif isinstance(session, TcpSession) and session.dial is not None and session.dial.slot in leaving:
                session.dial.turn_away()


class DataPlane:
    """All listeners, relays and sessions of this process.

    Closing: ``close()`` ends every session with ``shutdown`` and closes every socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        observer: Observer,
        *,
        descriptors: Descriptors | None = None,
        liveness: Liveness | None = None,
        source_ports: bytes | None = None,
        session_ended: Callable[[SessionView, Reason], None] | None = None,
    ) -> None:
        self.reactor = Reactor(loop)
        self.observer = observer
        self.session_ended = session_ended  # told of every end; a line per session costs, so only who asks is told
        self.descriptors = descriptors or Descriptors.of_process()
        self.liveness = liveness or Liveness()
        self.source_ports = source_ports  # IP_LOCAL_PORT_RANGE of backend sockets, where it is needed
        self.source_port_range = source_port_range(source_ports)
        self.newcomers = Newcomers(self.reactor, self.descriptors)
        self.handshakes = Handshakes(self.reactor, self.newcomers)
        self.dialling: dict[Dial, None] = {}
        self.listening: set[Address] = set()  # the addresses of all ports
        self.shared: dict[Address, SharedPort] = {}  # those that services may share
        self.paused = 0  # listeners that wait for descriptors
        self.pauses = 0  # how often one had to
        self._ports: dict[str, OpenPort] = {}
        self._session_ids = 0
        self._dial_timer: asyncio.TimerHandle | None = None

    def bind(self, opening: Opening) -> None:
        """Bind the port, TCP and UDP both or neither, without serving it yet.

        Errors: ``PortTaken``, also when a certificate that the port is to show cannot be used.
        """
        assert opening.service_id not in self._ports
        door, backend_door = _doors(opening)
        tcp = self._listener(opening, door, backend_door) if opening.protocol.has_tcp else None
        try:
            udp = bind_udp(opening.host, opening.port) if opening.protocol.has_udp else None
        except BaseException:
            if tcp is not None:
                tcp.close()
            raise
        self.listening.add(Address(opening.host, opening.port))
        self._ports[opening.service_id] = OpenPort(
            opening,
            tcp,
            UdpPort(self, opening.service_id, udp, is_wildcard(opening.host), opening.policy) if udp else None,
        )

    def _listener(self, opening: Opening, door: Door | None, backend_door: BackendDoor | None) -> TcpListener:
        """Bind the TCP port, or join those who have it. Errors: ``PortTaken``."""
        where = Address(opening.host, opening.port)
        entrance: Acceptor | SharedPort
        if opening.server_names is None:
            entrance = Acceptor(self, bind_tcp(opening.host, opening.port, self.liveness))
        elif where in self.shared:
            entrance = self.shared[where]
        else:
            entrance = self.shared[where] = SharedPort(self, bind_tcp(*where, self.liveness), where)
        listener = TcpListener(self, opening.service_id, entrance, opening.policy, door, opening.http)
        listener.backend_door = backend_door
        listener.take(opening.server_names or ())
        return listener

    def open(self, service_id: str) -> None:
        """Serve a port that was bound."""
        port = self._ports[service_id]
        for half in (port.tcp, port.udp):
            if half is not None:
                half.open()

    def close_port(self, service_id: str, reason: Reason) -> None:
        """Close the port and end its sessions. A service that has no port is left alone."""
        port = self._ports.pop(service_id, None)
        if port is None:
            return
        for half in (port.tcp, port.udp):
            if half is not None:
                half.close()
        where = Address(port.opening.host, port.opening.port)
        if where not in self.shared:
            self.listening.discard(where)
        for session in list(port.sessions()):
            port.end(session, reason)

    def is_bound(self, service_id: str) -> bool:
        """Whether the service has its port."""
        return service_id in self._ports

    def set_policy(self, service_id: str, policy: Policy) -> None:
        """Apply another policy from the next decision on; live sessions stay."""
        port = self._ports.get(service_id)
        if port is not None:
            for half in (port.tcp, port.udp):
                if half is not None:
                    half.follow(policy)

    def set_tls(self, service_id: str, terms: TlsTerms) -> None:
        """Show these certificates from the next handshake on; live sessions stay. Unknown services are ignored.

        Errors: OSError (ssl.SSLError) if a certificate cannot be used; the former stay then.
        """
        port = self._ports.get(service_id)
        if port is not None and port.tcp is not None and port.tcp.door is not None:
            port.tcp.door.renew(terms)

    def set_backend_tls(self, service_id: str, terms: BackendTls | None) -> None:
        """Speak TLS to the backends of the next sessions like this, or not at all. Unknown services are ignored.

        Errors: OSError (ssl.SSLError) if what should verify them cannot be read; it stays as it was then.
        """
        port = self._ports.get(service_id)
        if port is not None and port.tcp is not None:
            door = port.tcp.backend_door
            if terms != (door.terms if door is not None else None):
                port.tcp.backend_door = BackendDoor(terms) if terms is not None else None

    def set_server_names(self, service_id: str, names: Sequence[str]) -> None:
        """Let a service that may share its port take these names from the next client on. Unknown ones are ignored."""
        port = self._ports.get(service_id)
        if port is not None and port.tcp is not None:
            port.tcp.take(names)

    def set_backends(self, service_id: str, routes: Sequence[Route]) -> None:
        """Send new sessions to these backends, in this order. Unknown services are ignored."""
        port = self._ports.get(service_id)
        if port is not None:
            port.turn_to(routes)

    def release(self, service_id: str, backend_id: str, within: float | None, keeps_flows: bool = False) -> None:
        """End the sessions that a backend has now within so many seconds: 0 at once, None when they like.

        UDP flows move to another backend with their next datagram, unless ``keeps_flows``.

        What registers under the same id later is another backend to the relays, and keeps its sessions.
        """
        port = self._ports.get(service_id)
        if port is None:
            return
        leaving = port.let_go(backend_id)
        for slot in leaving:
            slot.keeps_flows = keeps_flows
        if within is None or not leaving:
            return
        if within > 0:
            Leaving(self.reactor.loop, port, leaving, within)
        else:
            port.cut(leaving, Reason.BACKEND_REMOVED)

    def sessions(self, query: SessionQuery) -> list[SessionView]:
        """The live sessions that match, oldest first."""
        views = [self._view(port, session) for port, session in self._matching(query)]
        return sorted(views, key=lambda view: int(view.id))

    def whois(self, local: Address, query: SessionQuery) -> Iterator[SessionView | None]:
        """The live sessions that match and whose backend sees ``local`` as its peer; None when others should go on."""
        port_of = {session: port for port, session in self._matching(query)}
        for session in with_local(port_of, local):
            yield None if session is None else self._view(port_of[session], session)

    def kill(self, query: SessionQuery) -> int:
        """End the sessions that match; returns how many."""
        matching = list(self._matching(query))
        for port, session in matching:
            port.end(session, Reason.KILLED)
        return len(matching)

    def active(self, service_id: str) -> Mapping[str, int]:
        """How many sessions each backend of a service has."""
        port = self._ports.get(service_id)
        return {} if port is None else port.active()

    def counters(self, service_id: str) -> ServiceCounters:
        """What the service has counted since its port was opened."""
        port = self._ports.get(service_id)
        return ServiceCounters() if port is None else port.counters()

    def session_count(self) -> int:
        """How many sessions are live."""
        return self.connection_count() + sum(len(port.udp.flows) for port in self._ports.values() if port.udp)

    def connection_count(self) -> int:
        """How many of them are TCP."""
        return sum(len(port.tcp.sessions) for port in self._ports.values() if port.tcp)

    def stop_listening(self) -> None:
        """Take no more TCP connections; those that live go on, and so does UDP, which has no sessions to lose."""
        for port in self._ports.values():
            if port.tcp is not None:
                port.tcp.close()

    def close(self) -> None:
        """End everything."""
        for service_id in list(self._ports):
            self.close_port(service_id, Reason.SHUTDOWN)
        self.reactor.close()

    # What relays ask of the plane.

    def next_session_id(self) -> int:
        """A number that no session of this process has had."""
        self._session_ids += 1
        return self._session_ids

    def watch_dial(self, dial: Dial) -> None:
        """Remember that an attempt is under way, so that it ends when it is due."""
        self.dialling[dial] = None
        if self._dial_timer is None:
            self._dial_timer = self.reactor.loop.call_later(DIAL_TICK, self._look_at_dials)

    def take_for_session(self) -> bool:
        """Descriptors for a TCP session, at the cost of flows that were never answered if need be."""
        take = self.descriptors.take
        while not take(PER_TCP_SESSION):
            port = max(self._udp_ports(), key=lambda port: port.flows.unanswered, default=None)
            if port is None or not port.flows.unanswered:
                return False
            port.evict()
        return True

    def take_for_flow(self, port: UdpPort) -> bool:
        """A descriptor for a flow of ``port``, at the cost of another flow if need be.

        A flood on one port must not cost the others theirs: who has more than its share gives way itself, and
        only then the port with the most flows that were never answered.
        """
        if self.descriptors.take(PER_UDP_FLOW):
            return True
        ports = self._udp_ports()
        if len(port.flows) > self.descriptors.limit // len(ports):
            port.evict()
        else:
            max(ports, key=lambda other: (other.flows.unanswered, len(other.flows))).evict()
        return self.descriptors.take(PER_UDP_FLOW)

    def _udp_ports(self) -> list[UdpPort]:
        return [port.udp for port in self._ports.values() if port.udp is not None]

    def _look_at_dials(self) -> None:
        self._dial_timer = None
        now = time.monotonic()
        for dial in list(self.dialling):
            dial.look(now)
        if self.dialling:
            self._dial_timer = self.reactor.loop.call_later(DIAL_TICK, self._look_at_dials)

    def _view(self, port: OpenPort, session: TcpSession | UdpFlow) -> SessionView:
        now, wall = time.monotonic(), time.time()
        if isinstance(session, TcpSession):
            return session.view(now, wall)
        return session.view(port.opening.service_id, now, wall)

    def _matching(self, query: SessionQuery) -> Iterator[tuple[OpenPort, TcpSession | UdpFlow]]:
        network = ipaddress.ip_network(query.client, strict=False) if query.client is not None else None
        for port in self._ports.values():
            if query.service_id not in (None, port.opening.service_id):
                continue
            for session in port.sessions():
                if query.session_id not in (None, str(session.id)):
                    continue
                if query.backend_id is not None and (
                    session.slot is None or session.slot.backend_id != query.backend_id
                ):
                    continue
                if network is not None and ipaddress.ip_address(_client_host(session)) not in network:
                    continue
                yield port, session


def _doors(opening: Opening) -> tuple[Door | None, BackendDoor | None]:
    try:
        door = Door(opening.tls) if opening.tls is not None else None
    except OSError as error:
        raise PortTaken(f"TCP port {opening.port} cannot show its certificate: {error}") from error
    try:
        return door, BackendDoor(opening.backend_tls) if opening.backend_tls is not None else None
    except OSError as error:
        raise PortTaken(f"TCP port {opening.port} cannot check the certificates of its backends: {error}") from error


def _client_host(session: TcpSession | UdpFlow) -> str:
    address = session.client_address if isinstance(session, TcpSession) else session.client
    return plain_address(address).host.partition("%")[0]
