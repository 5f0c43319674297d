"""``harbor https-proxy``: what runs beside an app, in its container, and needs no node."""

from __future__ import annotations

from pathlib import Path

import click

from harbor.cli.group import Failed
from harbor.cli.output import clean
from harbor.cli.policies import policy_option
from harbor.model.policy import FIELDS

EVERYWHERE = "0.0.0.0"
HERE = "127.0.0.1"


def _where(default: str, option: str, text: str) -> tuple[str, int]:
    """``PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``, numeric. Errors: ``click.BadParameter``."""
    import ipaddress

    host, _, port = text.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]") or default))
    except ValueError:
        address = ""
    if not address or not (port.isascii() and port.isdecimal()) or not 0 < int(port[:6]) < 65536:
        raise click.BadParameter("use a port, or an address and a port like 127.0.0.1:8080", param_hint=option)
    return address, int(port)


def _say(words: str) -> None:
    click.echo(f"harbor: {clean(words)}", err=True)


@click.command("https-proxy")
@click.option(
    "--listen",
    required=True,
    metavar="[HOST:]PORT",
    help="Where clients come; on every IPv4 address by default, [::]:PORT for both.",
)
@click.option("--to", required=True, metavar="[HOST:]PORT", help="Where the app listens; on 127.0.0.1 by default.")
@click.option(
    "--certs", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
    help="The folder with the certificates (default: certs or cert, here).",
)  # fmt: skip
@click.option("--service", metavar="NAME", help="Show NAME.crt with NAME.key, if they are there, before harbor.crt.")
@click.option("--bytes", "plain", is_flag=True, help="Forward bytes as they are, instead of reading HTTP along.")
@policy_option("trusted_proxies", FIELDS["trusted_proxies"])
def https_proxy(
    listen: str, to: str, certs: Path | None, service: str | None, plain: bool, trusted_proxies: list[str] | None
) -> None:
    """End HTTPS in front of an app, without a node.

    Meant for a container: the app's own certificate, harbor.crt with harbor.key in a folder certs or cert, or one per
    service named after it. A changed file is shown from the next handshake on. SIGTERM gives sessions ten
    seconds, a second one none; SIGHUP looks at the files at once.

    \b
    Examples:
      harbor https-proxy --listen $STACKATO_HARBOR --to $PORT
      harbor https-proxy --listen 4100 --to 8080 --certs certs/ --service my-https
    """
    from harbor.errors import HarborError
    from harbor.https_proxy import Asked, find_folder, run
    from harbor.model import Address

    addresses = Address(*_where(EVERYWHERE, "--listen", listen)), Address(*_where(HERE, "--to", to))
    try:
        folder = certs if certs is not None else find_folder(Path.cwd())
        run(Asked(*addresses, folder, service, not plain, tuple(trusted_proxies or ())), _say)
    except HarborError as error:
        raise Failed(str(error)) from error
