"""Tells when what is looked at again and again has changed and come to rest, as files do that are being replaced."""

from __future__ import annotations

from typing import Final

_NEVER: Final = object()


class Settling:
    """A change counts once, when it was seen in two looks in a row: nobody gets to see half of it."""

    def __init__(self) -> None:
        self._known: dict[str, object] = {}
        self._moving: dict[str, object] = {}

    def look(self, key: str, state: object, at_once: bool = False) -> bool:
        """Whether this state is a new one that has come to rest; ``at_once`` takes it as it is."""
        if state == self._known.get(key, _NEVER):
            self._moving.pop(key, None)
            return False
        if not at_once and self._moving.get(key, _NEVER) != state:
            self._moving[key] = state
            return False
        self._moving.pop(key, None)
        self._known[key] = state
        return True

    def forget(self, key: str) -> None:
        """The next look at it is the first one."""
        self._known.pop(key, None)
        self._moving.pop(key, None)
