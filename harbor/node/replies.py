"""Idempotency: a request that is repeated with the same key is answered as the first time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from harbor.errors import Refused
from harbor.node.locks import Locks
from harbor.store import SaveReply

KEPT: Final = 10_000  # replies remembered; the store keeps as many


class Replies:
    """Replies by key. A reply is remembered with the commit of what it answers, never without."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, SaveReply] = OrderedDict()
        self._locks = Locks()

    def restore(self, replies: Iterable[SaveReply]) -> None:
        """Put back what was stored, oldest first."""
        for reply in replies:
            self.remember(reply)

    def remember(self, reply: SaveReply) -> None:
        """Answer with this from now on."""
        self._known[reply.key] = reply
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def claim(self, key: str | None, fingerprint: str) -> AsyncIterator[SaveReply | None]:
        """Work on the request of this key alone; yields the earlier reply if there is one.

        Errors: ``Refused`` (``idempotency_key_reused``) if the key came with another request.
        """
        if key is None:
            yield None
            return
        async with self._locks.hold(key):
            known = self._known.get(key)
            if known is not None and known.fingerprint != fingerprint:
                raise Refused(
                    "this Idempotency-Key was used for a different request; use a new key",
                    code="idempotency_key_reused",
                    status=422,
                )
            yield known
