"""For whom a peer of ours forwards, and for whom we do: PROXY headers on sockets.

    TcpListener → Introduction (header, deadline) → handshake or session      (accept_proxy)
    Dial → announcement, before any byte of the client → relay                (proxy_protocol)

Where a service accepts headers every connection has to begin with one, from a proxy that is trusted: who may leave it
out may also forge it. The header is looked at in the socket and exactly it is taken out, so that
whoever reads next, OpenSSL too, finds what follows as if it had come first.

Datagrams of one source port of a proxy belong to one client: that of the header in the first. The very same header
may stand before the later ones too and is taken off. Another one is not believed, since a client whose proxy sends
one only at first could have written it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from harbor.dataplane.budget import PER_TCP_SESSION
from harbor.dataplane.introduced import Introduced, Unwanted
from harbor.dataplane.newcomers import Newcomer
from harbor.dataplane.reactor import FAILED, HUNG_UP, PEER_ENDED, READ_EDGES
from harbor.dataplane.sockets import plain_address
from harbor.model import Address, Drop, Protocol, ProxyProtocol, Reason
from harbor.model.tls import Verify
from harbor.policy.access import NetworkSet
from harbor.policy.proxy_header import (
    LONGEST,
    SIGNATURE,
    HeaderRefused,
    read,
    tls_tlvs,
    write_simple,
    write_v1,
    write_v2,
)

if TYPE_CHECKING:
    from harbor.dataplane.session import TcpSession
    from harbor.dataplane.shared_port import SharedPort
    from harbor.dataplane.tcp import TcpListener
    from harbor.dataplane.udp import Ancillary, UdpFlow, UdpPort

REPLIES: Final = 64  # answers without their header that are passed over at one go


def proxies_of(networks: tuple[str, ...]) -> NetworkSet | None:
    """Whose word about others is believed; None where nobody's is."""
    return NetworkSet(networks) if networks else None


class Introduction(Newcomer):
    """A proxy that has not said yet for whom it speaks."""

    __slots__ = ("_accepted", "_listener")

    def __init__(self, listener: TcpListener | SharedPort, fd: int, address: Any) -> None:
        sock = socket.socket(listener.family, socket.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        self._accepted = listener.reactor.now
        self._listener = listener
        super().__init__(listener, sock, address, self._accepted)
        self.overdue = Reason.PROXY_HEADER_INVALID

    def on_news(self, events: int) -> None:
        """More of its header has come, or it has left. Once the header is whole, the connection goes on without it."""
        listener = self._listener
        newcomers = listener.plane.newcomers
        try:
            found = self._header(events)
            if found is None:
                return
            client, length = found
            self.sock.recv(length)
        except (HeaderRefused, OSError):
            newcomers.end(self, Reason.PROXY_HEADER_INVALID)
            return
        newcomers.let_go(self)
        fd = self.sock.detach()
        listener.reactor.ignore(fd)  # whoever takes it watches it in a way of its own
        listener.introduced(fd, client, self._accepted)

    def _header(self, events: int) -> tuple[Any, int] | None:
        """The client's address and the length of the header, which is still in the socket; None if more has to come.

        Errors: ``HeaderRefused``, also when no more will come; OSError.
        """
        try:
            data = self.sock.recv(LONGEST, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        found = read(data, Protocol.TCP)
        if found is None:
            if not data or events & (PEER_ENDED | HUNG_UP | FAILED):
                raise HeaderRefused("the connection ended within it")
            return None
        told, length = found
        if told.client is None:
            return self.address, length
        return Introduced(told.client, told.client, told.destination), length


def listen_to_proxy(listener: TcpListener | SharedPort, proxies: NetworkSet, client: int, address: Any) -> None:
    """Who was accepted is to tell whom it speaks for, if it is one of these. Takes over the descriptor."""
    if proxies.has(plain_address(address).host):
        listener.plane.newcomers.take_in(Introduction(listener, client, address), READ_EDGES)
    else:
        listener.lost(Reason.PROXY_UNTRUSTED, PER_TCP_SESSION)
        listener.reactor.discard(client)


def announcement(session: TcpSession) -> bytes:
    """What tells a backend, before anything else, for whom this connection is."""
    listener, client = session.listener, session.client_address
    destination = client.destination if isinstance(client, Introduced) else None
    if destination is None:
        destination = plain_address(session.client_socket().getsockname())
    if listener.policy.proxy_protocol is ProxyProtocol.V1:
        return write_v1(plain_address(client), destination)
    if session.tls is None or listener.door is None:
        return write_v2(plain_address(client), destination, Protocol.TCP)
    has_certificate = listener.door.terms.rules.verify is Verify.REQUIRED
    tlvs = tls_tlvs(session.tls.version(), session.server_name, has_certificate)
    return write_v2(plain_address(client), destination, Protocol.TCP, tlvs)


def unwrap(port: UdpPort, proxies: NetworkSet, count: int, key: Any, peer: Any) -> tuple[int, Any]:
    """Take the header off the datagram in the shared buffer: how long it is then, and whose it is.

    Errors: ``Unwanted``; it is counted.
    """
    whole = port.reactor.whole
    flow = port.flows.find(key)
    if flow is not None:
        client = flow.client
        if not isinstance(client, Introduced):  # it is older than the rule
            return count, client
        if _begins_with(port, count, client.header):
            return _without(whole, count, len(client.header)), client
        if _begins_with(port, count, SIGNATURE):
            port.tally.dropped[Drop.PROXY_HEADER_INVALID] += 1
            raise Unwanted
        return count, client
    if not proxies.has(plain_address(peer).host):
        port.tally.dropped[Drop.PROXY_UNTRUSTED] += 1
        raise Unwanted
    try:
        found = read(bytes(whole[: min(count, LONGEST)]), Protocol.UDP)
    except HeaderRefused:
        found = None
    if found is None:
        port.tally.dropped[Drop.PROXY_HEADER_INVALID] += 1
        raise Unwanted
    told, length = found
    introduced = Introduced(peer, told.client or plain_address(peer), told.destination, bytes(whole[:length]))
    return _without(whole, count, length), introduced


def announce_flow(port: UdpPort, flow: UdpFlow) -> Callable[[bytearray], int]:
    """Let the datagrams of a new flow say for whom they are; returns what receives the backend's answers."""
    backend, mode = flow.backend, port.policy.proxy_protocol
    client, destination = plain_address(flow.client), _destination(port, flow)
    is_simple = mode is ProxyProtocol.SIMPLE
    header = write_simple(client, destination) if is_simple else write_v2(client, destination, Protocol.UDP)

    def send_first(data: memoryview) -> int:
        sent = backend.sendmsg((header, data))
        flow.send = backend.send  # the backend has been told
        return sent

    def send(data: memoryview) -> int:
        return backend.sendmsg((header, data))

    def receive(buffer: bytearray) -> int:
        for _ in range(REPLIES):
            count = backend.recv_into(buffer)
            if _begins_with(port, count, header):
                return _without(port.reactor.whole, count, len(header))
            port.tally.dropped[Drop.PROXY_HEADER_INVALID] += 1
        raise BlockingIOError  # there may be more, and others have waited

    flow.send = send_first if mode is ProxyProtocol.V2 else send
    return receive if is_simple else backend.recv_into


def _destination(port: UdpPort, flow: UdpFlow) -> Address:
    """Where the client of a flow has sent its datagrams to."""
    client = flow.client
    if isinstance(client, Introduced) and client.destination is not None:
        return client.destination
    host, number = port.address()
    return Address(_named_in(flow.local) or host, number)


def _named_in(local: Ancillary) -> str | None:
    """The address in the control message that makes a reply leave from it."""
    for level, _, data in local:
        if level == socket.IPPROTO_IPV6:
            ip = IPv6Address(data[:16])
            return str(ip.ipv4_mapped or ip)
        return str(ip_address(data[4:8]))
    return None


def _begins_with(port: UdpPort, count: int, beginning: bytes) -> bool:
    """Whether the datagram in the shared buffer does; behind it lies what is older."""
    return count >= len(beginning) and port.reactor.buffer.startswith(beginning)


def _without(whole: memoryview, count: int, length: int) -> int:
    """Move what follows a header to the beginning of the buffer; returns how long it is."""
    whole[: count - length] = whole[length:count]
    return count - length
