"""The store in one sqlite file, ``<state_dir>/harbor.db``, written by one thread.

A write-ahead log flushed at every commit (``synchronous=FULL``): what was acknowledged survives a crash
at any instant. Of events and of remembered replies the newest 10,000 are kept.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from harbor.errors import StoreFailed
from harbor.store import Change, Snapshot
from harbor.store.database import DATABASE_NAME, copy_database, open_database, open_for_reading, refusal
from harbor.store.lock import StateLock, prepare_directory
from harbor.store.rows import read_snapshot, statements
from harbor.store.secret import load_or_create_secret
from harbor.store.writer import Batch, Writer, explain

KEY_NAME: Final = "binding.key"


class SqliteStore:
    """The ``Store`` of a node that is alone on its state directory.

    ``commit`` and ``close`` belong to event loops and do not block them. A commit whose task is cancelled
    still happens.
    """

    def __init__(self, path: Path, writer: Writer) -> None:
        """Use ``SqliteStore.open``."""
        self.path = path
        self._writer = writer
        self._closed = False

    @classmethod
    def open(cls, state_dir: Path) -> SqliteStore:
        """Lock the state directory and open the database in it, making either if it is missing. Blocks.

        Closing: the caller owns the store. Errors: ``StateUnusable`` says what is wrong and what would work;
        nothing was changed then.
        """
        directory = prepare_directory(state_dir)
        with ExitStack() as undo:
            lock = StateLock(directory)
            undo.callback(lock.release)
            path = directory / DATABASE_NAME
            writer = Writer(open_database(path), path, on_stopped=lock.release)
            undo.pop_all()  # the lock is the writer's now
            return cls(path, writer)

    @property
    def failure(self) -> str | None:
        """Why the latest commit failed, in words; None after one that succeeded."""
        return self._writer.failure

    def load(self) -> Snapshot:
        """All that is committed. Blocks; meant for the start.

        Services come in order of their creation. Errors: ``StateUnusable`` names the table and the row that
        cannot be understood.
        """
        try:
            with closing(open_for_reading(self.path)) as connection:
                return read_snapshot(connection)
        except sqlite3.Error as exc:
            raise refusal(self.path, exc) from exc

    def key(self) -> bytes:
        """The secret in ``<state_dir>/binding.key``, made at the first start. Errors: ``StateUnusable``."""
        return load_or_create_secret(self.path.with_name(KEY_NAME), "key")

    async def commit(self, *changes: Change) -> None:
        """Return once the changes are on disk, all of them; ``StoreFailed`` if none of them is."""
        if self._closed:
            raise StoreFailed(f"{self.path} was not changed: the store is closed")
        if not changes:
            return
        loop = asyncio.get_running_loop()
        try:
            # Here and not in the thread: the values may hold mappings that their owner changes later.
            batch = Batch([line for change in changes for line in statements(change)], loop, loop.create_future())
        except (TypeError, ValueError) as exc:
            raise StoreFailed(f"{self.path} was not changed: {explain(exc)}") from exc
        self._writer.submit(batch)
        await batch.done

    def backup(self, target: Path) -> None:
        """Copy what is committed to ``target``, whole or not at all, while the node runs. Blocks.

        To restore: stop the node, move ``harbor.db`` and every ``harbor.db-*`` away, and copy the backup to
        ``harbor.db``. Errors: ``StoreFailed``.
        """
        try:
            copy_database(self.path, target)
        except (OSError, sqlite3.Error) as exc:
            raise StoreFailed(f"no backup was made at {target}: {explain(exc)}") from exc

    async def close(self) -> None:
        """Finish what was asked for, empty the log, then release the state directory. A second call waits too."""
        if not self._closed:
            self._closed = True
            self._writer.stop()
        await asyncio.to_thread(self._writer.join)

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path} [{'closed' if self._closed else self.failure or 'ok'}]>"
