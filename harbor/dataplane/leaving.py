"""The sessions of backends that leave: they have their time, and are not all ended at the same moment.

In the first half of ``drain_timeout`` none is ended; in the second they go one after the other, the oldest first, and
the last when the time is over. Their clients come back spread over that half, and not as one crowd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from harbor.model import Reason
from harbor.policy.rotation import Slot

if TYPE_CHECKING:
    from harbor.dataplane.plane import OpenPort

STEPS: Final = 20  # in which the second half is walked


class Leaving:
    """What becomes of the sessions that some former backends have now. It holds itself by its timers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: OpenPort, slots: Sequence[Slot], within: float) -> None:
        self._loop = loop
        self._port = port
        self._slots = slots
        self._pause = within / 2 / STEPS
        self._steps = STEPS
        loop.call_later(within / 2, self._wait)

    def _wait(self) -> None:
        if any(slot.active for slot in self._slots):
            self._loop.call_later(self._pause, self._step)

    def _step(self) -> None:
        if self._steps == 1:
            self._port.cut(self._slots, Reason.DRAINED)
            return
        staying = [session for session in self._port.sessions() if session.slot in self._slots]
        for session in staying[: len(staying) // self._steps]:
            self._port.end(session, Reason.DRAINED)
        self._steps -= 1
        self._wait()
