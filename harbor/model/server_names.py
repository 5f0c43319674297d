"""The server names that a service takes on a port which it shares with others."""

from __future__ import annotations

import re
from typing import Any, Final

from harbor.errors import Invalid

LONGEST_NAME: Final = 253  # characters of a DNS name without its trailing dot
MOST_NAMES: Final = 100  # of one service; as many as a certificate of a public authority has
LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def check_server_names(names: Any) -> tuple[str, ...]:
    """The names as they are compared: in lower case, without a trailing dot, each once.

    Errors: ``Invalid`` (``server_names_invalid``), naming the one that is wrong.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise _wrong('give a list of names, like ["shop.example.com", "*.example.net"]')
    if len(names) > MOST_NAMES:
        raise _wrong(f"{len(names)} are too many; a service takes up to {MOST_NAMES}, and a wildcard is one of them")
    return tuple(dict.fromkeys(map(_checked, names)))


def _checked(given: str) -> str:
    said = repr(given[:80])
    if not given.isascii():
        raise _wrong(f"{said} is not in ASCII; write an internationalised name as clients send it, xn--...")
    name = given.lower().removesuffix(".")
    labels = name.removeprefix("*.").split(".")
    if len(name) > LONGEST_NAME or not all(map(LABEL.fullmatch, labels)):
        raise _wrong(f"{said} is no server name; use one like shop.example.com, or *.example.com for one label more")
    if labels[-1].isdigit():
        raise _wrong(
            f"{said} is an address; clients that connect to one send no server name, and are served by the service "
            "that has no server_names"
        )
    return name


def _wrong(why: str) -> Invalid:
    return Invalid(f"server_names: {why}", code="server_names_invalid")
