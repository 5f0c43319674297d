"""Services whose TLS the node ends, put into a state directory before a node starts on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harbor.model import Exposure, Protocol, Service, Tls
from harbor.store import SaveService
from harbor.store.sqlite import SqliteStore


async def put_tls_services(
    state_dir: Path, ports: Iterable[int], *names: str, tls_rules: Mapping[str, Any] | None = None
) -> None:
    """One for each name, on these ports; there again with the same id each time."""
    store = SqliteStore.open(state_dir)
    for number, (name, port) in enumerate(zip(names, ports, strict=False)):
        made = Service(
            f"id-{name}", name, Protocol.TCP, port, 4100 + number, Exposure.PRIVATE, Tls.NODE,
            created=1.0 + number, tls_rules=tls_rules or {},
        )  # fmt: skip
        await store.commit(SaveService(made))
    await store.close()
