"""Commands for backends: register, look, drain, remove."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from harbor.cli.client import segment, send
from harbor.cli.options import config_option, json_option
from harbor.cli.output import address, duration, print_json, print_table, say


@click.command()
@click.argument("name")
@click.argument("where", metavar="HOST:PORT")
@click.option("--ttl", type=float, metavar="SECONDS", help="Register for so long; registering again renews it.")
@click.option("--id", "backend", metavar="ID", help="Its id (default: HOST-PORT).")
@click.option("--instance", metavar="TEXT", help="What the app calls this instance.")
@click.option("--weight", type=int, metavar="N", help="Its share of new TCP sessions beside the others': 1 to 256.")
@json_option
@config_option
def register(
    name: str,
    where: str,
    ttl: float | None,
    backend: str | None,
    instance: str | None,
    weight: int | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Send a service's traffic to a backend.

    Registering again renews the lease that --ttl gives. Without --ttl it stays until it is removed.

    \b
    Examples:
      harbor register my-port 10.0.0.5:8080
      harbor register my-port 10.0.0.5:8080 --ttl 30 --id web-1
      harbor register my-port [fd00::5]:8080
      harbor register my-port 10.0.0.6:8080 --weight 3
    """
    host, port = host_and_port(where)
    body = {"host": host, "port": port, "ttl": ttl, "instance": instance, "weight": weight}
    body = {member: value for member, value in body.items() if value is not None}
    path = _path(name, default_id(host, port) if backend is None else backend)
    reply = send(config, "PUT", path, body, tries=2)
    if as_json:
        print_json(reply.body)
        return
    done = "registered" if reply.status == 201 else "renewed"
    say(f"{done} {reply.body['id']} with {name}: {reply.body['state']}")


@click.command()
@click.argument("name")
@click.argument("backend", metavar="ID")
@config_option
def deregister(name: str, backend: str, config: Path | None) -> None:
    """Remove a backend.

    Its sessions end as the service's removal policy says.

    \b
    Example:
      harbor deregister my-port web-1
    """
    send(config, "DELETE", _path(name, backend))
    say(f"deregistered {backend} from {name}")


@click.command()
@click.argument("name")
@click.argument("backend", metavar="ID")
@json_option
@config_option
def drain(name: str, backend: str, as_json: bool, config: Path | None) -> None:
    """Give a backend no new sessions.

    The present ones may finish for up to drain_timeout.

    \b
    Example:
      harbor drain my-port web-1
    """
    body = send(config, "POST", f"{_path(name, backend)}/drain").body
    if as_json:
        print_json(body)
    else:
        say(f"{body['id']} of {name} is {body['state']}, {body['active']} sessions left")


@click.command()
@click.argument("name")
@json_option
@config_option
def backends(name: str, as_json: bool, config: Path | None) -> None:
    """List the backends of a service.

    They stand in queue order: for UDP the first that is up gets the traffic.

    \b
    Example:
      harbor backends my-port
    """
    found = send(config, "GET", f"/v1/services/{segment(name)}/backends").body
    if as_json:
        print_json(found)
        return
    headings = ("id", "address", "state", "for", "weight", "sessions", "lease", "instance", "last failure")
    print_table(
        headings, [_row(backend) for backend in found], f"no backends; harbor register {name} HOST:PORT adds one"
    )


def host_and_port(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPv6]:PORT``, taken apart. Errors: ``click.BadParameter``."""
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):([0-9]{1,5})", text)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise click.BadParameter("use HOST:PORT, like 10.0.0.5:8080 or [fd00::5]:8080", param_hint="HOST:PORT")
    return match[1] or match[2], int(match[3])


def default_id(host: str, port: int) -> str:
    """An id from the address: what ids cannot hold becomes ``-``, and they begin with a letter or digit."""
    text = re.sub(r"[^A-Za-z0-9._-]", "-", f"{host}-{port}").lstrip("._-")
    return text[-63:].lstrip("._-")


def _path(name: str, backend: str) -> str:
    return f"/v1/services/{segment(name)}/backends/{segment(backend)}"


def _row(backend: dict[str, Any]) -> tuple[object, ...]:
    lease = "-"
    if "ttl" in backend:
        lease = f"{duration(backend.get('expires_in', 0))} of {backend['ttl']:g}s"
    return (
        backend["id"],
        address(backend["host"], backend["port"]),
        backend["state"],
        duration(time.time() - backend["since"]),
        backend.get("weight", 1),
        backend["active"],
        lease,
        backend.get("instance", "-"),
        backend.get("last_failure", "-"),
    )
