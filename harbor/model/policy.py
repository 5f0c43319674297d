"""The policy of a service: node defaults, overridden one by one by what the service was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from harbor.errors import Invalid


class Removal(StrEnum):
    """What becomes of a backend's sessions when it is removed."""

    DRAIN = "drain"  # they live on for up to drain_timeout
    CUT = "cut"  # they end at once
    KEEP = "keep"  # they live as long as they like


@dataclass(frozen=True, slots=True)
class Policy:
    """A complete policy. Timeouts and ``hsts`` are seconds; 0 means "off" for ``idle_timeout``, ``hsts`` and limits."""

    connect_timeout: float = 5.0
    idle_timeout: float = 0.0
    udp_timeout: float = 60.0
    drain_timeout: float = 30.0
    max_sessions: int = 10_000
    max_sessions_per_backend: int = 0
    removal: Removal = Removal.DRAIN
    http: bool | None = None  # None: where the node ends TLS because name or plan say https
    hsts: int = 0

    def with_overrides(self, overrides: Mapping[str, Any]) -> Policy:
        """This policy with some fields replaced; raises ``Invalid`` naming the field that is wrong."""
        return dataclasses.replace(self, **check_overrides(overrides))


# field -> (lowest, highest). The upper bounds keep a typing error ("5000" meant as milliseconds) visible.
BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "connect_timeout": (0.01, 300),
    "idle_timeout": (0, 31_536_000),
    "udp_timeout": (0.1, 86_400),
    "drain_timeout": (0, 86_400),
    "max_sessions": (0, 10_000_000),
    "max_sessions_per_backend": (0, 10_000_000),
    "hsts": (0, 94_608_000),
}
FIELDS: Final = tuple(field.name for field in dataclasses.fields(Policy))
WHOLE: Final = frozenset({"max_sessions", "max_sessions_per_backend", "hsts"})


def check_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides with their exact types, or ``Invalid`` (code ``policy_invalid``)."""
    return {name: _checked(name, value) for name, value in overrides.items()}


def _checked(name: str, value: Any) -> Any:
    if name == "removal":
        try:
            return Removal(value)
        except ValueError:
            raise Invalid(f"removal: {value!r} is none of drain, cut, keep", code="policy_invalid") from None
    if name == "http":
        if not isinstance(value, bool):
            raise Invalid(f"http: {value!r} is neither true nor false", code="policy_invalid")
        return value
    if name not in BOUNDS:
        raise Invalid(f"{name}: no such policy; there are {', '.join(FIELDS)}", code="policy_invalid")
    low, high = BOUNDS[name]
    whole = name in WHOLE
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number of seconds"
        raise Invalid(f"{name}: {value!r} is not {kind} from {low:.12g} to {high:.12g}", code="policy_invalid")
    return value if whole else float(value)
