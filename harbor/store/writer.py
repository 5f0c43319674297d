"""The one thread that writes: it takes what has been asked for since it last looked and commits it together."""

from __future__ import annotations

import asyncio
import errno
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harbor.errors import StoreFailed
from harbor.store.rows import Statement

# One flush to disk for up to this many callers; the bound keeps the first of them from waiting for all of a flood.
GROUP_LIMIT: Final = 256
_REMEDIES: Final = {
    "SQLITE_FULL": "free some disk space",
    "SQLITE_READONLY": "make the file system writable again",
    "SQLITE_BUSY": "end the program that holds the database",
    "SQLITE_IOERR": "look at the disk and the kernel's log",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Statements that take effect together or not at all, and who waits for them."""

    statements: Sequence[Statement]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]

    def settle(self, failure: StoreFailed | None) -> None:
        """Tell who waits, from another thread; who has gone in the meantime is not missed."""
        try:
            self.loop.call_soon_threadsafe(self._settle, failure)
        except RuntimeError:
            pass  # the loop is closed

    def _settle(self, failure: StoreFailed | None) -> None:
        if self.done.done():
            return  # the waiting task was cancelled; its changes stand
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)


class Writer:
    """Runs batches in the order in which they were submitted.

    Closing: ``stop`` finishes what was submitted before it, checkpoints, closes the connection and calls
    ``on_stopped``; all of that happens in the thread, and ``join`` waits for it.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, on_stopped: Callable[[], None]) -> None:
        self.failure: str | None = None
        self._connection = connection
        self._path = path
        self._on_stopped = on_stopped
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        # Daemon: a program that ends without close() ends like a crash, which loses nothing that was acknowledged.
        self._thread = threading.Thread(target=self._run, name="harbor-store", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        self._queue.put(batch)

    def stop(self) -> None:
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._next_group()
            for batch, failure in zip(group, self._write(group), strict=True):
                self.failure = None if failure is None else failure.message
                batch.settle(failure)
        try:
            self._checkpoint()
            self._connection.close()
        except sqlite3.Error:
            pass  # the log stays beside the database and is read at the next start
        finally:
            self._on_stopped()

    def _next_group(self) -> tuple[list[Batch], bool]:
        """Wait for a batch, and take those that have come meanwhile; True once ``stop`` was reached."""
        group: list[Batch] = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == GROUP_LIMIT or self._queue.empty():
                return group, False
            item = self._queue.get()
        return group, True

    def _write(self, group: Sequence[Batch]) -> list[StoreFailed | None]:
        """Commit the group; one outcome for each batch."""
        if not group:
            return []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._apply(batch) for batch in group]
            self._connection.execute("COMMIT")
        except Exception as exc:  # whatever it was, whoever waits gets an answer and the thread lives
            self._roll_back()
            return [self._failed(exc) for _ in group]
        return outcomes

    def _apply(self, batch: Batch) -> StoreFailed | None:
        """Run one batch inside the transaction; if it fails, the others keep what they did."""
        self._connection.execute("SAVEPOINT batch")
        try:
            for statement, parameters in batch.statements:
                self._connection.execute(statement, parameters)
        except Exception as exc:
            if not self._connection.in_transaction:
                raise  # sqlite has given up the whole transaction (disk full, I/O error)
            self._connection.execute("ROLLBACK TO batch")
            self._connection.execute("RELEASE batch")
            return self._failed(exc)
        self._connection.execute("RELEASE batch")
        return None

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # When flushing the log fails, the log may already hold a complete transaction, the one that is being
            # refused: after a crash it would rise again. An emptied log has none.
            self._checkpoint()
        except sqlite3.Error:
            pass  # the disk is still in trouble; the next write goes over that part of the log

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _failed(self, exc: Exception) -> StoreFailed:
        failure = StoreFailed(f"{self._path} was not changed: {explain(exc)}")
        failure.__cause__ = exc
        return failure


def explain(exc: Exception) -> str:
    """What sqlite, the system or Python said, with its code and what would help."""
    if isinstance(exc, sqlite3.Error):
        name: str = getattr(exc, "sqlite_errorname", type(exc).__name__)
        # "SQLITE_IOERR_FSYNC" -> "SQLITE_IOERR"
        remedy = _REMEDIES.get("_".join(name.split("_")[:2]))
        return f"{exc} ({name})" + (f"; {remedy}" if remedy else "")
    if isinstance(exc, OSError) and exc.errno is not None:
        return f"{exc.strerror} ({errno.errorcode.get(exc.errno, exc.errno)})"
    return f"{exc} ({type(exc).__name__})"
