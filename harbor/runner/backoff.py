"""When an instance that died is started again. Knows no clock: callers say how long it lived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 0.5  # seconds; even a command that fails at once is tried no more than twice in the first second
LONGEST_DELAY: Final = 30.0  # seconds; whoever mends what was broken need not wait longer
STABLE: Final = 10.0  # seconds of being ready after which an earlier death says nothing about the next


@dataclass(slots=True)
class Backoff:
    """The deaths of one instance, as far as they still count. ``limit`` deaths in a row are too many; 0: never."""

    limit: int = 0
    deaths: int = 0

    def died(self, ready_for: float) -> float | None:
        """Seconds until the next start, or None if it is given up.

        ``ready_for`` is how long the process that died had been ready, in seconds; 0 if it never was.
        """
        if ready_for >= STABLE:
            self.deaths = 0
        self.deaths += 1
        if self.limit and self.deaths >= self.limit:
            return None
        # The exponent is bounded, so that a year of failures overflows nothing.
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.deaths - 1, 16))
