"""What the store keeps, and how it commits: real files, real sqlite, real threads."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harbor.errors import StateUnusable, StoreFailed
from harbor.model import Backend, Binding, Event, Exposure, Protocol, Removal, Service, Tls
from harbor.store import (
    Change,
    RemoveBackend,
    RemoveBinding,
    RemoveService,
    RestPort,
    SaveBackend,
    SaveBinding,
    SaveEvent,
    SaveReply,
    SaveService,
    Snapshot,
    WakePorts,
)
from harbor.store.rows import KEPT_EVENTS, KEPT_REPLIES
from harbor.store.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "state")
    yield opened
    await opened.close()


def a_service(number: int = 1, **fields: object) -> Service:
    values = {"protocol": Protocol.TCP, "port": 30000 + number, "int_port": 4100, "exposure": Exposure.PRIVATE}
    return Service(**{"id": f"s{number}", "name": f"name-{number}", **values, **fields})  # type: ignore[arg-type]


def a_backend(number: int = 1) -> Backend:
    return Backend(f"b{number}", "10.0.0.1", 8000 + number)


def an_event(number: int) -> Event:
    return Event(number, 1.5, "service.created", "admin", "made", "s1", {"port": 30001})


@contextmanager
def held_by_somebody_else(store: SqliteStore) -> Iterator[None]:
    """Keeps the store's thread waiting at the start of a transaction, as an administrator's shell would."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# -- what is kept ---------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
seconds = st.floats(0, 1e10, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "connect_timeout": st.floats(0.01, 300),
        "idle_timeout": st.integers(0, 3600),
        "max_sessions": st.integers(0, 10_000_000),
        "removal": st.sampled_from(Removal),
    },
)
pool = st.integers(0, 3)


@st.composite
def services(draw: st.DrawFn) -> Service:
    number = draw(pool)
    return Service(
        id=f"s{number}",
        name=f"{number}{draw(texts)}",
        protocol=draw(st.sampled_from(Protocol)),
        port=30000 + number,
        int_port=draw(st.integers(1, 65535)),
        exposure=draw(st.sampled_from(Exposure)),
        tls=draw(st.sampled_from(Tls)),
        plan=draw(st.none() | texts),
        created=draw(seconds),
        overrides=draw(overrides),
        origin=draw(mappings),
    )


backends = st.builds(
    Backend,
    id=st.sampled_from(["b'; --", "b\0", "bé"]),
    host=texts,
    port=st.integers(0, 65535),
    ttl=st.none() | seconds,
    instance=st.none() | texts,
)
service_ids = pool.map("s{}".format)


@st.composite
def bindings(draw: st.DrawFn) -> Binding:
    number = draw(pool)
    app = f"{number}{draw(texts)}"
    return Binding(f"'{number}\0", draw(service_ids), app, draw(seconds), draw(texts), draw(mappings))


changes = st.one_of(
    services().map(SaveService),
    service_ids.map(RemoveService),
    st.builds(SaveBackend, service_ids, st.integers(0, 5), backends, st.booleans()),
    st.builds(RemoveBackend, service_ids, st.sampled_from(["b'; --", "b\0"])),
    bindings().map(SaveBinding),
    pool.map("'{}\0".format).map(RemoveBinding),
    st.integers(1, 5).map(RestPort),
    st.lists(st.integers(1, 5), max_size=3).map(lambda ports: WakePorts(tuple(ports))),
    st.builds(SaveReply, pool.map("key-{}'\"".format), texts, mappings),
    st.builds(
        lambda time, text, service, details: SaveEvent(Event(0, time, text, text, text, service, details)),
        seconds,
        texts,
        st.none() | texts,
        mappings,
    ),
)


class Expected:
    """What a store must hold, in plain dictionaries."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.backends: dict[tuple[str, str], SaveBackend] = {}
        self.bindings: dict[str, Binding] = {}
        self.resting: set[int] = set()
        self.replies: dict[str, SaveReply] = {}
        self.events: list[Event] = []

    def apply(self, change: Change) -> Change | None:
        """Take the change in and return it as it is to be committed; None if nobody would ask for it."""
        match change:
            case SaveService(service):
                self.services[service.id] = service
            case RemoveService(service_id):
                self.services.pop(service_id, None)
                self.backends = {key: saved for key, saved in self.backends.items() if key[0] != service_id}
                self.bindings = {key: kept for key, kept in self.bindings.items() if kept.service_id != service_id}
            case SaveBackend(service_id, _, backend):
                if service_id not in self.services:
                    return None
                self.backends[service_id, backend.id] = change
            case RemoveBackend(service_id, backend_id):
                self.backends.pop((service_id, backend_id), None)
            case SaveBinding(binding):
                if binding.service_id not in self.services:
                    return None
                self.bindings[binding.id] = binding
            case RemoveBinding(binding_id):
                self.bindings.pop(binding_id, None)
            case RestPort(port):
                self.resting.add(port)
            case WakePorts(ports):
                self.resting -= set(ports)
            case SaveReply(key):
                self.replies.pop(key, None)
                self.replies[key] = change
            case SaveEvent(event):
                rest = (event.time, event.kind, event.actor, event.message, event.service, event.details)
                numbered = Event(len(self.events) + 1, *rest)
                self.events.append(numbered)
                return SaveEvent(numbered)
        return change

    def snapshot(self) -> Snapshot:
        return Snapshot(
            services=tuple(sorted(self.services.values(), key=lambda one: (one.created, one.id))),
            backends=tuple(
                sorted(self.backends.values(), key=lambda one: (one.service_id, one.position, one.backend.id))
            ),
            bindings=tuple(sorted(self.bindings.values(), key=lambda one: (one.created, one.id))),
            resting=tuple(sorted(self.resting)),
            replies=tuple(self.replies.values()),
            events=tuple(self.events),
        )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(changes, min_size=1, max_size=6), max_size=6))
def test_every_change_is_found_again_before_and_after_a_restart(batches: Sequence[Sequence[Change]]) -> None:
    expected = Expected()

    async def commit_all(store: SqliteStore) -> None:
        for batch in batches:
            await store.commit(*[change for change in map(expected.apply, batch) if change is not None])
        assert store.load() == expected.snapshot()
        await store.close()

    async def read_again(store: SqliteStore) -> None:
        assert store.load() == expected.snapshot()
        await store.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(commit_all(SqliteStore.open(Path(directory))))
        asyncio.run(read_again(SqliteStore.open(Path(directory))))


async def test_a_new_store_is_empty(store: SqliteStore) -> None:
    assert store.load() == Snapshot()
    assert store.failure is None


async def test_saving_a_service_again_keeps_its_backends(store: SqliteStore) -> None:
    await store.commit(SaveService(a_service()), SaveBackend("s1", 0, a_backend()))
    await store.commit(SaveService(a_service(plan="big")))
    kept = store.load()
    assert kept.services == (a_service(plan="big"),)
    assert kept.backends == (SaveBackend("s1", 0, a_backend()),)


async def test_a_service_takes_its_bindings_with_it(store: SqliteStore) -> None:
    kept = Binding("two", "s2", "web", 2.0, "d2", {"platform": "osb"})
    await store.commit(SaveService(a_service(1)), SaveService(a_service(2)))
    await store.commit(SaveBinding(Binding("one", "s1", "web", 1.0, "d1")), SaveBinding(kept))
    await store.commit(SaveService(a_service(2, plan="big")))
    await store.commit(RemoveService("s1"))
    assert store.load().bindings == (kept,)


async def test_an_app_is_never_bound_twice_to_one_service(store: SqliteStore) -> None:
    await store.commit(SaveService(a_service()), SaveBinding(Binding("one", "s1", "web", 1.0, "d1")))
    with pytest.raises(StoreFailed, match="UNIQUE"):
        await store.commit(SaveBinding(Binding("two", "s1", "web", 2.0, "d2")))


async def test_backends_come_in_the_order_of_their_queue(store: SqliteStore) -> None:
    queue = [SaveBackend("s1", position, a_backend(number)) for position, number in enumerate([3, 1, 2])]
    await store.commit(SaveService(a_service()), *reversed(queue))
    assert store.load().backends == tuple(queue)


async def test_the_newest_events_are_kept_and_the_file_stops_growing(store: SqliteStore) -> None:
    await store.commit(*[SaveEvent(an_event(number)) for number in range(1, KEPT_EVENTS + 1)])
    await store.commit(*[SaveEvent(an_event(number)) for number in range(KEPT_EVENTS + 1, KEPT_EVENTS + 601)])
    kept = [event.id for event in store.load().events]
    assert kept == list(range(601, KEPT_EVENTS + 601))
    with closing(sqlite3.connect(store.path)) as other:
        assert other.execute("SELECT count(*) FROM events").fetchone()[0] < KEPT_EVENTS + 300


async def test_the_newest_replies_are_kept_and_an_overwritten_one_is_new(store: SqliteStore) -> None:
    await store.commit(*[SaveReply(f"k{number}", "f", {}) for number in range(KEPT_REPLIES)])
    await store.commit(SaveReply("k0", "g", {"status": 201}))
    await store.commit(*[SaveReply(f"n{number}", "f", {}) for number in range(600)])
    kept = store.load().replies
    assert len(kept) == KEPT_REPLIES
    assert SaveReply("k0", "g", {"status": 201}) in kept
    assert kept[-1].key == "n599"
    with closing(sqlite3.connect(store.path)) as other:
        assert other.execute("SELECT count(*) FROM replies").fetchone()[0] < KEPT_REPLIES + 300


@pytest.mark.parametrize(
    "hostile", ["'; DROP TABLE services; --", '"', "a\0b", "\r\n", "../../etc/passwd", "é\U0001f6a2"]
)
async def test_F07_hostile_ids_are_stored_as_they_are(store: SqliteStore, hostile: str) -> None:
    service = a_service(id=hostile, plan=hostile)
    backend = Backend(hostile, hostile, 1, None, hostile)
    await store.commit(
        SaveService(service), SaveBackend(hostile, 0, backend), SaveReply(hostile, hostile, {"a": hostile})
    )
    kept = store.load()
    assert (kept.services, kept.backends) == ((service,), (SaveBackend(hostile, 0, backend),))
    assert kept.replies == (SaveReply(hostile, hostile, {"a": hostile}),)
    await store.commit(RemoveBackend(hostile, hostile), RemoveService(hostile))
    assert store.load().services == ()


# -- together or not at all -----------------------------------------------------------------------------------------


async def test_a_batch_that_fails_leaves_nothing_behind(store: SqliteStore) -> None:
    with pytest.raises(StoreFailed, match="FOREIGN KEY"):
        await store.commit(SaveService(a_service()), RestPort(1), SaveBackend("nobody", 0, a_backend()))
    assert store.load() == Snapshot()
    assert "FOREIGN KEY" in str(store.failure)
    await store.commit(RestPort(2))
    assert store.failure is None
    assert store.load() == Snapshot(resting=(2,))


@pytest.mark.parametrize(
    "change",
    [
        SaveService(a_service(plan="\ud800")),  # no UTF-8
        SaveService(a_service(port=2**70)),  # no 64-bit integer
        SaveEvent(Event(1, 0.0, "kind", "actor", "message", None, {"what": object()})),  # no JSON
        SaveReply("key", "fingerprint", {"deep": {1, 2}}),
    ],
)
async def test_a_value_that_cannot_be_stored_is_refused_and_the_thread_lives(
    store: SqliteStore, change: Change
) -> None:
    with pytest.raises(StoreFailed, match=r"harbor\.db was not changed"):
        await store.commit(RestPort(1), change)
    await store.commit(RestPort(2))
    assert store.load() == Snapshot(resting=(2,))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Protocol.TCP, Protocol.TCP),
        (Protocol.UDP, Protocol.UDP),
        (Protocol.BOTH, Protocol.UDP),
        (Protocol.TCP, Protocol.BOTH),
    ],
)
async def test_a_port_never_gets_two_owners(store: SqliteStore, first: Protocol, second: Protocol) -> None:
    await store.commit(SaveService(a_service(1, protocol=first, port=30000)))
    with pytest.raises(StoreFailed, match="UNIQUE"):
        await store.commit(SaveService(a_service(2, protocol=second, port=30000)))


async def test_G15_tcp_and_udp_of_one_number_may_be_two_services(store: SqliteStore) -> None:
    pair = (a_service(1, protocol=Protocol.TCP, port=30000), a_service(2, protocol=Protocol.UDP, port=30000))
    await store.commit(*map(SaveService, pair))
    assert store.load().services == pair


async def test_commits_that_wait_together_are_flushed_together_and_in_order(store: SqliteStore) -> None:
    with held_by_somebody_else(store):
        waiting = [
            asyncio.create_task(store.commit(SaveService(a_service(plan=str(number))), RestPort(number)))
            for number in range(100)
        ]
        await asyncio.sleep(0)  # lets every task submit its batch
    await asyncio.gather(*waiting)
    kept = store.load()
    assert kept.services == (a_service(plan="99"),)
    assert kept.resting == tuple(range(100))
    # Every transaction adds each page that it changed to the log; one by one, a hundred would add hundreds.
    frames = store.path.with_name("harbor.db-wal").stat().st_size // 4096
    assert frames < 50


async def test_a_bad_batch_does_not_spoil_those_that_are_flushed_with_it(store: SqliteStore) -> None:
    with held_by_somebody_else(store):
        good = [asyncio.create_task(store.commit(RestPort(number))) for number in range(5)]
        bad = asyncio.create_task(store.commit(RestPort(77), SaveBackend("nobody", 0, a_backend())))
        late = [asyncio.create_task(store.commit(RestPort(number))) for number in range(5, 10)]
        await asyncio.sleep(0)
    await asyncio.gather(*good, *late)
    with pytest.raises(StoreFailed):
        await bad
    assert store.load().resting == tuple(range(10))


async def test_a_commit_whose_waiter_was_cancelled_still_happens(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    with held_by_somebody_else(store):
        task = asyncio.create_task(store.commit(RestPort(1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.commit(RestPort(2))
    assert store.load().resting == (1, 2)
    assert caplog.records == []  # the loop had nothing to complain of


def test_a_loop_that_closed_in_the_meantime_does_not_stop_the_thread(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)

    async def ask_and_leave() -> None:
        task = asyncio.create_task(store.commit(RestPort(1)))
        await asyncio.sleep(0)
        task.cancel()

    async def come_back() -> None:
        await store.commit(RestPort(2))
        assert store.load().resting == (1, 2)
        await store.close()

    with held_by_somebody_else(store):
        asyncio.run(ask_and_leave())
    asyncio.run(come_back())


async def test_closing_finishes_what_was_asked_for_and_empties_the_log(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    waiting = [asyncio.create_task(store.commit(RestPort(number))) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*waiting)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["harbor.db", "harbor.lock"]
    again = SqliteStore.open(tmp_path)
    assert again.load().resting == tuple(range(20))
    await again.close()


async def test_a_closed_store_refuses_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    await store.close()
    await store.close()
    with pytest.raises(StoreFailed, match="closed"):
        await store.commit(RestPort(1))
    assert repr(store) == f"<SqliteStore {tmp_path}/harbor.db [closed]>"


async def test_a_commit_of_nothing_is_done_at_once(store: SqliteStore) -> None:
    await store.commit()
    assert repr(store).endswith("harbor.db [ok]>")


# -- rows that make no value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE services SET protocol = 'sctp'", r"table services with id 's1'.*sctp"),
        ("UPDATE services SET overrides = '{\"patience\": 3}'", r"table services with id 's1'.*patience"),
        ("UPDATE services SET overrides = '[]'", "table services with id 's1'"),
        ("UPDATE services SET name = x'ff00'", "table services with id 's1'.*name"),
        ("UPDATE backends SET port = 'http'", "table backends with id 'b1'.*http"),
        ("UPDATE services SET origin = '7'", "table services with id 's1'"),
        ("UPDATE bindings SET created = 'today'", "table bindings with id 'one'.*today"),
        ("UPDATE events SET details = '{'", "table events with id 1"),
        ("UPDATE replies SET body = 'null'", "table replies with id 1"),
        ("UPDATE services SET name = CAST(x'ff' AS TEXT)", "damaged.*UTF-8"),
    ],
)
async def test_G11_a_row_that_cannot_be_understood_is_named(store: SqliteStore, statement: str, complaint: str) -> None:
    binding = SaveBinding(Binding("one", "s1", "web", 1.5, "digest"))
    saved = (SaveService(a_service()), SaveBackend("s1", 0, a_backend()), binding)
    await store.commit(*saved, SaveEvent(an_event(1)), SaveReply("k", "f", {}))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute(statement)
    with pytest.raises(StateUnusable, match=complaint):
        store.load()
