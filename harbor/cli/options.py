"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from harbor.cli.group import Failed
from harbor.model import Policy, Removal, UnknownName, Verify
from harbor.model.policy import BOUNDS, FIELDS
from harbor.model.tls import MIN_VERSIONS, TLS_SETTINGS

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIG_HELP: Final = "Configuration whose node is meant (default: $HARBOR_CONFIG, then the usual places)."

config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=CONFIG_HELP
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def policy_options(command: Command) -> Command:
    """An option for every field of the policy."""
    for name in reversed(FIELDS):
        command = _policy_option(name)(command)
    return command


def tls_options(command: Command) -> Command:
    """Options for how the node ends the TLS of a service."""
    for option in reversed(_TLS_OPTIONS):
        command = option(command)
    return command


def taken_tls_rules(options: dict[str, Any]) -> dict[str, Any]:
    """The TLS rules among these options, which are taken out; as the API has them. Errors: ``Failed``."""
    given = {name: options.pop(f"tls_{name}") for name in TLS_SETTINGS}
    rules = {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("ca", "crl"):
        if name in rules:
            try:
                rules[name] = rules[name].read_text("ascii")
            except (OSError, UnicodeDecodeError) as exc:
                raise Failed(f"{rules[name]} cannot be read as PEM") from exc
    return {name: list(value) if name == "alpn" else value for name, value in rules.items()}


def given(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy fields that were set on the command line."""
    return {name: value for name, value in policy.items() if value is not None}


_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_TLS_OPTIONS: Final = (
    click.option("--tls-min-version", type=click.Choice(MIN_VERSIONS), help="Lowest version of TLS."),
    click.option("--tls-alpn", multiple=True, metavar="PROTOCOL", help="Offer it (ALPN), the best first; repeatable."),
    click.option(
        "--tls-verify", type=click.Choice([one.value for one in Verify]), help="Whether clients show a certificate."
    ),
    click.option(
        "--tls-unknown-name",
        type=click.Choice([one.value for one in UnknownName]),
        help="What a client gets for a server name that no certificate has.",
    ),
    click.option("--tls-ca", type=_FILE, metavar="FILE", help="Who may sign certificates of clients, PEM."),
    click.option("--tls-crl", type=_FILE, metavar="FILE", help="Which of these were revoked, PEM."),
)


def _policy_option(name: str) -> Callable[[Command], Command]:
    flag = "--" + name.replace("_", "-")
    if name == "removal":
        choices = click.Choice([removal.value for removal in Removal])
        return click.option(flag, type=choices, help="What becomes of a removed backend's sessions.")
    if name == "http":
        return click.option("--http/--no-http", default=None, help="Read HTTP along, or forward bytes as they are.")
    low, high = BOUNDS[name]
    if name == "hsts":
        return click.option(flag, type=int, metavar="SECONDS", help="Tell browsers to insist on HTTPS; 0: do not.")
    if isinstance(getattr(Policy(), name), int):
        return click.option(flag, type=int, metavar="N", help=f"{low:.0f} to {high:.0f}; 0: no limit.")
    return click.option(flag, type=float, metavar="SECONDS", help=f"{low:g} to {high:.0f}.")
