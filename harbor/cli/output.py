"""What commands print: tables for people, plain columns for pipes, JSON for programs.

Names, reasons and messages come from elsewhere. Whatever could steer a terminal is printed as an escape.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

_COLOURS: Final = {
    "ready": "green",
    "up": "green",
    "degraded": "bold red",
    "down": "red",
    "draining": "yellow",
    "starting": "yellow",
}


def clean(value: object) -> str:
    """The value on one line. What a terminal would obey, or what has no shape of its own, is shown as an escape.

    That is all that Unicode counts as other or as a separator: controls, text direction, surrogates, line ends.
    """
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(map(_shape, text))


def _shape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(text: str) -> None:
    """One line for people."""
    click.echo(clean(text))


def print_json(value: Any) -> None:
    """The value for programs: ASCII only, members in the order of the API."""
    click.echo(json.dumps(value, indent=2))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Rows under headings; ``empty`` is said to people instead of a table without rows."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _print_columns([[heading.upper() for heading in headings], *cells])
    elif not cells:
        click.echo(empty)
    else:
        _print_rich(headings, cells)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one below the other."""
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name.ljust(width)}  {clean(value)}".rstrip())


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell.partition(":")[0], "")) for cell in row))
    Console().print(table)


def address(host: str, port: int) -> str:
    """Host and port as one text; IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float) -> str:
    """A time span for people, in its two largest units."""
    whole = max(0, int(seconds))
    for unit, length, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            return f"{whole // length}{unit}{whole % length // part:02}{smaller}"
    return f"{whole}s"


def moment(unix_time: float) -> str:
    """A point in time, local, as ISO 8601 writes it without the T."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_time))
