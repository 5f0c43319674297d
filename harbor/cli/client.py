"""How commands ask a node: one request, one answer; what goes wrong is a ``Failed`` in the node's own words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from harbor.cli.group import Failed
from harbor.client import Client, Place, Reply, place, segment, with_query
from harbor.errors import HarborError

__all__ = ["follow", "pages", "segment", "send", "with_query"]

PAGE: Final = 200  # building one page must not hold up the data path; ten milliseconds do not


def send(
    config: Path | None,
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
    tries: int = 1,
) -> Reply:
    """Ask the node. A connection that breaks is tried again while ``tries`` last.

    Errors: ``Failed`` with the node's own words, or why it was not reached.
    """
    import asyncio

    with failing():
        return asyncio.run(_send(place(config), method, with_query(path, query), body, headers, tries))


def pages(config: Path | None, path: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
    """Every member of a collection, page by page."""
    following: str | None = with_query(path, {**(query or {}), "limit": PAGE})
    while following is not None:
        reply = send(config, "GET", following)
        yield from reply.body
        following = reply.following


async def follow(config: Path | None, path: str, query: Mapping[str, object]) -> AsyncGenerator[Any, None]:
    """The events of a feed as they come. Errors: ``Failed``; also when the node ends the feed."""
    with failing():
        async with Client(place(config), timeout=None) as client:
            async for event in client.follow(with_query(path, query)):
                yield event


@contextmanager
def failing() -> Iterator[None]:
    """What Harbor raises on purpose ends the command with its message."""
    try:
        yield
    except HarborError as exc:
        raise Failed(exc.message) from exc


async def _send(
    where: Place, method: str, target: str, body: Any, headers: Mapping[str, str] | None, tries: int
) -> Reply:
    async with Client(where) as client:
        return await client.send(method, target, body, headers, tries)
