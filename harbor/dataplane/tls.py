"""TLS on a listener: OpenSSL works on the client's descriptor itself, inside the reactor.

    TcpListener → Handshake (deadline, alerts) → TcpSession whose client side is a TlsEnd

OpenSSL reads and writes the descriptor without a copy in between, and sends its own alerts. Bytes that came before the
handshake was done stay inside it (CVE-2023-40217), and only it ever looks at a ClientHello.

A handshake costs as much as a hundred messages, so a flood of them could starve plain forwarding. Hence handshakes wait
in a line of their own, ``Handshakes``, from which a few are served between two polls. How many may be under way, and
for how long, is the rule for all ``Newcomers``.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import ssl
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from harbor.dataplane.newcomers import Newcomer, Newcomers
from harbor.model import Reason
from harbor.model.tls import Identity, TlsTerms, UnknownName, Verify
from harbor.policy.http import redirect_to_https
from harbor.policy.sni import choose, plain

if TYPE_CHECKING:
    from harbor.dataplane.reactor import Reactor
    from harbor.dataplane.tcp import TcpListener

SLICE: Final = 0.001  # seconds for handshakes between two polls; a step of one takes up to 350 µs
RECORD: Final = 16 * 1024  # bytes in a TLS record, at most (RFC 8446 §5.1)

# Mozilla's intermediate profile, version 5.7; TLS 1.3 has suites of its own, all of them good.
CIPHERS: Final = ":".join(
    f"{exchange}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for exchange in ("ECDHE-ECDSA", "ECDHE-RSA")
)
VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

# What OpenSSL says of an end that was not announced. Of a reset it says nothing; before OpenSSL 3, of neither.
TRUNCATIONS: Final = ("UNEXPECTED_EOF_WHILE_READING",) if ssl.OPENSSL_VERSION_INFO >= (3,) else (None,)

FIONREAD: Final = termios.FIONREAD
_ioctl: Final = fcntl.ioctl
_unread: Final = array.array("i", [0])  # where it answers
_WANT: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TlsEnd:
    """The TLS of one connection, between its descriptor and a stream. The socket stays its maker's to close."""

    __slots__ = (
        "_fd",
        "_notice",
        "_read",
        "_socket",
        "_ssl",
        "_write",
        "has_ended",
        "is_truncated",
    )

    def __init__(
        self, context: ssl.SSLContext, sock: socket.socket, server_side: bool, peer: str | None = None
    ) -> None:
        # SSLContext.wrap_socket() would make a second socket object and ask the kernel what we know, for 20 µs.
        connection: Any = context._wrap_socket(sock, server_side, peer)  # type: ignore[attr-defined]
        self._socket = sock  # OpenSSL's side has only a weak reference
        self._fd = sock.fileno()
        self._ssl = connection
        self._read, self._write = connection.read, connection.write
        self._notice = b""  # of our close_notify, what the kernel has not taken yet
        self.has_ended = False  # the peer has, in order
        self.is_truncated = False  # it ended without close_notify: what was said may not be all

    def handshake(self) -> bool:
        """Go on with the handshake; False if the peer has to say more. Errors: ssl.SSLError, OSError."""
        try:
            self._ssl.do_handshake()
        except _WANT:
            return False
        return True

    def use(self, context: ssl.SSLContext) -> None:
        """Show the certificate of another context; for a handshake that is under way."""
        self._ssl.context = context

    def receive(self, room: memoryview) -> int:
        """Up to a record of what the peer said; 0 at its orderly end. Errors: BlockingIOError, OSError."""
        try:
            count = int(self._read(RECORD, room))
        except _WANT:
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            count = 0
        except ssl.SSLEOFError as error:
            self.is_truncated = getattr(error, "reason", None) in TRUNCATIONS  # typed as str, which it may not be
            raise
        if not count:
            self.has_ended = True
        return count

    def is_drained(self) -> bool:
        """Whether nothing is left to be received. OpenSSL keeps nothing back: ``receive`` takes whole records."""
        _ioctl(self._fd, FIONREAD, _unread)
        return not _unread[0]

    def send(self, data: memoryview) -> int:
        """Send as much as the kernel takes; the rest must be what is sent next. Errors: BlockingIOError, OSError."""
        sent, size = 0, len(data)
        try:
            while sent < size:
                sent += int(self._write(data[sent:] if sent else data))
        except _WANT:
            if not sent:
                raise BlockingIOError from None
        return sent

    def end(self) -> None:
        """Send close_notify; receiving goes on. Errors: BlockingIOError (call it again once there is room), OSError."""
        if not self._notice and not self.has_ended:
            self._notice = self._close_notify()
        elif not self._notice:
            try:
                self._ssl.shutdown()
            except _WANT:
                raise BlockingIOError from None
        while self._notice:
            self._notice = self._notice[os.write(self._fd, self._notice) :]

    def close(self) -> None:
        """Send close_notify, if the kernel takes it now; nothing is received any more."""
        try:
            self._ssl.shutdown()
        except OSError:
            pass  # an SSLError, too: it is sent, but the peer's has not come yet; or the peer is gone

    def _close_notify(self) -> bytes:
        """What says to the peer that we have ended, for us to send.

        Whoever asks OpenSSL to send it makes it read, too, and data that it finds then is a fatal error to it, though
        TLS lets the peer go on (RFC 8446 §6.1). So it is asked where there is nothing to be read.
        """
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            kept = os.dup(self._fd)
            try:
                os.dup2(far.fileno(), self._fd, inheritable=False)
                try:
                    self._ssl.shutdown()
                except ssl.SSLError:
                    pass  # the peer's has not come
                finally:
                    os.dup2(kept, self._fd, inheritable=False)
                return near.recv(RECORD)
            except BlockingIOError:
                return b""  # it broke before
            finally:
                os.close(kept)

    def version(self) -> str:
        """The protocol, like ``TLSv1.3``."""
        return str(self._ssl.version())


class Door:
    """What a listener shows to its clients: a context for each identity, all with the same rules.

    Nothing is shared with other listeners, so no ticket of one is good at another.
    """

    def __init__(self, terms: TlsTerms) -> None:
        self.terms = terms
        self._contexts: dict[str, ssl.SSLContext] = {}  # by the file of the identity
        self._greeted: Handshake | None = None  # whose ClientHello OpenSSL is looking at
        self.renew(terms)

    def renew(self, terms: TlsTerms) -> None:
        """Serve other terms from the next handshake on. Contexts are kept where they can be, so tickets stay good.

        Errors: ssl.SSLError, OSError; nothing has changed then.
        """
        same_rules = (terms.rules, terms.ca_file, terms.crl_file) == (
            self.terms.rules,
            self.terms.ca_file,
            self.terms.crl_file,
        )
        known = list(self._contexts.values()) if same_rules else []
        for identity in terms.identities:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(identity.file)  # a live one must not fail half way
        contexts = {}
        for number, identity in enumerate(terms.identities):
            context = known[number] if number < len(known) else self._context(terms)
            context.load_cert_chain(identity.file)
            contexts[identity.file] = context
        self.terms, self._contexts = terms, contexts
        self._default().sni_callback = self._on_name

    def begin(self, sock: socket.socket) -> TlsEnd:
        """A server's end of TLS on this socket."""
        return TlsEnd(self._default(), sock, server_side=True)

    def go_on(self, handshake: Handshake) -> bool:
        """Go on with a handshake; see ``TlsEnd.handshake``."""
        self._greeted = handshake
        try:
            return handshake.tls.handshake()
        finally:
            self._greeted = None

    def _default(self) -> ssl.SSLContext:
        return self._contexts[self.terms.identities[0].file]

    def _on_name(self, _connection: object, name: str | None, _context: ssl.SSLContext) -> int | None:
        handshake = self._greeted
        if handshake is None:
            return None
        identity = choose(self.terms.identities, name)
        if identity is None:
            if self.terms.rules.unknown_name is UnknownName.REJECT:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            return None
        handshake.server_name = plain(name)
        self._show(handshake, identity)
        return None

    def _show(self, handshake: Handshake, identity: Identity) -> None:
        handshake.tls.use(self._contexts[identity.file])

    def _context(self, terms: TlsTerms) -> ssl.SSLContext:
        rules = terms.rules
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[rules.min_version]
        context.set_ciphers(CIPHERS)
        context.num_tickets = 1  # each costs a twentieth of a handshake; who wants another gets it by using this one
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # all are good; clients know what their hardware does best
        if rules.alpn:
            context.set_alpn_protocols(list(rules.alpn))
        if rules.verify is Verify.REQUIRED:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(terms.ca_file)
            if terms.crl_file is not None:
                context.load_verify_locations(terms.crl_file)
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context


class Handshake(Newcomer):
    """A client of a TLS listener that has not shaken hands yet."""

    __slots__ = ("is_known", "is_waiting", "listener", "tls")

    def __init__(self, listener: TcpListener, door: Door, fd: int, address: Any, accepted: float) -> None:
        sock = socket.socket(listener.family, socket.SOCK_STREAM, 0, fd)
        super().__init__(listener, sock, address, accepted)
        sock.setblocking(False)
        self.listener = listener
        self.is_known = False  # to speak TLS
        self.is_waiting = False  # in the line of those that can go on
        self.end = self.tls = door.begin(sock)

    def on_news(self, events: int) -> None:
        """The client has said something, or left."""
        if not self.is_waiting:
            self.is_waiting = True
            self.listener.plane.handshakes.wait(self._go_on)

    def _go_on(self) -> None:
        self.is_waiting = False
        self.listener.plane.handshakes.go_on(self)


class Handshakes:
    """The line of those handshakes on this node, with clients and with backends, that can go on."""

    def __init__(self, reactor: Reactor, newcomers: Newcomers) -> None:
        self._reactor = reactor
        self._newcomers = newcomers
        self._line: deque[Callable[[], None]] = deque()
        self._is_serving = False

    def wait(self, step: Callable[[], None]) -> None:
        """Take this step of a handshake when it is its turn."""
        self._line.append(step)
        if not self._is_serving:
            self._is_serving = True
            self._reactor.again(self._serve)

    def _serve(self) -> None:
        self._is_serving = False
        end = time.monotonic() + SLICE
        while self._line and time.monotonic() < end:
            self._line.popleft()()
        if self._line:
            self._is_serving = True
            self._reactor.again(self._serve)

    def go_on(self, handshake: Handshake) -> None:
        """Go on with the handshake of a client, unless it was given up meanwhile."""
        if handshake not in self._newcomers:
            return
        listener = handshake.listener
        door = listener.door
        if listener.is_http and not handshake.is_known and not self._speaks_tls(handshake):
            return
        try:
            done = door is not None and door.go_on(handshake)
        except OSError:  # ssl.SSLError is one; OpenSSL has sent its alert
            self._newcomers.refuse(handshake, Reason.TLS_HANDSHAKE_FAILED)
            return
        if done:
            self._newcomers.let_go(handshake)
            listener.heard(handshake)

    def _speaks_tls(self, handshake: Handshake) -> bool:
        """Look at the first byte. Who speaks plain HTTP to an HTTPS port is told where to go."""
        try:
            first = handshake.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            first = b""  # OpenSSL finds out
        handshake.is_known = True
        if not first.isalpha():
            return True
        try:
            handshake.sock.send(redirect_to_https(handshake.sock.recv(RECORD), handshake.listener.port))
        except OSError:
            pass
        self._newcomers.refuse(handshake, Reason.TLS_HANDSHAKE_FAILED)
        return False
