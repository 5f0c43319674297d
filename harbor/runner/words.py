"""The words of a command: which variables in them are replaced, and how a line becomes words. No shell is involved.

Rule 1: only variables that ``harbor run`` itself sets for an instance are replaced, ``$PORT`` and ``${PORT}`` above
        all: their values differ from instance to instance, so that no shell could have put them there before.
Rule 2: everything else stays as it was written: ``$HOME``, ``$$``, ``$1`` and ``\\$PORT`` reach the program.
Rule 3: a value is put where the variable stood; it is not split into words, nor looked at again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

VARIABLE: Final = re.compile(r"(?<![\\$])\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
OPERATORS: Final = "();<>|&"


def expanded(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The words with the variables that ``values`` has put in."""
    return [VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), word) for word in words]


def split(line: str) -> tuple[str, ...]:
    """A line as words, by the quoting rules of a shell.

    Errors: ``ValueError`` that says what is wrong: a quote that is not closed, or what only a shell can do.
    """
    if (operator := _operator(line)) is not None:
        raise ValueError(f"{operator} is for a shell, and none is involved; write: sh -c '...', or put it in quotes")
    try:
        return tuple(shlex.split(line))
    except ValueError:
        raise ValueError("a quote is opened and never closed, or a backslash ends the line") from None


def _operator(line: str) -> str | None:
    """The first character that would have a shell do something, and stands outside of quotes."""
    quote, escaped = "", False
    for character in line:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in OPERATORS:
            return character
    return None
