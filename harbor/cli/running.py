"""``harbor run``: keep instances of an app running and registered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harbor.cli.client import failing
from harbor.cli.group import Failed
from harbor.cli.options import config_option
from harbor.cli.output import clean
from harbor.client import place


def _health(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    from harbor.runner.health import Check

    try:
        return None if value is None else Check.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, metavar="[--] COMMAND...")
@click.option("--service", "services", multiple=True, metavar="NAME", help="A service of the app; repeatable.")
@click.option("--app", metavar="NAME", help="The app (default: name in stackato.yml, or the folder's name).")
@click.option("--instances", type=click.IntRange(1, 100), metavar="N", help="How many (default: 1).")
@click.option(
    "--health", callback=_health, metavar="CHECK", help="When an instance is well: tcp, /PATH or exec:COMMAND."
)
@click.option(
    "--stop-timeout", type=click.FloatRange(2, 120), default=10.0, show_default=True, metavar="SECONDS",
    help="From SIGTERM to SIGKILL, 2 to 120.",
)  # fmt: skip
@click.option(
    "--restart-limit", type=click.IntRange(0, 10_000), default=0, show_default=True, metavar="N",
    help="Give an instance up after so many deaths in a row; 0: never.",
)  # fmt: skip
@click.option(
    "--ttl", type=click.FloatRange(1, 3600), default=15.0, show_default=True, metavar="SECONDS",
    help="The lease of each backend; it is renewed three times as often.",
)  # fmt: skip
@click.option("--advertise", metavar="HOST", help="Where the node reaches this machine (default: as we reach it).")
@click.option(
    "--log-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Keep the output here."
)
@config_option
def run(config: Path | None, **given: Any) -> None:
    """Run the instances of an app, each a backend of its services.

    Makes and binds what is missing, gives each instance its environment and a free port for each service, registers
    it once it listens, and starts it again when it dies. Ctrl-C drains and ends them in order, a second one at once;
    SIGHUP replaces one after another. No shell is involved: $PORT and the other variables of the instance are
    replaced in COMMAND, so keep your shell's hands off them with single quotes. What a stackato.yml in this folder
    declares need not be said here.

    \b
    Examples:
      harbor run --service web --instances 3 -- python3 -m http.server --bind 127.0.0.1 '$PORT'
      harbor run --service udp-game --health exec:./check -- ./game
      harbor run -- sh -c 'exec ./app --port $PORT >>app.log'
      harbor run
    """
    from harbor.errors import ConfigInvalid
    from harbor.runner.programs import CannotStart
    from harbor.runner.run import run as run_app
    from harbor.runner.wish import Asked

    with failing():
        try:
            sys.exit(run_app(Asked(place(config), Path.cwd(), **given)))
        except ConfigInvalid as error:
            for problem in error.problems[:-1]:
                click.echo(f"harbor: {clean(problem)}", err=True)
            raise Failed(error.problems[-1]) from error
        except CannotStart as error:
            raise Failed(error.message, error.exit_code) from error
