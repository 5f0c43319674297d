"""A program that is killed, starved and slowed by the tests: commits numbered batches and says what came of each.

    commit_numbered.py STATE_DIR FIRST LAST [--ticks] [--vanish]

Prints ``ok N`` or ``failed N MESSAGE`` after each batch, at once. Batch N saves service N and its backend, and rests
port N. ``--ticks`` prints how often the loop turned during the slowest commit, ``--vanish`` leaves without closing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from harbor.errors import StoreFailed
from harbor.model import Backend, Exposure, Protocol, Service
from harbor.store import Change, RestPort, SaveBackend, SaveService
from harbor.store.sqlite import SqliteStore


def batch(number: int) -> list[Change]:
    service = Service(f"s{number}", f"name-{number}", Protocol.TCP, 30000 + number, 4100 + number, Exposure.PRIVATE)
    return [
        SaveService(service),
        SaveBackend(service.id, 0, Backend(f"b{number}", "10.0.0.1", number)),
        RestPort(number),
    ]


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


class Ticker:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            self.count += 1


async def commit(store: SqliteStore, number: int) -> None:
    try:
        await store.commit(*batch(number))
        say(f"ok {number}")
    except StoreFailed as exc:
        say(f"failed {number} {exc}")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--ticks", action="store_true")
    parser.add_argument("--vanish", action="store_true")
    wanted = parser.parse_args()
    store = SqliteStore.open(wanted.state_dir)
    say("open")
    ticker = Ticker()
    most = 0
    for number in range(wanted.first, wanted.last + 1):
        before = ticker.count
        await commit(store, number)
        most = max(most, ticker.count - before)
    if wanted.ticks:
        say(f"ticks {most}")
    ticker.task.cancel()
    if wanted.vanish:
        os._exit(0)
    await store.close()
    say("closed")


if __name__ == "__main__":
    asyncio.run(main())
