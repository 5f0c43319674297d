"""Changes as SQL statements, and rows as values again. Names and texts travel as parameters only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from harbor.errors import Invalid, StateUnusable
from harbor.model import Backend, Binding, Event, Exposure, Protocol, Service, Tls
from harbor.model.certificate import Source
from harbor.model.policy import check_overrides
from harbor.model.server_names import check_server_names
from harbor.model.tls import check_backend_tls, check_settings
from harbor.store import (
    Change,
    RemoveBackend,
    RemoveBinding,
    RemoveCertificate,
    RemoveService,
    RestPort,
    SaveBackend,
    SaveBinding,
    SaveCertificate,
    SaveEvent,
    SaveReply,
    SaveService,
    Snapshot,
    WakePorts,
)

Statement = tuple[str, tuple[Any, ...]]
T = TypeVar("T")

# Some days of a busy node in a few megabytes, read at every start.
KEPT_EVENTS: Final = 10_000
# By number and not by age: bounded whatever clients send, and needs no clock that may jump.
KEPT_REPLIES: Final = 10_000
# Trimming touches the oldest page of the table; once per this many inserts it costs next to nothing.
_TRIM_EVERY: Final = 256

# An upsert and never REPLACE, which would delete the row first and the service's backends with it.
_SAVE_SERVICE: Final = """
    INSERT INTO services
        (id, name, protocol, port, int_port, exposure, tls, plan, created, overrides, origin, tls_rules, backend_tls,
        server_names, expires_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, protocol = excluded.protocol, port = excluded.port,
        int_port = excluded.int_port, exposure = excluded.exposure, tls = excluded.tls, plan = excluded.plan,
        created = excluded.created, overrides = excluded.overrides, origin = excluded.origin,
        tls_rules = excluded.tls_rules, backend_tls = excluded.backend_tls, server_names = excluded.server_names,
        expires_at = excluded.expires_at
"""
_SAVE_BACKEND: Final = """
    INSERT OR REPLACE INTO backends (service_id, id, position, host, port, ttl, instance, draining, weight)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SAVE_BINDING: Final = """
    INSERT INTO bindings (id, service_id, app, created, token_digest, origin) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET service_id = excluded.service_id, app = excluded.app, created = excluded.created,
        token_digest = excluded.token_digest, origin = excluded.origin
"""
_SAVE_CERTIFICATE: Final = "INSERT OR REPLACE INTO certificates (owner, source, digest, since) VALUES (?, ?, ?, ?)"
_SAVE_EVENT: Final = """
    INSERT INTO events (id, time, kind, actor, message, service, details) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_TRIM_EVENTS: Final = "DELETE FROM events WHERE id <= ?"
_SAVE_REPLY: Final = "INSERT OR REPLACE INTO replies (key, fingerprint, body) VALUES (?, ?, ?)"
_TRIM_REPLIES: Final = f"""
    DELETE FROM replies WHERE last_insert_rowid() % {_TRIM_EVERY} = 0 AND number <= last_insert_rowid() - {KEPT_REPLIES}
"""  # noqa: S608  numbers of this module


def statements(change: Change) -> list[Statement]:
    """What makes one change durable; ``ValueError`` or ``TypeError`` if it holds what JSON cannot say."""
    match change:
        case SaveService(service):
            return [(_SAVE_SERVICE, _service_row(service))]
        case RemoveService(service_id):
            return [
                ("DELETE FROM services WHERE id = ?", (service_id,)),  # the rest by ON DELETE CASCADE, but for
                ("DELETE FROM certificates WHERE owner = ?", (service_id,)),
            ]
        case SaveBackend(service_id, position, backend, draining):
            row = (backend.host, backend.port, backend.ttl, backend.instance, int(draining), backend.weight)
            return [(_SAVE_BACKEND, (service_id, backend.id, position, *row))]
        case RemoveBackend(service_id, backend_id):
            return [("DELETE FROM backends WHERE service_id = ? AND id = ?", (service_id, backend_id))]
        case SaveBinding(binding):
            binding_row = (binding.app, binding.created, binding.token_digest, _json(binding.origin))
            return [(_SAVE_BINDING, (binding.id, binding.service_id, *binding_row))]
        case RemoveBinding(binding_id):
            return [("DELETE FROM bindings WHERE id = ?", (binding_id,))]
        case SaveCertificate(owner, source, digest, since):
            return [(_SAVE_CERTIFICATE, (owner, source.value, digest, since))]
        case RemoveCertificate(owner, source):
            return [("DELETE FROM certificates WHERE owner = ? AND source = ?", (owner, source.value))]
        case RestPort(port):
            return [("INSERT OR IGNORE INTO resting_ports (port) VALUES (?)", (port,))]
        case WakePorts(ports):
            return [("DELETE FROM resting_ports WHERE port = ?", (port,)) for port in ports]
        case SaveEvent(event):
            return list(_event_statements(event))
        case SaveReply(key, fingerprint, body):
            return [(_SAVE_REPLY, (key, fingerprint, _json(body))), (_TRIM_REPLIES, ())]


def _service_row(service: Service) -> tuple[Any, ...]:
    return (
        service.id,
        service.name,
        service.protocol.value,
        service.port,
        service.int_port,
        service.exposure.value,
        service.tls.value,
        service.plan,
        service.created,
        _json(service.overrides),
        _json(service.origin),
        _json(service.tls_rules),
        None if service.backend_tls is None else _json(service.backend_tls),
        json.dumps(service.server_names, separators=(",", ":")),
        service.expires_at,
    )


def _event_statements(event: Event) -> Iterator[Statement]:
    row = (event.id, event.time, event.kind, event.actor, event.message, event.service, _json(event.details))
    yield _SAVE_EVENT, row
    if event.id % _TRIM_EVERY == 0:
        yield _TRIM_EVENTS, (event.id - KEPT_EVENTS,)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), separators=(",", ":"))


def read_snapshot(connection: sqlite3.Connection) -> Snapshot:
    """Everything that is stored, as of one moment; ``StateUnusable`` names the row that makes no value."""
    connection.execute("BEGIN")
    try:
        return Snapshot(
            services=_read(connection, "services", "SELECT * FROM services ORDER BY created, id", _service),
            backends=_read(
                connection, "backends", "SELECT * FROM backends ORDER BY service_id, position, id", _saved_backend
            ),
            bindings=_read(connection, "bindings", "SELECT * FROM bindings ORDER BY created, id", _binding),
            certificates=_read(
                connection,
                "certificates",
                "SELECT *, owner AS id FROM certificates ORDER BY owner, source",
                _certificate,
            ),
            resting=_read(connection, "resting_ports", "SELECT port AS id FROM resting_ports ORDER BY port", _port),
            replies=_newest(connection, "replies", "number", KEPT_REPLIES, _saved_reply),
            events=_newest(connection, "events", "id", KEPT_EVENTS, _event),
        )
    finally:
        connection.execute("ROLLBACK")


def _newest(
    connection: sqlite3.Connection, table: str, column: str, count: int, value: Callable[[sqlite3.Row], T]
) -> tuple[T, ...]:
    """The newest rows, oldest first. The names are this module's own."""
    query = f"SELECT *, {column} AS id FROM {table} ORDER BY {column} DESC LIMIT {count}"  # noqa: S608
    return _read(connection, table, query, value)[::-1]


def _read(connection: sqlite3.Connection, table: str, query: str, value: Callable[[sqlite3.Row], T]) -> tuple[T, ...]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return tuple(_value(table, row, value) for row in cursor.execute(query))


def _value(table: str, row: sqlite3.Row, value: Callable[[sqlite3.Row], T]) -> T:
    try:
        return value(row)
    except (ValueError, TypeError, Invalid) as exc:
        raise StateUnusable(
            f"the row of table {table} with id {row['id']!r} cannot be understood ({exc}); "
            "restore a backup, or correct the row with sqlite3 while Harbor is stopped"
        ) from exc


def _service(row: sqlite3.Row) -> Service:
    return Service(
        id=_typed(row, "id", str),
        name=_typed(row, "name", str),
        protocol=Protocol(row["protocol"]),
        port=_typed(row, "port", int),
        int_port=_typed(row, "int_port", int),
        exposure=Exposure(row["exposure"]),
        tls=Tls(row["tls"]),
        plan=_optional(row, "plan", str),
        created=_typed(row, "created", float),
        overrides=check_overrides(_mapping(row, "overrides")),
        origin=_mapping(row, "origin"),
        tls_rules=check_settings(_mapping(row, "tls_rules")),
        backend_tls=None if row["backend_tls"] is None else check_backend_tls(_mapping(row, "backend_tls")),
        server_names=check_server_names(json.loads(_typed(row, "server_names", str))),
        expires_at=_optional(row, "expires_at", float),
    )


def _saved_backend(row: sqlite3.Row) -> SaveBackend:
    backend = Backend(
        id=_typed(row, "id", str),
        host=_typed(row, "host", str),
        port=_typed(row, "port", int),
        ttl=_optional(row, "ttl", float),
        instance=_optional(row, "instance", str),
        weight=_typed(row, "weight", int),
    )
    draining = bool(_typed(row, "draining", int))
    return SaveBackend(_typed(row, "service_id", str), _typed(row, "position", int), backend, draining)


def _binding(row: sqlite3.Row) -> Binding:
    return Binding(
        id=_typed(row, "id", str),
        service_id=_typed(row, "service_id", str),
        app=_typed(row, "app", str),
        created=_typed(row, "created", float),
        token_digest=_typed(row, "token_digest", str),
        origin=_mapping(row, "origin"),
    )


def _certificate(row: sqlite3.Row) -> SaveCertificate:
    return SaveCertificate(
        _typed(row, "owner", str), Source(row["source"]), _typed(row, "digest", str), _typed(row, "since", float)
    )


def _port(row: sqlite3.Row) -> int:
    return _typed(row, "id", int)


def _saved_reply(row: sqlite3.Row) -> SaveReply:
    return SaveReply(_typed(row, "key", str), _typed(row, "fingerprint", str), _mapping(row, "body"))


def _event(row: sqlite3.Row) -> Event:
    return Event(
        id=_typed(row, "id", int),
        time=_typed(row, "time", float),
        kind=_typed(row, "kind", str),
        actor=_typed(row, "actor", str),
        message=_typed(row, "message", str),
        service=_optional(row, "service", str),
        details=_mapping(row, "details"),
    )


def _typed(row: sqlite3.Row, column: str, kind: type[T]) -> T:
    """sqlite keeps what it was given, whatever the column's declared type: a hand-edited row may hold anything."""
    value = row[column]
    if not isinstance(value, kind):
        raise TypeError(f"{column} is {value!r}")
    return value


def _optional(row: sqlite3.Row, column: str, kind: type[T]) -> T | None:
    return None if row[column] is None else _typed(row, column, kind)


def _mapping(row: sqlite3.Row, column: str) -> dict[str, Any]:
    value = json.loads(_typed(row, column, str))
    if not isinstance(value, dict):
        raise TypeError(f"{column} is {value!r}")
    return value
