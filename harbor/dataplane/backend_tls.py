"""TLS to backends: the node is the client, and wants to know with whom it speaks.

    Dial → connect → BackendHandshake → TcpSession whose backend side is a TlsEnd

OpenSSL reads the backend's descriptor from its first byte on, so nothing that came before the end of the handshake can
be taken for data (CVE-2026-1642). Handshakes with backends wait in the same line as those with clients.
"""

from __future__ import annotations

import socket
import ssl
from _socket import socket as Socket  # noqa: N812 - as in tcp.py
from typing import TYPE_CHECKING, Final

from harbor.dataplane.reactor import Watcher
from harbor.dataplane.tls import TlsEnd
from harbor.model.tls import BackendTls
from harbor.policy.rotation import Slot

if TYPE_CHECKING:
    from harbor.dataplane.dial import Dial

# What OpenSSL makes of bytes that are no TLS.
NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE", "BAD_RECORD_TYPE"})
MISMATCHES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class BackendDoor:
    """How a service speaks TLS to its backends: a context of its own.

    Errors: ssl.SSLError, OSError if the certificates of those who may sign them cannot be read.
    """

    def __init__(self, terms: BackendTls) -> None:
        self.terms = terms
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.hostname_checks_common_name = False
        if not terms.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif terms.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(terms.ca_file)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever is named is trusted, root or not

    def socket_of(self, attempt: Socket, family: socket.AddressFamily) -> socket.socket:
        """The same connection as OpenSSL wants it. Takes over the descriptor."""
        sock = socket.socket(family, socket.SOCK_STREAM, 0, attempt.detach())
        sock.setblocking(False)
        return sock

    def begin(self, sock: socket.socket, slot: Slot) -> TlsEnd:
        """A client's end of TLS on this socket. Errors: OSError."""
        return TlsEnd(self._context, sock, server_side=False, peer=self.name_of(slot))

    def name_of(self, slot: Slot) -> str:
        """For which name, or address, the certificate of a backend has to be."""
        return self.terms.server_name or slot.host or slot.address.host


class BackendHandshake(Watcher):
    """A backend that was dialled and has not shaken hands yet; it watches it. The socket is its dial's to close."""

    __slots__ = ("_dial", "_is_waiting", "end", "sock")

    def __init__(self, dial: Dial, sock: socket.socket, end: TlsEnd) -> None:
        self._dial = dial
        self._is_waiting = False  # in the line of those that can go on
        self.sock = sock
        self.end = end

    def on_news(self, events: int) -> None:
        """The backend has said something, or left."""
        if not self._is_waiting:
            self._is_waiting = True
            self._dial.session.listener.plane.handshakes.wait(self._go_on)

    def _go_on(self) -> None:
        self._is_waiting = False
        dial = self._dial
        if dial.shaking is not self:
            return  # it was given up
        try:
            done = self.end.handshake()
        except OSError as error:  # ssl.SSLError is one; OpenSSL has sent its alert
            dial.refused(in_words(error))
            return
        if done:
            dial.shaken(self)


def in_words(error: OSError) -> str:
    """Why a handshake with a backend failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in MISMATCHES:
            return f"name mismatch: {error.verify_message}"
        return f"its certificate is not accepted: {error.verify_message}"
    reason: str | None = getattr(error, "reason", None)
    if reason is None:
        return "it ended the connection during the handshake"
    return "it does not speak TLS" if reason in NO_TLS else reason.replace("_", " ").lower()
