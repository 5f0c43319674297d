"""What services and apps of a platform are called here: as close to the platform's own names as the rules allow."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from harbor.errors import Refused

LONGEST: Final = 63
_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]+")
# How much of the digest makes a name unique: a clash of names is expected, one of eight digits on top of it is not.
_DIGITS: Final = (8, 16, 32)


def candidates(wanted: str | None, otherwise: str, unique_id: str) -> Iterator[str]:
    """Names to try, best first: the wanted one, then itself with more and more of what ``unique_id`` hashes to.

    ``otherwise`` begins the name if nothing of the wanted one can stay. Equal arguments give equal names.
    """
    digest = hashlib.sha256(unique_id.encode()).hexdigest()
    cleaned = clean(wanted or "")
    if cleaned:
        yield cleaned
    for digits in _DIGITS:
        yield f"{(cleaned or otherwise)[: LONGEST - 1 - digits]}-{digest[:digits]}"


async def first_free(names: Iterable[str], attempt: Callable[[str], Awaitable[None]], taken: str) -> None:
    """Make the attempt under one name after the other while it is refused as ``taken``; the last refusal stands."""
    refusal: Refused | None = None
    for name in names:
        try:
            await attempt(name)
        except Refused as exc:
            if exc.code != taken:
                raise
            refusal = exc
        else:
            return
    assert refusal is not None
    raise refusal


def clean(text: str) -> str:
    """The text as a name: accents dropped, what cannot stand in a name made a dash. May be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _OTHER.sub("-", plain).lstrip("._-")[:LONGEST].rstrip("._-")
