"""How commands end: exit 0 done, 1 refused or not reached, 2 used wrongly; one line on stderr says why."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import click

from harbor.cli.output import clean
from harbor.model.policy import FIELDS

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it
PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


class Failed(click.ClickException):
    """The command was understood and could not be done."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        click.echo(f"harbor: {clean(self.message)}", file=file or sys.stderr)


class ManyOptions(click.Command):
    """A command whose options are listed under headings, by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """First what is of the command itself, then policies, then TLS."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Policy": [], "TLS": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[_heading(parameter.name or "")].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _heading(option: str) -> str:
    if option in FIELDS:
        return "Policy"
    return "TLS" if option.startswith(("tls", "backend_tls", "server_names")) else "Options"


class Commands(click.Group):
    """A group whose commands are listed in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """A command by its name; a name that is none gets the nearest as an answer."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self.commands, n=1)
            meant = f"did you mean {close[0]}?" if close else "harbor --help lists them"
            ctx.fail(f"there is no command {clean(args[0])!r}; {meant}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; being interrupted, or read no further, is no error to talk about."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            # What could not be written is still buffered and would be complained about at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(PIPE_CLOSED)
