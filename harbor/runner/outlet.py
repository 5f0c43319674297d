"""Output leaves by a thread: a terminal that is stopped, or a disk that is slow, holds up no heartbeat."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

ROOM: Final = 1 << 20  # bytes that may wait; then whoever writes is asked to pause
PATIENCE: Final = 2.0  # seconds without progress after which output is dropped rather than its writer held up
LAST_WORDS: Final = 2.0  # seconds that the end waits for what is still to be written

# Writes what somebody, by name and number, wrote. An empty chunk: nothing more will come of it.
Write = Callable[[str, int, bytes], None]


class Outlet:
    """A queue and the thread that empties it.

    Closing: ``close()`` waits for what is in the queue, but no longer than ``LAST_WORDS``.

    Errors: none. ``OSError`` from ``write`` ends the writing, and what comes later is dropped: a reader that went away
    must not end the instances.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._chunks: deque[tuple[str, int, bytes]] = deque()
        self._waiting = 0
        self._progress = time.monotonic()
        self._dropped = 0
        self._broken = False
        self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, name: str, number: int, data: bytes) -> bool:
        """Hand over what somebody wrote; False asks for a pause, as there is no room for more."""
        with self._news:
            if self._broken:
                return True
            if self._waiting >= ROOM and time.monotonic() - self._progress > PATIENCE:
                self._dropped += len(data)
                return True
            self._tell_of_gap()
            if not self._chunks:
                self._progress = time.monotonic()
            self._append(name, number, data)
            return self._waiting < ROOM

    def close(self) -> None:
        with self._news:
            self._tell_of_gap()
            self._closed = True
            self._news.notify()
        self._thread.join(LAST_WORDS)

    def _tell_of_gap(self) -> None:
        """Say where something is missing how much that is."""
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._append("harbor", 0, f"{dropped} bytes of output were dropped here: nobody took them\n".encode())

    def _append(self, name: str, number: int, data: bytes) -> None:
        self._chunks.append((name, number, data))
        self._waiting += len(data)
        self._news.notify()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            name, number, data = found
            try:
                self._write(name, number, data)
            except OSError:
                with self._news:
                    self._broken = True
                    self._chunks.clear()
                return
            with self._news:
                self._waiting -= len(data)
                self._progress = time.monotonic()

    def _next(self) -> tuple[str, int, bytes] | None:
        with self._news:
            self._news.wait_for(lambda: self._chunks or self._closed)
            return self._chunks.popleft() if self._chunks else None
