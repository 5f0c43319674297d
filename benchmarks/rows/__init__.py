"""All rows, in the order of the table. A target is what Harbor's figure may be, as a multiple of the best peer's."""

from __future__ import annotations

from typing import Final

from benchmarks.rows.change import Churn, Opening
from benchmarks.rows.hosts import HostsBulk, HostsConnect
from benchmarks.rows.row import Bench, Row
from benchmarks.rows.standing import Idle, Node
from benchmarks.rows.tls import TlsBulk, TlsConnect, TlsIdle, TlsRequests
from benchmarks.rows.traffic import Bulk, Connect, Latency, PingPong, UdpEcho, UdpOneWay

ROWS: Final[tuple[Row, ...]] = (
    PingPong(1, target=1.05),
    PingPong(64, target=1.05),
    PingPong(1000, target=1.0),
    Latency(target=1.1),
    Connect(reset=False, target=1.05),
    Connect(reset=True, target=1.05),
    Bulk(1, up=False, target=0.8),
    Bulk(8, up=False, target=0.8),
    Bulk(8, up=True, target=0.8),
    Idle(4000, target=0.6),
    UdpEcho(1, target=1.0),
    UdpEcho(64, target=1.0),
    UdpEcho(1000, target=1.0),
    UdpOneWay(20_000, target=1.0),
    Opening(1, target=0.05),
    Opening(1000, target=0.05),
    Churn(),
    Node(1000),
    Node(5000),
    HostsConnect(reset=False, target=1.05),
    HostsConnect(reset=True, target=1.05),
    HostsBulk(target=0.8),
    TlsConnect("tls", resume=False, target=1.05),
    TlsConnect("tls", resume=True, target=1.05),
    TlsRequests("tls", target=1.05),
    TlsBulk(1, up=False, target=1.0),
    TlsBulk(8, up=False, target=1.0),
    TlsBulk(8, up=True, target=1.0),
    TlsIdle("tls", 4000, target=1.0),
    TlsConnect("https", resume=False),
    TlsRequests("https", target=1.5),
    TlsIdle("https", 4000, target=1.0),
)

# One of each kind that is quick to measure: `make bench-quick`.
QUICK: Final = ("pingpong-64", "connect", "bulk-1", "idle", "udp-64", "open-port-1", "tls-connect", "https-requests")

__all__ = ["QUICK", "ROWS", "Bench", "Row"]
