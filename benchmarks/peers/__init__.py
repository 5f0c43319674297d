"""The proxies that are measured, in the order of the table."""

from __future__ import annotations

from typing import Final

from benchmarks.peers.caddy import Caddy
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.harbor import HarborPeer, PlainHarbor
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.peer import Forward, Missing, Peer, Place, Proxy, reach
from benchmarks.peers.python import PProxy, Streams
from benchmarks.peers.traefik import Traefik

PEERS: Final[tuple[Peer, ...]] = (
    HarborPeer(),
    HAProxy(),
    Nginx(),
    Envoy(),
    Traefik(),
    Caddy(),
    PlainHarbor(),
    PProxy(),
    Streams(),
)

__all__ = ["PEERS", "Forward", "Missing", "Peer", "Place", "Proxy", "reach"]
