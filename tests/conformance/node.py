"""A Harbor node, asked over its API for what a case wants; one node serves all cases, each with services of its own."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from conformance.wish import Wish
from harbor.model import Address
from support.app_node import AppNode

NUMBERS: Final = count(1)
# Those that the wish has under their own names, and that mean nothing to the other protocol.
OF_TCP: Final = ("balance", "max_sessions_per_backend", "connect_timeout", "idle_timeout")
OF_UDP: Final = ("udp_timeout", "udp_responses")
OF_BOTH: Final = ("allow", "deny", "proxy_protocol", "accept_proxy")


def open_port(wish: Wish, node: AppNode) -> Address:
    """Lease a port that serves the wish."""
    name = f"{'udp' if wish.udp else 'tcp'}-{next(NUMBERS)}"
    policy = {key: getattr(wish, key) for key in (*(OF_UDP if wish.udp else OF_TCP), *OF_BOTH)}
    port = node.create(
        name, exposure="public" if ":" in wish.host else "private", **policy, **_tls(wish)
    )  # fmt: skip
    for number, made in enumerate(wish.certificates):
        label = f"?label=l{number}" if number else ""
        node.ask("PUT", f"/v1/certificates/{name}{label}", {"certificate": made.chain, "key": made.key})
    for number, (address, weight) in enumerate(wish.weighted, 1):
        node.register(name, f"b{number}", address, weight=weight)
    for number, (server_name, address) in enumerate(wish.names.items()):
        node.create(
            f"{name}-{number}", address, port=port, exposure="private", tls="passthrough", server_names=[server_name]
        )
    return Address(wish.host, port)


def _tls(wish: Wish) -> dict[str, Any]:
    if wish.names:
        return {"tls": "passthrough"}
    made: dict[str, Any] = {}
    if wish.certificates:
        rules: dict[str, Any] = {"min_version": wish.min_version, "alpn": wish.alpn}
        if wish.clients_by is not None:
            rules |= {"verify": "required", "ca": wish.clients_by.own}
        made |= {"tls": "node", "tls_rules": rules}
    if wish.backends_by is not None:
        made["backend_tls"] = {"ca": wish.backends_by.own, "server_name": wish.backend_name}
    return made
