"""Which certificate a client gets, by the server name that it asks for.

Names are compared as ASCII in lower case: an internationalised name is its A-labels (``xn--...``), here as on the
wire. An exact name goes before a wildcard, and among equals the certificate that stands first. A wildcard stands for
exactly one label, and never for part of an IP address. What is no name at all matches nothing: whatever a
client sends, it is only ever compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harbor.model.tls import Identity

LONGEST_NAME: Final = 253  # characters of a DNS name without its trailing dot


def choose(identities: Sequence[Identity], server_name: str | None) -> Identity | None:
    """The certificate for this name; None if none has it, or if no name was asked for. Never raises."""
    if not server_name or len(server_name) > LONGEST_NAME + 1:
        return None
    if not (server_name.isascii() and server_name.isprintable()):
        return None
    # Lower case only after isascii(): the Kelvin sign would become a k.
    name = server_name.lower().removesuffix(".")
    if not name or "*" in name:
        return None
    return _first(identities, name) or _first(identities, _wildcard(name))


def _wildcard(name: str) -> str | None:
    label, dot, parent = name.partition(".")
    if not label or not dot or ":" in name or parent.rpartition(".")[2].isdigit():  # an IP address, or no name
        return None
    return f"*.{parent}"


def _first(identities: Sequence[Identity], name: str | None) -> Identity | None:
    return None if name is None else next((one for one in identities if name in one.names), None)
