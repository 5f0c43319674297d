"""Commands for the node itself: what it is, its ports, what happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from harbor.cli.client import follow, send
from harbor.cli.options import config_option, json_option
from harbor.cli.output import duration, moment, print_fields, print_json, print_table, say

RECENT: Final = 20  # events that are shown unless asked otherwise: a screen has room for them


@click.command()
@json_option
@config_option
def node(as_json: bool, config: Path | None) -> None:
    """Show the node.

    Its addresses, how busy it is, what troubles it.

    \b
    Example:
      harbor node --json
    """
    found = send(config, "GET", "/v1/node").body
    if as_json:
        print_json(found)
        return
    shown = dict(found)
    for name, tell in (("started", moment), ("uptime", duration)):
        if name in shown:
            shown[name] = tell(shown[name])
    print_fields({name: _flat(value) for name, value in shown.items()})


@click.command()
@json_option
@config_option
def ports(as_json: bool, config: Path | None) -> None:
    """Show the ports of the node.

    How many are free, and what the others are doing.

    \b
    Example:
      harbor ports
    """
    found = send(config, "GET", "/v1/ports").body
    if as_json:
        print_json(found)
        return
    fields = {"ranges": ", ".join(found["ranges"]), "free": f"{found['free']} of {found['total']}"}
    if found["reserved"]:
        fields["reserved"] = ", ".join(map(str, found["reserved"]))
    print_fields(fields)
    for warning in found["warnings"]:
        say(f"warning: {warning}")
    rows = [(one["port"], "leased", one["service"]) for one in found["used"]]
    rows += [(one["port"], "resting", f"for another {duration(one['seconds'])}") for one in found["quarantined"]]
    if rows:
        click.echo()
        print_table(("port", "state", "service"), rows, "")


@click.command()
@click.option("-f", "--follow", "following", is_flag=True, help="Go on as they happen, until Ctrl-C.")
@click.option(
    "-n", "--last", type=click.IntRange(1, 1000), default=RECENT, show_default=True, help="How many past ones."
)
@json_option
@config_option
def events(following: bool, last: int, as_json: bool, config: Path | None) -> None:
    """Show what happened and who did it.

    The oldest comes first. With -f and --json: one JSON object per line.

    \b
    Examples:
      harbor events
      harbor events -f
      harbor events -f --json
    """
    recent = send(config, "GET", "/v1/events", query={"limit": last}).body
    if following:
        for event in recent:
            _print_event(event, as_json)
        import asyncio

        asyncio.run(_follow(config, recent[-1]["id"] if recent else 0, as_json))
    elif as_json:
        print_json(recent)
    else:
        for event in recent:
            _print_event(event, as_json)


async def _follow(config: Path | None, after: int, as_json: bool) -> None:
    from contextlib import aclosing

    async with aclosing(follow(config, "/v1/events", {"after": after})) as feed:
        async for event in feed:
            _print_event(event, as_json)


def _print_event(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event))
    else:
        say(f"{moment(event['time'])}  {event['kind']}  {event['message']}  ({event['actor']})")


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(member)}" for name, member in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(_flat(member) for member in value) or "none"
    return str(value)
