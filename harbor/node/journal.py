"""What the node writes down: changes before they take effect, and news of the data plane soon after.

A change that somebody asked for is committed before it is applied (``commit``). What happens by itself, a lease
that runs out or a backend that returns, has happened already: it is noted (``note``, ``touch``) and
written in the background, again and again if the disk fails, always as it stands by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from harbor.errors import StoreFailed
from harbor.model import Event
from harbor.node.feed import EventFeed
from harbor.node.locks import Locks
from harbor.policy.registry import Registry
from harbor.store import Change, RemoveBackend, SaveBackend, SaveEvent, Store, WakePorts

log = structlog.get_logger("harbor.node")

RETRY: Final = 1.0  # seconds before a background write that failed is tried again


class Journal:
    """The node's only way to its store."""

    def __init__(self, store: Store, feed: EventFeed, registry: Registry, locks: Locks) -> None:
        self._store = store
        self._feed = feed
        self._registry = registry
        self._locks = locks
        self._touched: dict[tuple[str, str], None] = {}
        self._changes: list[Change] = []
        self._writer: asyncio.Task[None] | None = None

    @property
    def failure(self) -> str | None:
        """Why the latest write failed, in words."""
        return self._store.failure

    async def commit(self, event: Event, *changes: Change, before: Sequence[Event] = ()) -> None:
        """Make a change durable, with the event that tells of it and those ``before`` it; then tell them.

        Errors: ``StoreFailed``.
        """
        events = (*before, event)
        try:
            await self._store.commit(*changes, *map(SaveEvent, events))
        except BaseException:
            for each in events:
                self._feed.abandon(each)
            raise
        for each in events:
            self._publish(each)

    def note(self, event: Event) -> None:
        """Tell of something that has happened; it is written soon."""
        self._publish(event)
        self._later(SaveEvent(event))

    def touch(self, service_id: str, backend_id: str) -> None:
        """A backend's row has to be brought up to date."""
        self._touched[service_id, backend_id] = None
        self._start()

    def later(self, change: Change) -> None:
        """Something has changed by itself; it is written soon."""
        self._later(change)

    def wake(self, ports: tuple[int, ...]) -> None:
        """These ports have rested."""
        self._later(WakePorts(ports))

    async def close(self) -> None:
        """Write what is left, once; what a failing disk does not take is given up."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        try:
            await self._write()
        except StoreFailed as error:
            log.warning("store.failed", detail=str(error))

    def _publish(self, event: Event) -> None:
        self._feed.publish(event)
        log.info(event.kind, service=event.service, actor=event.actor, detail=event.message)

    def _later(self, change: Change) -> None:
        self._changes.append(change)
        self._start()

    def _start(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="journal")

    async def _write_all(self) -> None:
        while self._touched or self._changes:
            try:
                await self._write()
            except StoreFailed as error:
                log.warning("store.failed", detail=str(error))
                await asyncio.sleep(RETRY)

    async def _write(self) -> None:
        changes, self._changes = self._changes, []
        try:
            if changes:
                await self._store.commit(*changes)
        except StoreFailed:
            self._changes = changes + self._changes
            raise
        for service_id, backend_id in list(self._touched):
            # Under the service's lock, so that the row is not written over one that was planned meanwhile.
            async with self._locks.hold(service_id):
                row = self._registry.row(service_id, backend_id)
                if row is None:
                    await self._store.commit(RemoveBackend(service_id, backend_id))
                else:
                    await self._store.commit(SaveBackend(service_id, row.position, row.backend, row.draining))
            self._touched.pop((service_id, backend_id), None)
