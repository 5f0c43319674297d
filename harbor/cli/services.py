"""Commands for services: ask for a port, look at it, change it, give it back."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, Final

import click

from harbor.cli import stackato
from harbor.cli.client import pages, segment, send
from harbor.cli.group import ManyOptions
from harbor.cli.options import (
    backend_tls_options,
    config_option,
    json_option,
    taken_backend_tls,
    taken_tls_rules,
    tls_options,
)
from harbor.cli.output import print_json, say
from harbor.cli.policies import given, policy_options, shown
from harbor.cli.timebox import taken_timebox, timebox_options
from harbor.model.policy import FIELDS
from harbor.model.tls import BACKEND_SETTINGS, TLS_SETTINGS

BACKEND_TLS: Final = "backend_tls"
SERVER_NAMES: Final = "server_names"
RESET: Final = (
    *FIELDS,
    *(f"tls_{name}" for name in TLS_SETTINGS),
    SERVER_NAMES,
    BACKEND_TLS,
    *(f"{BACKEND_TLS}_{name}" for name in BACKEND_SETTINGS if name != "verify"),
)
server_name_option = click.option(
    "--server-name",
    SERVER_NAMES,
    multiple=True,
    metavar="NAME",
    help="With TLS passthrough: a name that it takes on a port that several share, or a wildcard; repeatable.",
)


@click.command("create-service", cls=ManyOptions)
@click.argument("words", nargs=-1, required=True, metavar="[harbor] NAME")
@click.option("--port", type=click.IntRange(1, 65535), help="This very port; without it the node chooses.")
@click.option("--protocol", type=click.Choice(["tcp", "udp", "both"]), help="Wins over what the name says.")
@click.option("--public/--private", "public", default=None, help="Where it listens: for the outside, or inside only.")
@click.option("--plan", help="tcp, udp, both or https.")
@click.option("--tls", type=click.Choice(["off", "node", "passthrough"]), help="Who ends TLS on the port.")
@server_name_option
@timebox_options
@policy_options
@tls_options
@backend_tls_options
@json_option
@config_option
def create_service(
    words: tuple[str, ...],
    port: int | None,
    protocol: str | None,
    public: bool | None,
    plan: str | None,
    tls: str | None,
    server_names: tuple[str, ...],
    as_json: bool,
    config: Path | None,
    **policy: Any,
) -> None:
    """Lease a port under a name.

    What the name begins with sets the protocol: udp..., both... or multi... (TCP and UDP on one number); all else is
    TCP. A name that ends in https asks for TLS.

    \b
    Examples:
      harbor create-service my-port
      harbor create-service harbor udp-game
      harbor create-service dns --protocol both --port 30053
      harbor create-service web --max-sessions 500 --idle-timeout 600
      harbor create-service harbor debug --for 30m --from me
      harbor create-service shop-https --tls-min-version 1.3
      harbor create-service shop --port 30443 --tls passthrough --server-name shop.example.com
    """
    if len(words) > 2 or (len(words) == 2 and words[0] != "harbor"):
        raise click.UsageError("one name is needed, like harbor create-service my-port")
    policy |= taken_timebox(config, policy, os.environ)
    exposure = None if public is None else ("public" if public else "private")
    wish: dict[str, Any] = {
        "name": words[-1],
        "port": port,
        "protocol": protocol,
        "exposure": exposure,
        "plan": plan,
        "tls": tls,
        SERVER_NAMES: list(server_names) or None,
    }
    rules, to_backends = taken_tls_rules(policy), taken_backend_tls(policy)
    wish = {name: value for name, value in wish.items() if value is not None} | given(policy)
    wish |= {"tls_rules": rules} if rules else {}
    wish |= {BACKEND_TLS: to_backends} if to_backends else {}
    # With the key, a request whose answer was lost can be sent again without leasing a second port.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    made = send(config, "POST", "/v1/services", wish, headers=key, tries=2).body
    if as_json:
        print_json(made)
        return
    if len(words) == 2:
        stackato.print_created()
    until = f", until {stackato.when(made['expires_at'])}" if "expires_at" in made else ""
    say(f"created {made['name']}: {made['protocol']} port {made['port']}, {made['exposure']}{until}")
    if made["status"] != "ready":
        say(f"its port is not open yet: {made.get('reason')}")


@click.command()
@json_option
@config_option
def services(as_json: bool, config: Path | None) -> None:
    """List the services of the node.

    Below what can be had stands what there is, in the tables of the stackato client.

    \b
    Examples:
      harbor services
      harbor services --json
    """
    found = list(pages(config, "/v1/services"))
    if as_json:
        print_json(found)
        return
    stackato.print_services(found)


@click.command()
@click.argument("name")
@json_option
@config_option
def service(name: str, as_json: bool, config: Path | None) -> None:
    """Show one service, by name or id.

    Its credentials, what it is doing, and its policy, in the table of the stackato client.

    \b
    Example:
      harbor service my-port
    """
    found = send(config, "GET", f"/v1/services/{segment(name)}").body
    if as_json:
        print_json(found)
        return
    stackato.print_service(found, send(config, "GET", "/v1/node").body)


@click.command("update-service", cls=ManyOptions)
@click.argument("name")
@timebox_options
@policy_options
@tls_options
@backend_tls_options
@server_name_option
@click.option("--reset", multiple=True, type=click.Choice(RESET), help="Follow the node's default again; repeatable.")
@json_option
@config_option
def update_service(
    name: str,
    server_names: tuple[str, ...],
    reset: tuple[str, ...],
    as_json: bool,
    config: Path | None,
    **policy: Any,
) -> None:
    """Change the policy of a service, and its rules of TLS.

    How TLS is spoken with its clients and backends is among them. Live sessions stay.

    Server names are replaced by those that are given.

    \b
    Examples:
      harbor update-service my-port --idle-timeout 600
      harbor update-service my-port --reset idle_timeout
      harbor update-service debug --for 2h
      harbor update-service shop-https --tls-verify required --tls-ca clients.pem
      harbor update-service shop-https --backend-tls verify --backend-tls-ca internal.pem
      harbor update-service shop --server-name shop.example.com --server-name www.example.com
    """
    policy |= taken_timebox(config, policy, os.environ)
    rules = taken_tls_rules(policy) | _members(reset, "tls_")
    to_backends = taken_backend_tls(policy) | _members(reset, f"{BACKEND_TLS}_")
    changes = given(policy) | {name: None for name in reset if name in FIELDS}
    changes |= {"tls_rules": rules} if rules else {}
    if to_backends or BACKEND_TLS in reset:
        changes[BACKEND_TLS] = None if BACKEND_TLS in reset else to_backends
    if server_names or SERVER_NAMES in reset:
        changes[SERVER_NAMES] = list(server_names)
    if not changes:
        raise click.UsageError("nothing to change; give at least one option")
    changed = send(config, "PATCH", f"/v1/services/{segment(name)}", changes).body
    if as_json:
        print_json(changed)
    else:
        said = [f"{field} {_shown(changed['policy'][field])}" for field in changes if field in FIELDS]
        said += [f"tls_{name} {_shown(changed['tls_rules'].get(name))}" for name in rules]
        said += [f"{BACKEND_TLS} {stackato.backend_tls_words(changed)}"] if BACKEND_TLS in changes else []
        said += [f"{SERVER_NAMES} {_shown(changed.get(SERVER_NAMES) or None)}"] if SERVER_NAMES in changes else []
        say(f"changed {changed['name']}: {', '.join(said)}")


@click.command("delete-service")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if apps are bound to it; they are unbound.")
@config_option
def delete_service(name: str, force: bool, config: Path | None) -> None:
    """Give a port back.

    The sessions of the service end; its port rests before another service gets it.

    \b
    Examples:
      harbor delete-service my-port
      harbor delete-service my-port --force
    """
    send(config, "DELETE", f"/v1/services/{segment(name)}", query={"force": "true" if force else None})
    say(f"deleted {name}")


def _members(reset: tuple[str, ...], prefix: str) -> dict[str, None]:
    return {name.removeprefix(prefix): None for name in reset if name not in FIELDS and name.startswith(prefix)}


def _shown(value: Any) -> str:
    return "none" if value is None else shown(value)
