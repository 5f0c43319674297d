"""Commands that need no running node: serve, check-config, demo, version."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import harbor
from harbor.cli.group import Failed
from harbor.cli.options import config_option, json_option
from harbor.cli.output import clean, print_json, say

if TYPE_CHECKING:
    from harbor.config import Config


@click.command()
@config_option
def serve(config: Path | None) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Sessions may finish for up to drain_timeout; a second signal ends them at once.

    \b
    Examples:
      harbor serve
      harbor serve --config config/harbor.yml
    """
    from harbor.daemon import serve as run

    sys.exit(run(_loaded(config)))


@click.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE]")
@json_option
@config_option
def check_config(file: Path | None, as_json: bool, config: Path | None) -> None:
    """Check a configuration.

    Every fault is told with line and column, then what is allowed but likely to hurt.

    \b
    Examples:
      harbor check-config config/harbor.yml
      harbor check-config --json
    """
    from harbor.config import check, load
    from harbor.daemon.machine import ephemeral_ports, lowest_port
    from harbor.errors import ConfigInvalid

    problems: list[str] = []
    warnings: list[str] = []
    try:
        loaded = load(file or config, os.environ)
        warnings = check(loaded, local_port_range=ephemeral_ports(), lowest_port=lowest_port())
    except ConfigInvalid as exc:
        problems = exc.problems
    if as_json:
        print_json({"ok": not problems, "problems": problems, "warnings": warnings})
    else:
        for line in [*problems, *(f"warning: {warning}" for warning in warnings)]:
            click.echo(clean(line), err=True)
        if not problems:
            say("OK")
    click.get_current_context().exit(1 if problems else 0)


@click.command()
def demo() -> None:
    """Try Harbor: a node with sample services.

    Three services with backends that say which one answered, and lines to paste. Ctrl-C ends it and leaves nothing.

    \b
    Example:
      harbor demo
    """
    from harbor.demo import run

    sys.exit(run())


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        facts = {"version": harbor.__version__, "python": platform.python_version(), "compiled": harbor.is_compiled}
        print_json(facts)
    else:
        how = "compiled" if harbor.is_compiled else "not compiled"
        say(f"harbor {harbor.__version__} (Python {platform.python_version()}, data path {how})")


def _loaded(config: Path | None) -> Config:
    from harbor.config import load
    from harbor.errors import ConfigInvalid

    try:
        return load(config, os.environ)
    except ConfigInvalid as exc:
        for problem in exc.problems[:-1]:
            click.echo(f"harbor: {clean(problem)}", err=True)
        raise Failed(exc.problems[-1]) from exc
