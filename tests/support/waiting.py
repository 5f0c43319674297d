"""Waiting for a condition, with a deadline: the only way a test lets time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_EVERY = 0.005


def eventually(condition: Callable[[], T], within: float = 10.0, what: str = "") -> T:
    """The first true value of ``condition()``; fails when there was none in time."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what or 'the condition'} (last: {value!r})")
        time.sleep(LOOK_EVERY)
