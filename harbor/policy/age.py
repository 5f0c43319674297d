"""How old a session may become: not all of the same age at once, or their clients would all come back at once."""

from __future__ import annotations

from typing import Final

SPREAD: Final = 0.1  # of max_session_age, over which the ends of sessions that began together are spread
_GOLDEN: Final = 0.6180339887498949  # multiples of it, taken modulo 1, lie as far apart as they can (Knuth 6.4)


def age_limit(max_session_age: float, number: int) -> float:
    """Seconds after which the session with this number ends: never more than ``max_session_age``."""
    return max_session_age * (1.0 - SPREAD * (number * _GOLDEN % 1.0))
