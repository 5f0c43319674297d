"""A handshake that Harbor does with itself, in memory: what OpenSSL refuses is found before a client does."""

from __future__ import annotations

import ssl
from typing import Final

from harbor.errors import Invalid

ROUNDS: Final = 10  # flights; a handshake takes four


def try_handshake(file: str, certificate: bytes) -> None:
    """Return if a server with this file (key and chain) shows this certificate (DER). Blocks for milliseconds.

    Errors: ``Invalid`` (``handshake_failed``).
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # who signed it is none of this handshake's business
    try:
        server.minimum_version = ssl.TLSVersion.TLSv1_2
        server.load_cert_chain(file)
        shown = _shown(server, client)
    except (ssl.SSLError, OSError) as exc:
        reason = getattr(exc, "reason", None) or exc.strerror or type(exc).__name__
        raise _failed(f"OpenSSL refuses to serve it ({str(reason).replace('_', ' ').lower()})") from exc
    if shown != certificate:
        raise _failed("another certificate is shown than the one that was given")


def _shown(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes | None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="harbor.invalid"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(ROUNDS):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            return ends[0].getpeercert(binary_form=True)
    raise ssl.SSLError(0, "the handshake does not end")


def _failed(why: str) -> Invalid:
    return Invalid(f"a handshake with this certificate fails: {why}; issue it anew", code="handshake_failed")
