"""The event feed as server-sent events (WHATWG HTML §9.2): ``id``, ``event`` and ``data`` lines.

Nothing is buffered per reader: the feed is asked for the next event only when the last one has left. A reader
that stops reading is cut off after a while; it comes back with ``Last-Event-ID`` and misses nothing that is kept.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from harbor.errors import HarborError
from harbor.model import Event
from harbor.model.views import event_json

if TYPE_CHECKING:
    from harbor.node import EventFeed

KEEPALIVE: Final = 15.0  # below the 30 to 60 s after which proxies drop a silent connection
STALLED: Final = 30.0  # a reader that takes nothing for so long is gone or stuck
MOST_READERS: Final = 64  # each holds a descriptor; dashboards share one node, not thousands of them


class Readers:
    """Who follows the feed at present, and the signal that ends it for all."""

    def __init__(self) -> None:
        self.count = 0
        self.stopping = asyncio.Event()


class EventStream(Response):
    """Streams events after ``after`` (None: from now on) until the client leaves or the readers are stopped.

    Errors: 503 ``busy`` when too many read already.
    """

    def __init__(self, feed: EventFeed, after: int | None, readers: Readers) -> None:
        if readers.count >= MOST_READERS:
            raise HarborError(f"{MOST_READERS} readers follow the events already", code="busy", status=503)
        super().__init__(media_type="text/event-stream")
        self._feed = feed
        self._after = after
        self._readers = readers
        del self.headers["content-length"]  # the base class takes the body for empty; this one has no end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._readers.count += 1
        gone = asyncio.ensure_future(_gone(receive))
        ends: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._readers.stopping.wait()), gone}
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._stream(send, ends)
        except TimeoutError:
            scope["harbor.connection"].abort()
            await gone
        finally:
            self._readers.count -= 1
            await _cancel(ends)

    async def _stream(self, send: Send, ends: set[asyncio.Future[Any]]) -> None:
        events = aiter(self._feed.follow(self._after))
        following = asyncio.ensure_future(anext(events, None))
        try:
            await _write(send, b": the feed begins\n\n")
            while True:
                await asyncio.wait({following, *ends}, timeout=KEEPALIVE, return_when=asyncio.FIRST_COMPLETED)
                if any(end.done() for end in ends):
                    break
                if not following.done():
                    await _write(send, b": still here\n\n")
                    continue
                event = following.result()
                if event is None:
                    break
                await _write(send, encoded(event))
                following = asyncio.ensure_future(anext(events, None))
        finally:
            await _cancel({following})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def encoded(event: Event) -> bytes:
    """One event on the wire."""
    data = json.dumps(event_json(event), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode()


async def _write(send: Send, chunk: bytes) -> None:
    async with asyncio.timeout(STALLED):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(futures: set[asyncio.Future[Any]]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
