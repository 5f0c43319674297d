"""A port for a while, and for some people: ``--for 30m --from me``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from harbor.cli.client import send
from harbor.cli.policies import duration

Command = TypeVar("Command", bound=Callable[..., Any])

ME: Final = "me"
LOOPBACK: Final = ("127.0.0.1", "::1")


def timebox_options(command: Command) -> Command:
    """``--for`` and ``--from``, which stand for the policies ``expires`` and ``allow``."""
    for option in (_FROM, _FOR):
        command = option(command)
    return command


def taken_timebox(config: Path | None, options: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the two mean as policy; they are taken out of ``options``.

    ``me`` is the address from which the node is asked; at the node's own machine that is loopback, and whoever has
    logged in by SSH from elsewhere (``$SSH_CLIENT``). Errors: ``click.UsageError`` if both ways are used at once.
    """
    lasting, sources = options.pop("for_"), options.pop("from_")
    meant: dict[str, Any] = {}
    for name, option, value in (("expires", "--for", lasting), ("allow", "--from", sources)):
        if value and options.get(name) is not None:
            raise click.UsageError(f"{option} sets {name}; give one of them")
    if lasting is not None:
        meant["expires"] = lasting
    if sources:
        mine = _mine(config, environment) if ME in sources else ()
        meant["allow"] = list(dict.fromkeys((*mine, *(source for source in sources if source != ME))))
    return meant


def _mine(config: Path | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    client = send(config, "GET", "/v1/node").body.get("client")
    if client is not None and not ipaddress.ip_address(client).is_loopback:
        return (str(client),)
    afar = environment.get("SSH_CLIENT", "").split()[:1]
    return (*LOOPBACK, *afar)


def _duration(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else duration(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), ctx=context, param=parameter) from None


_FOR: Final = click.option(
    "--for", "for_", metavar="SECONDS", callback=_duration, help="Delete it after so long: 30m, 8h, 2d. Sets expires."
)
_FROM: Final = click.option(
    "--from",
    "from_",
    multiple=True,
    metavar="me|NETWORK",
    help="Let only these in; me is where you are: this machine, or where your SSH session comes from. Sets allow.",
)
