"""The gateway's side of its registration: the cloud controller is told that it is there, again and again, and at the
end that it leaves; at the start it is asked for the handles.

Nothing waits for it. A cloud controller that is away, slow or lying costs a warning, and the gateway stays shut until
the handles have come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

import structlog

from harbor.api.gateway.offering import offering
from harbor.api.gateway.standing import Standing
from harbor.config import Gateway
from harbor.policy.environment import LABEL
from harbor.sources.cloud_controller import CloudController, CloudControllerFailed

log = structlog.get_logger("harbor.daemon")

FIRST_RETRY: Final = 1.0  # seconds; doubles up to the interval of the registration
LOUD_EVERY: Final = 60.0  # seconds between two warnings of one kind in the log
FAREWELL: Final = 2.0  # seconds that a node which stops waits for the cloud controller to hear of it

REGISTER: Final = "register with the cloud controller"
FETCH: Final = "fetch the handles from the cloud controller"


def register(gateway: Gateway, standing: Standing, url: str, held: Callable[[], Mapping[str, str]]) -> Registration:
    """Begin to register the gateway at ``url``; the cloud controller need not be there. The caller closes it."""
    cloud = CloudController(gateway.cloud_controller, gateway.token.get_secret_value())
    made = Registration(cloud, standing, lambda active: offering(url, active=active), held, interval=gateway.interval)
    made.start()
    return made


def retry_after(failures: int, first: float, most: float) -> float:
    """Seconds to wait after so many failures before: from ``first`` on, twice as long each time, up to ``most``."""
    return float(min(first * 2 ** min(failures, 30), most))


class Registration:
    """Keeps a gateway registered. ``held`` gives what the node holds for the cloud controller, id -> description.

    Closing: ``leave`` begins to sign off and returns at once; ``close`` waits until that is done, or has failed.
    """

    def __init__(
        self,
        cloud: CloudController,
        standing: Standing,
        offering: Callable[[bool], Mapping[str, Any]],
        held: Callable[[], Mapping[str, str]],
        *,
        interval: float,
        first_retry: float = FIRST_RETRY,
        farewell: float = FAREWELL,
    ) -> None:
        self._cloud = cloud
        self._standing = standing
        self._offering = offering
        self._held = held
        self._interval = interval
        self._first_retry = first_retry
        self._farewell = farewell
        self._quiet_until: dict[str, float] = {}
        self._to_tell = {REGISTER, FETCH}  # what the log says next time that it works
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, and return at once."""
        self._tasks = [self._task(self._stay_registered()), self._task(self._fetch_handles())]

    def leave(self) -> None:
        """Stop registering, and begin to tell the cloud controller that the gateway leaves."""
        for task in self._tasks:
            task.cancel()
        self._tasks.append(self._task(self._sign_off()))

    async def close(self) -> None:
        """Wait for the end of it, at most ``farewell`` seconds from ``leave`` on."""
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                log.error("gateway.failed", exc_info=ended)
        await self._cloud.close()

    async def _stay_registered(self) -> None:
        failures = 0
        while True:
            try:
                await self._cloud.offer(self._offering(True))
            except CloudControllerFailed as error:
                self._fails(REGISTER, error)
                await asyncio.sleep(retry_after(failures, self._first_retry, self._interval))
                failures += 1
            else:
                self._works(REGISTER)
                failures = 0
                await asyncio.sleep(self._interval)

    async def _fetch_handles(self) -> None:
        handles = await self._handles()
        self._standing.reconcile(handles, self._held())
        lost, unlisted = self._standing.lost, self._standing.unlisted
        log.info("gateway.open", handles=len(handles))
        if lost or unlisted:
            log.warning("gateway.handles_differ", lost=list(lost), unlisted=list(unlisted.values()))

    async def _handles(self) -> list[Any]:
        for failures in count():
            try:
                handles = await self._cloud.handles(LABEL)
            except CloudControllerFailed as error:
                self._fails(FETCH, error)
                await asyncio.sleep(retry_after(failures, self._first_retry, self._interval))
            else:
                self._works(FETCH)
                return handles
        raise AssertionError("count() does not end")

    async def _sign_off(self) -> None:
        try:
            async with asyncio.timeout(self._farewell):
                await self._cloud.offer(self._offering(False))
            log.info("gateway.signed_off")
        except (CloudControllerFailed, TimeoutError) as error:
            log.warning("gateway.not_signed_off", detail=str(error) or "the cloud controller did not answer in time")

    def _fails(self, what: str, error: CloudControllerFailed) -> None:
        now = asyncio.get_running_loop().time()
        self._standing.fails(what, str(error))
        if now >= self._quiet_until.get(what, now):
            self._quiet_until[what] = now + LOUD_EVERY
            self._to_tell.add(what)
            log.warning("gateway.trouble", what=f"cannot {what}", detail=str(error))

    def _works(self, what: str) -> None:
        self._standing.works(what)
        if what in self._to_tell:
            self._to_tell.discard(what)
            log.info("gateway.works", what=f"can {what}")

    @staticmethod
    def _task(work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name="registration")
