from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harbor.api import events
from support.running_api import DEADLINE, Api, until

SSE = {"Accept": "text/event-stream"}


@asynccontextmanager
async def feed(api: Api, query: str = "", **headers: str) -> AsyncIterator[asyncio.StreamReader]:
    """The body of an event stream that has begun."""
    sent = {"Host": "127.0.0.1", "Authorization": f"Bearer {api.token}"} | SSE | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(f"GET /v1/events{query} HTTP/1.1\r\n{lines}\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.startswith("http/1.1 200"), head
            assert "content-type: text/event-stream" in head
            assert "cache-control: no-store" in head
            await reader.readuntil(b": the feed begins\n\n")
        yield reader
    finally:
        writer.close()


async def next_event(reader: asyncio.StreamReader) -> tuple[int, str, Any]:
    """The next event of the stream: id, kind, data."""
    async with asyncio.timeout(DEADLINE):
        while not (line := await reader.readline()).startswith(b"id: "):
            assert line, "the stream ended"
        kind, data = await reader.readline(), await reader.readline()
        assert await reader.readline() == b"\n"
    return (
        int(line[4:]),
        kind.removeprefix(b"event: ").decode().strip(),
        json.loads(data.removeprefix(b"data: ")),
    )


def tell(api: Api, kind: str, message: str) -> None:
    """Let something have happened."""
    api.node.events.publish(api.node.events.draft(kind, "node", message))


async def test_events_are_listed_oldest_first(api: Api) -> None:
    for name in "abc":
        await api.tcp("POST", "/v1/services", {"name": name})
    everything = (await api.tcp("GET", "/v1/events")).body
    assert [event["service"] for event in everything] == ["a", "b", "c"]
    assert {event["kind"] for event in everything} == {"service.created"}
    newest = await api.tcp("GET", "/v1/events?limit=2")
    assert [event["service"] for event in newest.body] == ["b", "c"]
    assert "Link" not in newest.headers
    page = await api.tcp("GET", "/v1/events?limit=1&after=1")
    assert [event["service"] for event in page.body] == ["b"]
    assert page.headers["Link"] == '</v1/events?limit=1&after=2>; rel="next"'
    assert "Link" not in (await api.tcp("GET", "/v1/events?limit=1&after=2")).headers


async def test_the_feed_says_who_did_it(api: Api) -> None:
    await api.tcp("POST", "/v1/services", {"name": "a"})
    await api.unix("POST", "/v1/services", {"name": "b"})
    actors = [event["actor"] for event in (await api.tcp("GET", "/v1/events")).body]
    assert actors[0] == "token:admin"
    assert actors[1].startswith("unix:uid=")


async def test_a_follower_sees_what_happens_from_now_on(api: Api) -> None:
    await api.tcp("POST", "/v1/services", {"name": "before"})
    async with feed(api) as reader:
        await api.tcp("POST", "/v1/services", {"name": "after"})
        number, kind, data = await next_event(reader)
        assert (number, kind, data["service"]) == (2, "service.created", "after")


@pytest.mark.parametrize(("query", "headers"), [("?after=1", {}), ("", {"Last-Event-ID": "1"})])
async def test_a_follower_comes_back_and_misses_nothing(api: Api, query: str, headers: dict[str, str]) -> None:
    for name in "abc":
        await api.tcp("POST", "/v1/services", {"name": name})
    async with feed(api, query, **headers) as reader:
        assert [(await next_event(reader))[0] for _ in range(2)] == [2, 3]
        await api.tcp("DELETE", "/v1/services/a")
        assert (await next_event(reader))[1] == "service.deleted"


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "٣", "9" * 30])
async def test_an_id_that_is_none_is_refused(api: Api, number: str) -> None:
    for more in ({"headers": SSE, "params": {"after": number}}, {"headers": SSE | {"Last-Event-ID": number}}):
        answer = await api.tcp("GET", "/v1/events", **more)
        assert (answer.status, answer.code) == (400, "invalid")


async def test_a_message_cannot_break_out_of_its_event(api: Api) -> None:
    async with feed(api) as reader:
        tell(api, "service.degraded", "line\n\nid: 99\nevent: forged\n\r\u2028")
        tell(api, "service.healed", "fine")
        number, _, data = await next_event(reader)
        assert (number, data["message"]) == (1, "line\n\nid: 99\nevent: forged\n\r\u2028")
        assert (await next_event(reader))[:2] == (2, "service.healed")


async def test_silence_is_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEPALIVE", 0.01)
    async with feed(api) as reader, asyncio.timeout(DEADLINE):
        for _ in range(3):
            await reader.readuntil(b": still here\n\n")
        await api.tcp("POST", "/v1/services", {"name": "a"})
        assert (await next_event(reader))[0] == 1


async def test_there_is_room_for_a_bounded_number_of_followers(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_READERS", 1)
    async with feed(api):
        answer = await api.tcp("GET", "/v1/events", headers=SSE)
        assert (answer.status, answer.code) == (503, "busy")
    await until(lambda: api.server._readers.count == 0)
    async with feed(api):
        pass


async def test_a_follower_that_stops_reading_is_dropped(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STALLED", 0.2)
    async with feed(api):  # nothing reads on; the buffers in between fill up
        readers = api.server._readers
        assert readers.count == 1
        async with asyncio.timeout(DEADLINE):
            while readers.count:
                if len(api.node.events.recent(limit=1000)) < 500:
                    tell(api, "noise", "x" * 60_000)
                await asyncio.sleep(0.001)


async def test_followers_do_not_hold_up_the_end(api: Api) -> None:
    async with feed(api) as reader, asyncio.timeout(DEADLINE):
        await api.server.stop(3600)
        assert (await reader.read()).endswith(b"0\r\n\r\n")


async def test_a_follower_that_leaves_is_forgotten(api: Api) -> None:
    readers = api.server._readers
    async with feed(api):
        assert readers.count == 1
    await until(lambda: readers.count == 0)
