"""Server names: what the one that a client asks for matches.

Names are compared as ASCII in lower case: an internationalised name is its A-labels (``xn--...``), here as on the
wire. An exact name goes before a wildcard, and among equals what stands first. A wildcard stands for exactly one label,
and never for part of an IP address. What is no name at all matches nothing: whatever a client sends, it is only ever
compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from harbor.model.server_names import LONGEST_NAME
from harbor.model.tls import Identity


def choose(identities: Sequence[Identity], server_name: str | None) -> Identity | None:
    """The certificate for this name; None if none has it, or if no name was asked for. Never raises."""
    for name in matching(server_name):
        for identity in identities:
            if name in identity.names:
                return identity
    return None


def matching(server_name: str | None) -> list[str]:
    """The names that are good for this one, the best first: itself, and its wildcard. Never raises."""
    name = plain(server_name)
    if name is None:
        return []
    wildcard = _wildcard(name)
    return [name] if wildcard is None else [name, wildcard]


def plain(server_name: str | None) -> str | None:
    """The name as it is compared; None for what can be none. Never raises."""
    if not server_name or len(server_name) > LONGEST_NAME + 1:
        return None
    if not (server_name.isascii() and server_name.isprintable()):
        return None
    # Lower case only after isascii(): the Kelvin sign would become a k.
    name = server_name.lower().removesuffix(".")
    return None if not name or "*" in name else name


def _wildcard(name: str) -> str | None:
    label, dot, parent = name.partition(".")
    if not label or not dot or ":" in name or parent.rpartition(".")[2].isdigit():  # an IP address, or no name
        return None
    return f"*.{parent}"
