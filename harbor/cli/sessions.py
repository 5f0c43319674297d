"""Commands for live sessions: look at them, end them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harbor.cli.client import pages, segment, send
from harbor.cli.options import config_option, json_option
from harbor.cli.output import duration, moment, print_fields, print_json, print_table, say, size

client_option = click.option("--client", metavar="CIDR", help="Only of this address or network.")
backend_option = click.option("--backend", metavar="ID", help="Only to this backend.")


@click.command()
@click.argument("name", required=False)
@client_option
@backend_option
@json_option
@config_option
def sessions(name: str | None, client: str | None, backend: str | None, as_json: bool, config: Path | None) -> None:
    """List live sessions: TCP connections and UDP flows.

    \b
    Examples:
      harbor sessions
      harbor sessions my-port --client 10.0.0.0/8
    """
    found = list(pages(config, "/v1/sessions", {"service": name, "backend": backend, "client": client}))
    if as_json:
        print_json(found)
        return
    headings = ("id", "service", "protocol", "client", "server name", "backend", "state", "age", "in", "out")
    print_table(headings, [_row(session) for session in found], "no sessions")


@click.command()
@click.argument("local", metavar="IP:PORT")
@click.option(
    "--backend", metavar="IP:PORT", help="The backend's own address, should several be reached from this one."
)
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), help="Only of this protocol.")
@click.option("--service", metavar="NAME", help="Only of this service.")
@json_option
@config_option
def whois(
    local: str, backend: str | None, protocol: str | None, service: str | None, as_json: bool, config: Path | None
) -> None:
    """Say who the client behind a backend's connection is.

    IP:PORT is what the backend sees as the address of its peer.

    \b
    Examples:
      harbor whois 127.0.0.1:40122
      harbor whois [fd00::1]:40122 --protocol udp
    """
    query = {"local": local, "backend": backend, "protocol": protocol, "service": service}
    found = send(config, "GET", "/v1/whois", query=query).body
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "client": found["client"],
            "service": f"{found['service']} ({found['protocol']})",
            "session": found["session"],
            "since": moment(found["since"]),
            "backend": f"{found['backend'] or '-'} ({found['backend_address'] or '-'})",
        }
    )


@click.command()
@click.argument("session", required=False)
@click.option("--service", metavar="NAME", help="Those of this service.")
@backend_option
@client_option
@config_option
def kill(
    session: str | None, service: str | None, backend: str | None, client: str | None, config: Path | None
) -> None:
    """End sessions.

    Either one by its id, or all that match what is given.

    \b
    Examples:
      harbor kill 17
      harbor kill --service my-port
      harbor kill --client 203.0.113.0/24
    """
    query = {"service": service, "backend": backend, "client": client}
    filtered = any(value is not None for value in query.values())
    if filtered == (session is not None):
        raise click.UsageError("give either the id of a session, or some of --service, --backend and --client")
    if session is not None:
        send(config, "DELETE", f"/v1/sessions/{segment(session)}")
        say(f"ended session {session}")
        return
    killed = send(config, "DELETE", "/v1/sessions", query=query).body["killed"]
    say(f"ended {killed} session{'' if killed == 1 else 's'}")


def _row(session: dict[str, Any]) -> tuple[object, ...]:
    return (
        session["id"],
        session["service"],
        session["protocol"],
        session["client"],
        session.get("server_name", "-"),
        session["backend"] or "-",
        session["state"],
        duration(session["age"]),
        size(session["bytes_in"]),
        size(session["bytes_out"]),
    )
