"""Services that were leased for a time only: each is deleted when its time is over.

The end is stored as a point of time, so that it survives a restart. While the node runs the wait for it is by the
monotonic clock, so that a clock that is set neither ends a lease early nor makes it last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from harbor.errors import HarborError
from harbor.model import Service

log = structlog.get_logger("harbor.node")

RETRY: Final = 10.0  # seconds until a deletion is tried again that failed


class Lifetimes:
    """When which service ends. ``end`` deletes one, unless its ``expires_at`` has changed by then."""

    def __init__(self, end: Callable[[Service], Coroutine[Any, Any, None]]) -> None:
        self._end = end
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def follow(self, service: Service) -> None:
        """End the service when its time is over, and not when it was before."""
        self.forget(service.id)
        if service.expires_at is not None:
            self._arm(service, service.expires_at - time.time())

    def forget(self, service_id: str) -> None:
        """The service is no more."""
        timer = self._timers.pop(service_id, None)
        if timer is not None:
            timer.cancel()

    async def close(self) -> None:
        """Watch no longer."""
        self._closed = True
        for service_id in list(self._timers):
            self.forget(service_id)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _arm(self, service: Service, delay: float) -> None:
        self._timers[service.id] = asyncio.get_running_loop().call_later(max(0.0, delay), self._begin, service)

    def _begin(self, service: Service) -> None:
        del self._timers[service.id]
        task = asyncio.get_running_loop().create_task(self._finish(service), name=f"expiry of {service.name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _finish(self, service: Service) -> None:
        try:
            await self._end(service)
        except HarborError as error:
            log.warning("service.expiry_failed", service=service.name, detail=str(error))
            if not self._closed and service.id not in self._timers:
                self._arm(service, RETRY)


def is_overdue(service: Service) -> bool:
    """Whether its time was over before the node started."""
    return service.expires_at is not None and service.expires_at <= time.time()
