"""All instances of an app: started, kept, replaced one after another, ended in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

from harbor.errors import ConfigInvalid, HarborError
from harbor.policy.naming import variable_for
from harbor.runner import programs
from harbor.runner.environment import Bound
from harbor.runner.instance import Instance
from harbor.runner.life import Life
from harbor.runner.node import Leased
from harbor.runner.plan import Plan, Surroundings
from harbor.runner.process import sweep_orphans
from harbor.runner.stackato import FILE
from harbor.runner.wish import Asked, Wish, wish

READY_WITHIN: Final = 60.0  # seconds for a new life to be ready, in a rolling restart
WATCH_EVERY: Final = 0.5  # seconds between looks at stackato.yml; a change counts once two looks agree


class Supervisor:
    """One run of an app.

    Closing: ``await run()`` returns the exit code once every instance has ended, which ``stop()`` asks for.
    """

    def __init__(self, asked: Asked, around: Surroundings) -> None:
        self._asked = asked
        self._around = around
        self._say = around.output.say
        self._wish: Wish | None = None
        self._instances: list[Instance] = []
        self._code: int | None = None
        self._ending = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._restart = asyncio.Event()

    async def run(self) -> int:
        """Start everything and keep it until it is to end. Errors: ``HarborError`` if it cannot even begin."""
        plan = await self._unless_ending(self._plan())
        if plan is not None:
            self._grow(plan)
            watching = [asyncio.create_task(self._roll()), asyncio.create_task(self._watch())]
            await self._until_ended()
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self._end()
            self._say("stopped")
        assert self._code is not None
        return self._code

    def stop(self, code: int) -> None:
        """End in order, with this exit code. Asked again: end at once."""
        if self._ending.is_set():
            self.hurry(code)
            return
        self._code = code
        self._ending.set()
        if self._instances:
            self._say("stopping: sessions may finish; a second time stops at once")

    def hurry(self, code: int) -> None:
        """End at once."""
        self._code = code if self._code is None else self._code
        self._ending.set()
        self._hurrying.set()
        for instance in self._instances:
            instance.hurry()

    def restart(self) -> None:
        """Replace every instance, one after another, by one that is started anew."""
        self._restart.set()

    def suspend(self) -> None:
        """Stop as a job of a shell does, with all instances, until somebody continues it."""
        for life in self._lives():
            life.pause()
        os.kill(os.getpid(), signal.SIGSTOP)
        for life in self._lives():
            life.resume()

    # What is to run

    async def _plan(self) -> Plan:
        """What a life needs to know, asked of ``stackato.yml`` and the node. Makes and binds what is missing."""
        wanted = wish(self._asked)
        self._around.output.expect(f"{wanted.app}.{wanted.instances}")
        programs.find(wanted.command[0], os.environ | dict(wanted.env))
        node = self._around.node
        made = await node.provide(wanted.app, wanted.services)
        bound = await node.bound(wanted.app)
        if bound is None or not bound.services:
            raise HarborError(
                f"app {wanted.app} is bound to no service: name one with --service NAME, "
                f"declare some under services: in {FILE}, or bind one with harbor bind-service NAME {wanted.app}"
            )
        services = await self._services(wanted, bound)
        if self._asked.health is not None and self._asked.health.subject(services) is None:
            raise HarborError(
                f"--health {self._asked.health.kind} needs a TCP service; use exec:COMMAND for one of UDP"
            )
        if self._wish is None or self._wish.services != wanted.services:
            self._introduce(wanted, services, made)
        self._wish = wanted
        names = frozenset(one.name for one in wanted.services) or frozenset(bound.services)
        return Plan(wanted.app, wanted.command, wanted.env, bound, tuple(services), names)

    async def _services(self, wanted: Wish, bound: Bound) -> list[Leased]:
        """All services of the app, those that were asked for first, in that order."""
        first = [one.name for one in wanted.services]
        names = [*first, *(name for name in bound.services if name not in first)]
        return [await self._around.node.service(name) for name in names]

    def _introduce(self, wanted: Wish, services: Iterable[Leased], made: set[str]) -> None:
        for service in services:
            how = "created" if service.name in made else "bound"
            self._say(
                f"{how} {service.name}: {service.protocol} port {service.port}; "
                f"each instance listens on its own ${variable_for(service.name)}"
            )
        for other in wanted.others:
            self._say(f"{FILE}: {other} is left out: a Harbor node provides services of type harbor", wrong=True)

    # The instances

    def _grow(self, plan: Plan) -> None:
        assert self._wish is not None
        for number in range(len(self._instances) + 1, self._wish.instances + 1):
            limit = self._asked.restart_limit
            self._instances.append(Instance(plan, number, self._around, limit, self._hopeless))

    def _hopeless(self, why: str, code: int) -> None:
        """An instance will never be ready. If no other is either, waiting does not help."""
        if not any(life.ready.is_set() for life in self._lives()):
            self._fail(why, code)

    def _lives(self) -> list[Life]:
        return [life for instance in self._instances for life in instance.lives]

    async def _until_ended(self) -> None:
        """Wait until somebody wants the end, or until every instance has been given up."""
        while not self._ending.is_set():
            waits = [
                asyncio.create_task(instance.done.wait()) for instance in self._instances if not instance.done.is_set()
            ]
            if not waits:
                code = self._instances[-1].code
                self._fail("no instance is left", code if code > 0 else 128 - code if code < 0 else 1)
                return
            waits.append(asyncio.create_task(self._ending.wait()))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()

    def _fail(self, why: str, code: int) -> None:
        """Nothing comes of this run: say so, and end it."""
        if not self._ending.is_set():
            self._say(f"{why}: giving up", wrong=True)
            self._code = code
            self._ending.set()

    async def _end(self) -> None:
        await asyncio.gather(*(self._retire(instance) for instance in self._instances))

    async def _retire(self, instance: Instance) -> None:
        if self._hurrying.is_set():
            instance.hurry()
            await instance.done.wait()
        else:
            await instance.retire()

    # Changes

    async def _roll(self) -> None:
        """Whenever it is wanted: plan anew, and replace one instance after another."""
        while True:
            await self._restart.wait()
            self._restart.clear()
            try:
                plan = await self._plan()
            except HarborError as error:
                for line in error.problems if isinstance(error, ConfigInvalid) else [error.message]:
                    self._say(line, wrong=True)
                self._say("not restarted: everything stays as it was", wrong=True)
                continue
            await self._replace_all(plan)

    async def _replace_all(self, plan: Plan) -> None:
        assert self._wish is not None
        self._say(f"restarting {len(self._instances)} of {plan.app}, one after another")
        for instance in self._instances[: self._wish.instances]:
            if not await instance.replace(plan, READY_WITHIN):
                self._say("the restart is broken off: the others stay as they were", wrong=True)
                return
        # They stay in the list until they have ended: if everything is to end meanwhile, they are waited for as well.
        await asyncio.gather(*(instance.retire() for instance in self._instances[self._wish.instances :]))
        del self._instances[self._wish.instances :]
        self._grow(plan)
        self._say("restarted")

    async def _watch(self) -> None:
        """Reap what was orphaned; restart when ``stackato.yml`` has changed, and is not being written any more."""
        path = self._asked.folder / FILE
        before = seen = _stamp(path)
        while True:
            await asyncio.sleep(WATCH_EVERY)
            sweep_orphans()  # SIGCHLD belongs to uvloop, which would not say of whom it tells
            now = _stamp(path)
            if now == seen and now != before:
                before = now
                if self._is_changed():
                    self._say(f"{FILE} has changed")
                    self._restart.set()
            seen = now

    def _is_changed(self) -> bool:
        """Whether something else is to run now; a file with faults is worth telling of."""
        try:
            return wish(self._asked) != self._wish
        except HarborError:
            return True

    async def _unless_ending(self, planning: Coroutine[Any, Any, Plan]) -> Plan | None:
        task = asyncio.create_task(planning)
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
