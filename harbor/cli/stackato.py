"""The tables of the ``stackato`` client, for people who know it: framed, under its headings and in its words.

They look the same on a terminal and in a pipe; programs take ``--json``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from harbor.cli.output import address, clean, size
from harbor.cli.policies import shown
from harbor.model.policy import FIELDS

KIND: Final = ("harbor", "1.0", "External port mapping service")
WHEN: Final = "%a %b %d %H:%M:%S %Z %Y"
EMPTY: Final = ("", "")

Row = tuple[object, object]


def when(at: float) -> str:
    """A point of time, in this machine's own time."""
    return time.strftime(WHEN, time.localtime(at))


def print_framed(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table with a frame of ``+``, ``-`` and ``|``."""
    cells = [list(headings), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    frame = f"+{'+'.join('-' * (width + 2) for width in widths)}+"
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells]
    for line in (frame, lines[0], frame, *lines[1:], *([frame] if rows else [])):
        click.echo(line)


def print_services(services: Sequence[Mapping[str, Any]]) -> None:
    """What can be had, and what there is."""
    click.echo("\n============== System Services ==============\n")
    print_framed(("Service", "Version", "Description"), [KIND])
    click.echo("\n=========== Provisioned Services ============\n")
    if not services:
        click.echo("none yet; harbor create-service harbor NAME makes one")
        return
    headings = ("Name", "Service", "Protocol", "Port", "Exposure", "Status", "Up", "Sessions")
    print_framed(headings, [_provisioned(service) for service in services])
    for service in [service for service in services if service.get("reason") is not None]:
        click.echo(clean(f"{service['name']} is {service['status']}: {service['reason']}"))


def print_created() -> None:
    """What follows a request that asks in the words of stackato."""
    click.echo("Creating Service: OK")


def print_service(service: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    """All about one service. Its credentials are put together from the two as the node would."""
    click.echo(f"\n{clean(service['name'])}")
    sections = (
        _section("credentials", credentials(service, node)),
        _live(service),
        _section("meta", _meta(service)),
        _section("policy", {name: _policy(service["policy"][name]) for name in FIELDS}),
        _properties(service),
    )
    rows = [row for section in sections for row in (*section, EMPTY)]
    print_framed(("What", "Value"), rows[:-1])


def credentials(service: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """What an app that is bound to the service is given."""
    outside = {name: node.get(name) for name in ("ext_host", "ext_hostname") if service["exposure"] == "public"}
    return {name: value for name, value in outside.items() if value} | {
        "host": node["host"],
        "hostname": node.get("hostname") or node["host"],
        "int_port": service["int_port"],
        "name": service["id"],
        "node_id": node["id"],
        "port": service["port"],
    }


def _provisioned(service: Mapping[str, Any]) -> tuple[object, ...]:
    backends = service["backends"]
    return (
        service["name"],
        KIND[0],
        service["protocol"],
        service["port"],
        service["exposure"],
        service["status"],
        f"{sum(backend['state'] == 'up' for backend in backends)}/{len(backends)}",
        service["sessions"]["active"],
    )


def _section(title: str, members: Mapping[str, object]) -> Iterator[Row]:
    yield title, ""
    for name, value in members.items():
        yield f"- {name}", value


def _live(service: Mapping[str, Any]) -> Iterator[Row]:
    reason = service.get("reason")
    yield "status", service["status"] if reason is None else f"{service['status']}: {reason}"
    for warning in service["warnings"]:
        yield "warning", warning
    yield "listens on", address(service["listen"], service["port"])
    yield "protocol", service["protocol"]
    if "expires_at" in service:
        yield "expires", when(service["expires_at"])
    yield "exposure", service["exposure"]
    yield "tls", service["tls"]
    if "backend_tls" in service:
        yield "backend tls", backend_tls_words(service)
    if "server_names" in service:
        yield from _listed("server names", service["server_names"])
    yield from _listed("apps", service["bindings"])
    yield from _listed("backends", [f"{one['id']} ({one['state']})" for one in service["backends"]])
    yield "sessions", f"{service['sessions']['active']} now, {service['sessions']['opened']} opened"
    yield "traffic", f"{size(service['bytes']['in'])} in, {size(service['bytes']['out'])} out"
    yield "ended", _counts(service["closed"])
    yield "dropped", _counts(service["dropped"])


def backend_tls_words(service: Mapping[str, Any]) -> str:
    """How TLS is spoken to the backends of a service."""
    how = service.get("backend_tls")
    if how is None:
        return "off"
    name = f", for {how['server_name']}" if how["server_name"] else ""
    return f"verify{name}" if how["verify"] else f"insecure: certificates are not checked{name}"


def _listed(what: str, members: Sequence[str]) -> Iterator[Row]:
    """One below the other: a line of a hundred backends would make the table as wide."""
    first, *others = members or ["none"]
    yield what, first
    for other in others:
        yield "", other


def _meta(service: Mapping[str, Any]) -> dict[str, object]:
    return {
        "created": when(service["created"]),
        "tags": f"{KIND[0]} {service['protocol']}",
        "version": 1,
    }


def _properties(service: Mapping[str, Any]) -> Iterator[Row]:
    yield "properties", ""
    yield "tier", service["plan"] or "free"
    yield "type", "generic"
    yield "vendor", KIND[0]
    yield "version", KIND[1]


def _policy(value: Any) -> str | None:
    return None if value is None else shown(value)


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counted.items() if count) or "none"
