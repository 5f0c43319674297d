"""Commands for apps: bind them to services, let them go, see what they are told."""

from __future__ import annotations

import uuid
from pathlib import Path

import click

from harbor.cli.client import segment, send
from harbor.cli.group import Failed
from harbor.cli.options import config_option, json_option
from harbor.cli.output import print_fields, print_json, say
from harbor.cli.variables import FORMATS, formatted


@click.command("bind-service")
@click.argument("name")
@click.argument("app")
@json_option
@config_option
def bind_service(name: str, app: str, as_json: bool, config: Path | None) -> None:
    """Bind an app to a service.

    Prints the credentials of the service. The token with which the app's instances register is printed by harbor token,
    and stands in what --json prints.

    \b
    Examples:
      harbor bind-service my-port web
      harbor bind-service my-port web --json
    """
    # With the key, a request whose answer was lost can be sent again and gets the same token.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    made = send(config, "POST", f"/v1/services/{segment(name)}/bindings", {"app": app}, headers=key, tries=2).body
    if as_json:
        print_json(made)
        return
    say(f"bound {made['app']} to {made['service']}")
    print_fields(made["credentials"])
    say(f"its variables: harbor env {made['app']}; its token: harbor token {made['service']} {made['app']}")


@click.command("unbind-service")
@click.argument("name")
@click.argument("app")
@config_option
def unbind_service(name: str, app: str, config: Path | None) -> None:
    """Unbind an app from a service.

    The token of the binding is worth nothing from then on. Backends that the app registered stay until their lease
    ends or somebody removes them.

    \b
    Example:
      harbor unbind-service my-port web
    """
    send(config, "DELETE", _binding(name, app))
    say(f"unbound {app} from {name}")


@click.command()
@click.argument("name")
@click.argument("app")
@json_option
@config_option
def token(name: str, app: str, as_json: bool, config: Path | None) -> None:
    """Print the token of a binding.

    With it the instances of the app register with this service, renew their lease and leave; it opens nothing else.

    \b
    Examples:
      harbor token my-port web
      (umask 077; harbor token my-port web > web.token)
    """
    found = send(config, "GET", _binding(name, app)).body
    if "token" not in found:
        raise Failed(
            f"the token of {app} cannot be made again, because the node's binding.key was replaced since; "
            f"harbor unbind-service {name} {app}, then bind it again for a new one"
        )
    if as_json:
        print_json({"token": found["token"]})
    else:
        say(found["token"])


@click.command()
@click.argument("app")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="shell",
    show_default=True,
    help="For eval in a shell; a dotenv file; docker run --env-file; or programs.",
)
@json_option
@config_option
def env(app: str, form: str, as_json: bool, config: Path | None) -> None:
    """Print the environment of an app.

    STACKATO_SERVICES, VCAP_SERVICES, STACKATO_HARBOR_<NAME> for each service that it is bound to, and STACKATO_HARBOR
    if it is bound to just one.

    \b
    Examples:
      eval "$(harbor env web)"
      harbor env web --format dotenv > .env
      harbor env web --format docker > web.env && docker run --env-file web.env ...
    """
    found = send(config, "GET", f"/v1/apps/{segment(app)}/env").body
    click.echo(formatted(found, "json" if as_json else form), nl=False)


def _binding(name: str, app: str) -> str:
    return f"/v1/services/{segment(name)}/bindings/{segment(app)}"
