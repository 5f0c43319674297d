"""An instance: a place with a number, in which one life follows another."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from harbor.errors import HarborError
from harbor.runner.backoff import Backoff
from harbor.runner.guard import NOT_EXECUTABLE, NOT_FOUND
from harbor.runner.life import Life
from harbor.runner.plan import Plan, Surroundings
from harbor.runner.programs import CannotStart


class Instance:
    """Keeps one instance alive, until it is retired or given up. ``code`` is how its last process ended.

    Closing: ``retire()`` ends it in order, ``hurry()`` at once; ``done`` is set when it has ended.
    """

    def __init__(
        self, plan: Plan, number: int, around: Surroundings, limit: int, hopeless: Callable[[str, int], None]
    ) -> None:
        """``hopeless`` is told, with an exit code, if an instance that was never ready never will be."""
        self.number = number
        self.code = 0
        self.done = asyncio.Event()
        self.lives: list[Life] = []  # two while one takes over from the other
        self._plan = plan
        self._around = around
        self._backoff = Backoff(limit)
        self._hopeless = hopeless
        self._current: Life | None = None
        self._was_ready = False
        self._ending = False
        self._changing = asyncio.Lock()  # one life at a time takes the place
        self._at_once = asyncio.Event()  # cuts the wait for the next life short
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._start_after(0.0))

    async def replace(self, plan: Plan, within: float) -> bool:
        """Let another life take over, and retire the present one once the next is ready; whether that worked.

        If the next does not become ready in time, the present one stays.
        """
        async with self._changing:
            old = self._current
            if old is None:
                self._plan = plan
                self._start_now()
                return True
            new = self._begin(plan)
            if new is None or not await _becomes_ready(new, within):
                return False
            self._plan, self._current = plan, new
        await old.retire()
        return True

    async def retire(self) -> None:
        """End it in order."""
        self._end()
        await asyncio.gather(*(life.retire() for life in self.lives))
        await self.done.wait()

    def hurry(self) -> None:
        """End it now."""
        self._end()
        for life in self.lives:
            life.hurry()

    def _start_now(self) -> None:
        """It waits to be started again, or was given up: somebody thinks that it is worth trying."""
        self._backoff.deaths = 0
        self._at_once.set()
        if self.done.is_set():
            self.done.clear()
            self._ending = False
            self._spawn(self._start_after(0.0))

    def _end(self) -> None:
        self._ending = True
        self._at_once.set()
        self._is_over()

    def _is_over(self) -> None:
        if self._ending and not self.lives:
            self.done.set()

    async def _start_after(self, delay: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._at_once.wait()
        async with self._changing:
            if self._current is None and not self._ending:
                self._at_once.clear()
                self._current = self._begin(self._plan)
                if self._current is None:
                    self._next(0.0)

    def _begin(self, plan: Plan) -> Life | None:
        """Start a process. One that cannot be started is told of."""
        try:
            life = Life(plan, self.number, self._around, self._never)
        except CannotStart as error:
            self._tell(plan, f"cannot be started: {error.message}")
            self._never(f"{self._name(plan)} cannot be started", error.exit_code)
            return None
        except (HarborError, OSError) as error:
            self._tell(plan, str(error))
            return None
        self.lives.append(life)
        self._spawn(self._follow(life))
        return life

    async def _follow(self, life: Life) -> None:
        self.code = await life.run()
        self.lives.remove(life)
        self._was_ready = self._was_ready or life.ready.is_set()
        is_current = life is self._current
        if is_current:
            self._current = None
        if self._ending:
            self._is_over()
            return
        if life.asked_to_end:
            return
        self._tell(life.plan, _ending(self.code))
        if self.code in (NOT_FOUND, NOT_EXECUTABLE):
            self._never(f"{life.plan.command[0]} cannot be started", self.code)
        if is_current:
            self._next(life.ready_for)

    def _next(self, ready_for: float) -> None:
        """Have another life, in a while."""
        delay = self._backoff.died(ready_for)
        if delay is None:
            self._tell(self._plan, f"is given up after {self._backoff.deaths} deaths in a row")
            self._ending = True
            self._is_over()
        elif not self._ending:
            self._around.output.say(f"{self._name(self._plan)} starts again in {delay:g} s")
            self._spawn(self._start_after(delay))

    def _never(self, why: str, code: int) -> None:
        if not self._was_ready:
            self._hopeless(why, code)

    def _tell(self, plan: Plan, text: str) -> None:
        self._around.output.say(f"{self._name(plan)} {text}", wrong=True)

    def _name(self, plan: Plan) -> str:
        return f"{plan.app}.{self.number}"

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _becomes_ready(life: Life, within: float) -> bool:
    """Whether it gets ready in time; one that does not is ended."""
    waits = [asyncio.create_task(event.wait()) for event in (life.ready, life.over)]
    try:
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    if not life.ready.is_set():
        await life.retire()
    return life.ready.is_set() and not life.over.is_set()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
