"""A store that refuses or waits when the test wants it to."""

from __future__ import annotations

import asyncio

from harbor.errors import StoreFailed
from harbor.store import Change, Snapshot, Store


class FaultyStore:
    """Obeys the interface of ``Store`` over a real one. ``held`` counts the commits that wait."""

    def __init__(self, store: Store) -> None:
        self.broken = False
        self.held = 0
        self._store = store
        self._failure: str | None = None
        self._waiting = False

    @property
    def failure(self) -> str | None:
        return self._failure or self._store.failure

    def hold(self) -> None:
        """Let commits wait."""
        self._waiting = True

    def let_go(self) -> None:
        """Let them go on."""
        self._waiting = False

    def load(self) -> Snapshot:
        return self._store.load()

    def key(self) -> bytes:
        return self._store.key()

    async def commit(self, *changes: Change) -> None:
        self.held += 1
        while self._waiting:
            await asyncio.sleep(0.001)
        self.held -= 1
        if self.broken:
            self._failure = "the disk is on fire"
            raise StoreFailed(self._failure)
        self._failure = None
        await self._store.commit(*changes)

    async def close(self) -> None:
        await self._store.close()
