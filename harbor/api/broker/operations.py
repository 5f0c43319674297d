"""What is under way, so that requests for one instance do not run into one another.

Rule 1: one change of an instance at a time. Another one is refused, as the specification wants it (422, *Concurrency
        Error*), not queued: the platform decides what becomes of it.
Rule 2: bindings of one instance are made and removed side by side, but not while the instance itself changes.
Rule 3: the same request again, while the first is under way, is not another one: it waits and gets the same answer. The
        same id with other content is a conflict (409).
Rule 4: a change goes on if the one who asked for it hangs up. So a retry meets it, and never makes a second one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from harbor.errors import Refused

MAKING: Final = frozenset({"provision", "bind"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One change under way. ``binding_id`` is None for those of the instance itself."""

    instance_id: str
    binding_id: str | None
    kind: str
    request: Any
    task: asyncio.Task[Any]

    def clashes(self, instance_id: str, binding_id: str | None) -> bool:
        """Whether a change of that can not run beside this one."""
        if instance_id != self.instance_id:
            return False
        return self.binding_id is None or binding_id is None or binding_id == self.binding_id


class Operations:
    """The changes that are under way."""

    def __init__(self) -> None:
        self._running: list[Operation] = []

    def kind(self, instance_id: str, binding_id: str | None = None) -> str | None:
        """What is being done to this very thing; None if nothing is."""
        for operation in self._running:
            if (operation.instance_id, operation.binding_id) == (instance_id, binding_id):
                return operation.kind
        return None

    async def carry_out(
        self,
        kind: str,
        instance_id: str,
        binding_id: str | None,
        request: Any,
        work: Callable[[], Coroutine[Any, Any, Any]],
    ) -> tuple[Any, bool]:
        """Do the work, or wait for the same request; returns the result, and False if it was another's.

        Errors: those of the work; ``Refused`` (``concurrency_error``, ``instance_conflict``, ``binding_conflict``).
        """
        for operation in self._running:
            if operation.clashes(instance_id, binding_id):
                _check_same(operation, kind, binding_id, request)
                return await asyncio.shield(operation.task), False
        task = asyncio.get_running_loop().create_task(work(), name=f"broker {kind}")
        operation = Operation(instance_id, binding_id, kind, request, task)
        self._running.append(operation)
        task.add_done_callback(lambda _: self._end(operation))
        return await asyncio.shield(task), True

    def _end(self, operation: Operation) -> None:
        self._running.remove(operation)
        if not operation.task.cancelled():
            operation.task.exception()  # nobody may be left to hear it


def _check_same(operation: Operation, kind: str, binding_id: str | None, request: Any) -> None:
    same_thing = (operation.kind, operation.binding_id) == (kind, binding_id)
    if not same_thing or kind not in MAKING:
        raise Refused(
            f"another operation of this instance is under way ({operation.kind}); try again when it has ended",
            code="concurrency_error",
            status=422,
        )
    if operation.request != request:
        raise conflict(kind)


def conflict(kind: str) -> Refused:
    """The id is in use, for something else."""
    if kind == "provision":
        message = "this instance exists already, with other attributes; update it, or use another id"
        return Refused(message, code="instance_conflict")
    message = "this binding exists already, for something else; remove it, or use another id"
    return Refused(message, code="binding_conflict")
