"""The one reader of request bodies: JSON as RFC 8259 means it, in bounded time and memory.

What two parsers could read differently is refused, not guessed: duplicate members, NaN, numbers that
overflow, a byte order mark, lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from harbor.errors import Invalid
from harbor.policy.naming import shown

MAX_BODY: Final = 64 * 1024  # most requests are under 2 KiB; parsing 64 KiB stays below a millisecond
MAX_POLICY: Final = 1000 * 1024  # of what may hold a policy: two lists of 10,000 networks
MAX_DEPTH: Final = 32  # the deepest request has one level; the parser recurses, so the bound comes before it
MAX_DIGITS: Final = 19  # a 64-bit integer; int() of longer texts takes quadratic time

# A string (its closing quote may be missing: the parser reports that) or one bracket. Possessive throughout,
# so that no input makes it backtrack or start again inside a string.
_TOKENS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[{]|[\]}]', re.DOTALL)


def read_json(body: bytes) -> Any:
    """The value that ``body`` holds.

    Errors: ``Invalid`` (``json_invalid``) that says what is wrong and where.
    """
    text = _text(body)
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as exc:
        raise _invalid(f"{exc.msg}, line {exc.lineno} column {exc.colno}") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _text(body: bytes) -> str:
    if not body:
        raise _invalid("it is empty")
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _invalid("it begins with a byte order mark; send UTF-8 without one")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _invalid(f"byte {exc.start} is not UTF-8") from None


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _invalid(f"it nests deeper than {MAX_DEPTH} levels")
        elif first != '"':
            depth -= 1


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _invalid(f"the member {shown(name)} appears twice")
        members[name] = value
    return members


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise _invalid(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _invalid(f"the number {shown(text)} is out of range")
    return number


def _constant(text: str) -> Any:
    raise _invalid(f"{text} is not JSON")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _invalid("a \\u escape is half of a surrogate pair") from None


def _invalid(what: str) -> Invalid:
    return Invalid(f"the body is not valid JSON: {what}", code="json_invalid")
