"""One entry of the event feed: who did what to which service, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """``id`` grows by one per event; ``time`` is Unix time; ``kind`` is a stable name like ``service.created``."""

    id: int
    time: float
    kind: str
    actor: str
    message: str
    service: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
