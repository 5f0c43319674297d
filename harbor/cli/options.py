"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from harbor.cli.group import Failed
from harbor.model import UnknownName, Verify
from harbor.model.tls import MIN_VERSIONS, TLS_SETTINGS

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIG_HELP: Final = "Configuration whose node is meant (default: $HARBOR_CONFIG, then the usual places)."

config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=CONFIG_HELP
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def tls_options(command: Command) -> Command:
    """Options for how the node ends the TLS of a service."""
    for option in reversed(_TLS_OPTIONS):
        command = option(command)
    return command


def backend_tls_options(command: Command) -> Command:
    """Options for how the node speaks TLS to the backends of a service."""
    for option in reversed(_BACKEND_TLS_OPTIONS):
        command = option(command)
    return command


def taken_backend_tls(options: dict[str, Any]) -> dict[str, Any]:
    """What of these options is about TLS to the backends, which is taken out; as the API has it. Errors: ``Failed``."""
    how, server_name, ca = (options.pop(name) for name in ("backend_tls", "backend_tls_server_name", "backend_tls_ca"))
    wanted = {
        "verify": None if how is None else how == "verify",
        "server_name": server_name,
        "ca": None if ca is None else _pem(ca),
    }
    return {name: value for name, value in wanted.items() if value is not None}


def taken_tls_rules(options: dict[str, Any]) -> dict[str, Any]:
    """The TLS rules among these options, which are taken out; as the API has them. Errors: ``Failed``."""
    given = {name: options.pop(f"tls_{name}") for name in TLS_SETTINGS}
    rules = {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("ca", "crl"):
        if name in rules:
            rules[name] = _pem(rules[name])
    return {name: list(value) if name == "alpn" else value for name, value in rules.items()}


def _pem(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise Failed(f"{file} cannot be read as PEM") from exc


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

_BACKEND_TLS_OPTIONS: Final = (
    click.option(
        "--backend-tls",
        type=click.Choice(["verify", "insecure"]),
        help="Speak TLS to the backends, and check their certificates or not.",
    ),
    click.option(
        "--backend-tls-server-name", metavar="NAME", help="For whom these have to be, instead of each backend's host."
    ),
    click.option(
        "--backend-tls-ca", type=_FILE, metavar="FILE", help="Who may sign them instead of the system's, PEM."
    ),
)
