"""DNS names of backends: resolved by threads, off the data path, and looked up again every now and then."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol

LOOKUP_TIMEOUT: Final = 3.0  # seconds; the resolver library's own would be thirty
REFRESH: Final = 30.0  # seconds between lookups of a name; getaddrinfo does not tell the record's ttl
MOST_ADDRESSES: Final = 64  # of one answer that are looked at
AT_ONCE: Final = 8  # lookups under way, fewer than the loop's threads, so that others find one


class LookupFailed(Exception):
    """A name has no address now; says why."""


class Addresses(Protocol):
    """Who knows the addresses of names."""

    async def addresses(self, name: str) -> list[str]:
        """All addresses of a name, at least one. Errors: ``LookupFailed``."""


class Resolver:
    """Numeric addresses of names, in the resolver's order. Bounded in time and in lookups at once."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    async def addresses(self, name: str) -> list[str]:
        """All addresses of a name. Errors: ``LookupFailed``."""
        loop = asyncio.get_running_loop()
        async with self._free:
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT):
                    answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except TimeoutError:
                raise LookupFailed(f"{name}: no answer within {LOOKUP_TIMEOUT:g} s") from None
            except (OSError, UnicodeError) as error:
                raise LookupFailed(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        found = dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers[:MOST_ADDRESSES])
        if not found:
            raise LookupFailed(f"{name}: the answer has no address")
        return list(found)
