"""How many bytes may pass: what is over the rate waits, or is dropped where it cannot wait.

A meter is ahead of its time or behind it. What passes is charged after it has passed, for a read takes what there is;
so a meter may go into debt by one read, and then lets nothing pass until the debt is paid. After a silence it lets
``burst`` bytes pass at once.
"""

from __future__ import annotations

from typing import Final

BURST: Final = 0.1  # seconds of its rate that a meter saves up: short enough to look even, long enough for few timers
PATIENCE: Final = 0.05  # seconds of its rate for which a slow meter lets others wait, at most
LEAST_BURST: Final = 4096  # bytes, lest a slow meter chops streams into crumbs


class Meter:
    """One meter, full when it is made. ``rate`` is in bytes per second and may be changed at any time."""

    __slots__ = ("_at", "_saved", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._at = now
        self._saved = self.burst

    @property
    def burst(self) -> float:
        """Bytes that it saves up, at most."""
        return max(BURST * self.rate, float(LEAST_BURST))

    @property
    def worth(self) -> float:
        """The fewest bytes that are let pass at a time: not each as it comes, which would cost a read apiece."""
        return max(1.0, min(float(LEAST_BURST), PATIENCE * self.rate))

    def allowance(self, now: float) -> int:
        """How many bytes may pass now; none while that would be less than what is worth it."""
        self._saved = min(self.burst, self._saved + (now - self._at) * self.rate)
        self._at = now
        return int(self._saved) if self._saved >= self.worth else 0

    def charge(self, count: int) -> None:
        """So many bytes have passed."""
        self._saved -= count

    def wait(self) -> float:
        """Seconds from the last ``allowance`` until it is worth asking again."""
        return max(0.0, (self.worth - self._saved) / self.rate)
