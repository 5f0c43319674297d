"""What is allowed but probably not meant: warnings for the administrator, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harbor.config.settings import Config
from harbor.config.values import is_loopback, is_loopback_url, overlap

_PRIVILEGED: Final = 1024  # Linux's default net.ipv4.ip_unprivileged_port_start


def check(
    config: Config, *, local_port_range: tuple[int, int] | None = None, lowest_port: int = _PRIVILEGED
) -> list[str]:
    """One line per thing that is allowed but likely to hurt.

    The caller looks at the machine: ``local_port_range`` is ``net.ipv4.ip_local_port_range``, ``lowest_port`` the
    lowest port that this process may bind (0 with CAP_NET_BIND_SERVICE).
    """
    return [
        *_ephemeral(config, local_port_range),
        *_privileged(config, lowest_port),
        *_reserved(config),
        *_open_to_all(config),
        *_cloud_controller(config),
    ]


def _ephemeral(config: Config, local_port_range: tuple[int, int] | None) -> Iterator[str]:
    if local_port_range is None:
        return
    low, high = local_port_range
    for text, span in zip(config.ports.ranges, config.ports.spans, strict=True):
        shared = overlap([span], low, high)
        if shared:
            yield (
                f"ports.ranges: {text} overlaps the kernel's ephemeral ports {low}-{high} in {shared[0]}-{shared[1]}: "
                f"an outgoing connection can take such a port before its service opens; use ports below {low}, "
                f"or set net.ipv4.ip_local_port_range"
            )


def _privileged(config: Config, lowest_port: int) -> Iterator[str]:
    for text, (low, _) in zip(config.ports.ranges, config.ports.spans, strict=True):
        if low < lowest_port:
            yield (
                f"ports.ranges: {text} starts below {lowest_port}, which this process may not bind; "
                f"give it CAP_NET_BIND_SERVICE, or lease ports from {lowest_port} upward"
            )


def _reserved(config: Config) -> Iterator[str]:
    spans = config.ports.spans
    for port in sorted(set(config.ports.reserved)):
        if not overlap(spans, port, port):
            yield f"ports.reserved: {port} lies outside ports.ranges, so reserving it changes nothing"
    inside = {port for port in config.ports.reserved if overlap(spans, port, port)}
    if len(inside) == sum(high - low + 1 for low, high in spans):
        yield "ports.reserved: every port of ports.ranges is reserved, so no port can be leased"


def _cloud_controller(config: Config) -> Iterator[str]:
    gateway = config.gateway
    if gateway is None or not gateway.cloud_controller or is_loopback_url(gateway.cloud_controller):
        return
    if gateway.cloud_controller.startswith("http:"):
        yield (
            f"gateway.cloud_controller: {gateway.cloud_controller} is not https, so gateway.token crosses the network "
            "in the clear"
        )
    if is_loopback_url(gateway.url) if gateway.url else is_loopback(config.api.address.host):
        yield (
            "gateway.url: a cloud controller on another machine cannot reach this gateway, which listens on loopback; "
            "set gateway.url, or api.listen with api.cert and api.key"
        )


def _open_to_all(config: Config) -> Iterator[str]:
    for network in config.backends.networks:
        if network.prefixlen == 0:
            yield (
                f"backends.allow: {network} lets every address become a backend; "
                f"list the networks that your applications run in"
            )
