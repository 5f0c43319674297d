"""An environment as text: for a shell, for dotenv files, for ``docker run --env-file``, for programs.

Each format either says a value exactly or refuses it: what a reader would take for something else is never written.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final

from harbor.cli.group import Failed

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LONGEST_LINE: Final = 64 * 1024 - 1  # docker reads lines with Go's bufio.Scanner, which gives up at 64 KiB
# Readers of dotenv files agree on text between single quotes that has neither a quote nor a backslash nor "${" in it
# (python-dotenv replaces ${...} even there), and on text between double quotes without these and without $ and `.
_SINGLE: Final = re.compile(r"(?:[^'\\$]|\$(?!\{))*")
_DOUBLE: Final = re.compile(r'[^"\\$`\n\r]*')


def formatted(variables: Mapping[str, str], form: str) -> str:
    """The variables in this format, with a line end behind each. Errors: ``Failed`` names what cannot be said."""
    for name, value in variables.items():
        if NAME.fullmatch(name) is None:
            raise Failed(f"{name!r} is no name of a variable; is HARBOR_URL the address of a Harbor node?")
        if "\0" in value:
            raise Failed(f"{name} has a NUL character, which no environment can hold")
    if form == "json":
        return json.dumps(variables, indent=2) + "\n"
    line = _LINES[form]
    return "".join(f"{line(name, value)}\n" for name, value in variables.items())


def _shell(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _dotenv(name: str, value: str) -> str:
    if _SINGLE.fullmatch(value) and "\r" not in value:
        return f"{name}='{value}'"
    if _DOUBLE.fullmatch(value):
        return f'{name}="{value}"'
    raise Failed(
        f"{name} has quotes, backslashes or dollar signs that readers of dotenv files understand differently; "
        "use --format shell or --format json"
    )


def _docker(name: str, value: str) -> str:
    """Docker takes the value as it is, up to the end of the line, and knows no quotes."""
    if "\n" in value or "\r" in value:
        raise Failed(f"{name} has a line end, which an env-file cannot hold; use --format json or --format shell")
    line = f"{name}={value}"
    if len(line.encode()) > LONGEST_LINE:
        raise Failed(
            f"{name} is longer than the {LONGEST_LINE} bytes that docker reads of a line; "
            "use --format json, or bind fewer services to the app"
        )
    return line


_LINES: Final[dict[str, Callable[[str, str], str]]] = {"shell": _shell, "dotenv": _dotenv, "docker": _docker}
FORMATS: Final = (*_LINES, "json")
