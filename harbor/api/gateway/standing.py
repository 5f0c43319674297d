"""How the gateway stands with its cloud controller: whether it may answer yet, and where the two disagree.

A cloud controller keeps its own list of what it was given, the handles. Until a node that was told of one has fetched
that list, its gateway refuses to answer, as the protocol has it. What only one of the two knows of is told to the
administrator and not touched: a cloud controller that lost its database must not take the ports away with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from harbor.errors import Refused
from harbor.policy.naming import shown

NAMED: Final = 5  # of a list in a warning; who needs all of them has the log


class Standing:
    """What is known of the cloud controller. Without one, the gateway waits for nothing and nothing is wrong."""

    def __init__(self, node_id: str, *, waiting: bool) -> None:
        self.waiting = waiting
        self._node_id = node_id
        self._troubles: dict[str, str] = {}  # what is tried -> why it fails
        self._lost: dict[str, None] = {}
        self._unlisted: dict[str, str] = {}

    def check(self) -> None:
        """Return once the handles are fetched. Errors: ``Refused`` (``handles_missing``)."""
        if self.waiting:
            raise Refused(
                "the gateway has not fetched its handles from the cloud controller yet; try again in a moment",
                code="handles_missing",
                status=503,
            )

    def fails(self, what: str, why: str) -> None:
        """Something with the cloud controller does not work."""
        self._troubles[what] = why

    def works(self, what: str) -> None:
        """The same, and it works."""
        self._troubles.pop(what, None)

    def reconcile(self, handles: Sequence[Any], held: Mapping[str, str]) -> None:
        """Compare the cloud controller's handles with what this node holds for it (id -> description), and open."""
        listed = frozenset(self._ids(handles))
        self._lost = dict.fromkeys(sorted(listed - held.keys()))
        self._unlisted = {handle: held[handle] for handle in held if handle not in listed}
        self.waiting = False

    def _ids(self, handles: Sequence[Any]) -> Iterator[str]:
        """The handles that are this node's: several nodes may serve one cloud controller."""
        for handle in handles:
            if isinstance(handle, dict) and isinstance(handle.get("service_id"), str):
                credentials = handle.get("credentials")
                node_id = credentials.get("node_id") if isinstance(credentials, dict) else None
                if node_id in (None, self._node_id):
                    yield handle["service_id"]

    def released(self, handle: str) -> None:
        """The cloud controller has let go of this handle."""
        self._lost.pop(handle, None)

    @property
    def lost(self) -> tuple[str, ...]:
        """Handles that the cloud controller lists and this node does not have."""
        return tuple(self._lost)

    @property
    def unlisted(self) -> Mapping[str, str]:
        """What this node had for the cloud controller and that did not list: id -> description."""
        return self._unlisted

    def remarks(self) -> list[str]:
        """What is wrong, without a name or an address: anybody may read it."""
        waiting = ["the gateway waits for the handles of its cloud controller"] if self.waiting else []
        return waiting + [f"the gateway cannot {what}" for what in sorted(self._troubles)]

    def warnings(self, holds: Callable[[str], bool]) -> list[str]:
        """What is wrong, for the administrator; ``holds`` tells which ids this node has by now."""
        found = [f"gateway: cannot {what}: {why}" for what, why in sorted(self._troubles.items())]
        if self._lost:
            found.append(
                f"gateway: the cloud controller lists {_some(self.lost)}, which this node does not have; "
                "whoever uses them there has no port; unbind and delete them there"
            )
        unlisted = [what for handle, what in self._unlisted.items() if holds(handle)]
        if unlisted:
            found.append(
                f"gateway: the cloud controller does not list {_some(unlisted)}; "
                "what nobody uses is given back with harbor delete-service"
            )
        return found


def _some(names: Sequence[str]) -> str:
    text = ", ".join(name if name.isprintable() and len(name) <= 100 else shown(name) for name in names[:NAMED])
    return text if len(names) <= NAMED else f"{text} and {len(names) - NAMED} more"
