"""One life of an instance: a process, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from harbor.client import RefusedByNode
from harbor.errors import HarborError
from harbor.runner import programs
from harbor.runner.answering import Answering
from harbor.runner.environment import Identity, environment, own_variables
from harbor.runner.lifecycle import UNEXPECTED, Event, State, after
from harbor.runner.node import is_hopeless
from harbor.runner.plan import Plan, Surroundings
from harbor.runner.process import Process, sweep_orphans
from harbor.runner.registration import Registration
from harbor.runner.words import expanded

# Seconds between looks at a process that starts: an eighth of its age, within these bounds. So who starts fast is seen
# at once, and who never answers costs little.
SOONEST_LOOK: Final = 0.05
LATEST_LOOK: Final = 1.0
BEATS: Final = 3  # renewals within one ttl, so that two may fail
FAILURES: Final = 3  # failed checks in a row that are no accident
HINT_AFTER: Final = 3.0  # seconds of not answering after which people are told what is awaited


class Life:
    """One process of an instance.

    Closing: ``await run()`` returns once it is over and has left nothing behind: no process, no registration, no port.
    ``retire()`` ends it in order, ``hurry()`` at once.
    """

    def __init__(self, plan: Plan, number: int, around: Surroundings, hopeless: Callable[[str, int], None]) -> None:
        """``hopeless`` is told, with an exit code, if it can never be registered.

        Errors: ``programs.CannotStart``; ``HarborError`` if there is no free port, ``OSError`` if no process.
        """
        self.plan = plan
        self.identity = Identity(plan.app, number, secrets.token_hex(8))
        self.state = State.STARTING
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        self.asked_to_end = False
        self._around = around
        self._hopeless = hopeless
        self._began = time.monotonic()
        self._ready_since: float | None = None
        self._failures = 0
        self._hinted = False
        self._news = asyncio.Event()
        self._retiring: asyncio.Task[None] | None = None
        self._ports = {service.name: around.ports.take() for service in plan.services}
        try:
            own = own_variables(plan.bound, self.identity, self._ports, plan.services[0].name)
            full = environment(os.environ, plan.env, plan.bound, own, self._ports)
            words = expanded(plan.command, own)
            self._process = Process(programs.find(words[0], full), words, full, self._put)
        except BaseException:
            around.ports.give_back(self._ports.values())
            raise
        around.warden.add(self._process.pid)
        self._registration = Registration(plan.services, self._ports, self.name, around)
        self._answering = Answering(plan, self._ports, around, self._process, full, own, self._hint)

    def __repr__(self) -> str:
        return f"<Life {self.name} pid {self._process.pid}: {self.state}>"

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def ready_for(self) -> float:
        """Seconds since it was ready first; 0 if it never was."""
        return 0.0 if self._ready_since is None else time.monotonic() - self._ready_since

    @property
    def _age(self) -> float:
        return time.monotonic() - self._began

    async def run(self) -> int:
        """Live; returns how the process ended: its exit code, or the negative number of a signal."""
        tending = asyncio.create_task(self._tend())
        try:
            await self._process.ended.wait()
            if self.state is State.STOPPING:
                await self._wait_for_the_rest()
        finally:
            self._enter(Event.EXITED)
            self._sweep()
        await self._registration.close()
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        self.over.set()
        assert self._process.code is not None
        return self._process.code

    async def retire(self) -> None:
        """End it in order: drain, deregister, SIGTERM, and SIGKILL when its time is up. Returns once it is over."""
        if self._retiring is None:
            # A task of its own: whoever asked may lose patience, and the next who asks finds it under way.
            self._retiring = asyncio.create_task(self._retire())
        await self.over.wait()

    def hurry(self) -> None:
        """End it now."""
        self.asked_to_end = True
        if self.state is not State.OVER:
            self._enter(Event.HURRY)
            self._process.kill()

    def pause(self) -> None:
        """Stop all its processes where they are."""
        self._process.signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on. Its leases may have run out meanwhile."""
        self._process.signal_all(signal.SIGCONT)
        self._news.set()

    async def _tend(self) -> None:
        """Register it where it answers, renew its leases, and take it out while it is unwell."""
        around = self._around
        while True:
            try:
                await self._look()
                settled = self.state in (State.READY, State.RETIRING) and not self._failures
            except HarborError as error:
                around.contact(error)
                self._consider(error)
                settled = False
            pause = min(max(SOONEST_LOOK, self._age / 8), LATEST_LOOK)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(around.ttl / BEATS if settled else pause):
                    await self._news.wait()
            self._news.clear()

    async def _look(self) -> None:
        registration = self._registration
        if self.state in UNEXPECTED:
            well = await self._answering.is_well()
            self._failures = 0 if well else self._failures + 1
            for service in self.plan.services if well else ():
                if service.name not in registration and await self._answering.is_at(service):
                    registration.add(service.name)
        if await registration.renew():
            self._around.contact(None)
        if self.state is State.READY and self._failures >= FAILURES:
            self._enter(Event.CHECKS_FAIL)
            self._say(f"its health check failed {FAILURES} times: no new sessions until it passes", wrong=True)
            await registration.leave()
        elif self.state in (State.STARTING, State.UNWELL) and registration.covers(self.plan.asked):
            self._enter(Event.ANSWERS)
            self._ready_since = time.monotonic() if self._ready_since is None else self._ready_since
            self.ready.set()
            self._say(f"is ready: {registration}")

    def _consider(self, error: HarborError) -> None:
        """Whether a life that was never registered ever can be."""
        if self._ready_since is None and is_hopeless(error):
            about_us = isinstance(error, RefusedByNode) and error.code.startswith("backend_")
            advice = "; or say with --advertise where else the node reaches this machine" if about_us else ""
            self._hopeless(f"{self.name} cannot be registered: {error.message}{advice}", 1)

    async def _retire(self) -> None:
        self.asked_to_end = True
        if self.state not in UNEXPECTED:
            return
        self._enter(Event.RETIRE)
        if self.state is State.RETIRING:
            await self._until_over(self._registration.drain())
        if self.state is State.RETIRING:
            self._enter(Event.DRAINED)
        await self._until_over(self._registration.close())
        if self.state is State.STOPPING:
            self._process.signal_group(signal.SIGTERM)
            await self._until_over(asyncio.sleep(self._around.stop_timeout))
        if self.state is State.STOPPING:
            self._say(f"did not end within {self._around.stop_timeout:g} s of SIGTERM: killed", wrong=True)
            self._enter(Event.TIME_IS_UP)
            self._process.kill()

    async def _wait_for_the_rest(self) -> None:
        """The process that was started has gone; what it started may still take the rest of its time to end."""
        while self.state is State.STOPPING and self._process.members():  # noqa: ASYNC110  only /proc knows
            await asyncio.sleep(SOONEST_LOOK)

    async def _until_over(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something, but no longer than it lives."""
        doing, end = asyncio.create_task(what), asyncio.create_task(self.over.wait())
        try:
            await asyncio.wait((doing, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            doing.cancel()
            end.cancel()
            await asyncio.gather(doing, end, return_exceptions=True)

    def _sweep(self) -> None:
        self._around.warden.remove(self._process.pid)
        self._process.sweep()
        sweep_orphans(f"HARBOR_INSTANCE_ID={self.identity.id}")
        self._put(b"")
        self._around.ports.give_back(self._ports.values())

    def _enter(self, event: Event) -> None:
        self.state = after(self.state, event)

    def _put(self, data: bytes) -> bool:
        return self._around.output.put(self.name, self.identity.number, data)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        self._around.output.say(f"{self.name} {text}", wrong=wrong)

    def _hint(self, text: str) -> None:
        """Tell people, once, what is awaited, if it takes long."""
        if not self._hinted and self._ready_since is None and self._age > HINT_AFTER:
            self._hinted = True
            self._say(text, wrong=True)
