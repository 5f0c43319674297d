"""The event feed: told in order of their ids, whatever order they become durable in; a follower that lags is let go."""

from __future__ import annotations

import asyncio

from harbor.model import Event
from harbor.node.feed import BACKLOG, EventFeed


def drafts(feed: EventFeed, count: int) -> list[Event]:
    return [feed.draft("service.created", "test", f"number {number}") for number in range(count)]


def told(feed: EventFeed) -> list[int]:
    return [event.id for event in feed.recent()]


def test_an_event_waits_for_those_that_were_drafted_before_it() -> None:
    feed = EventFeed()
    first, second, third = drafts(feed, 3)
    feed.publish(third)
    feed.publish(second)
    assert told(feed) == []
    feed.publish(first)
    assert told(feed) == [1, 2, 3]


def test_an_abandoned_event_holds_up_nobody() -> None:
    feed = EventFeed()
    first, second = drafts(feed, 2)
    feed.publish(second)
    feed.abandon(first)
    assert told(feed) == [2]


def test_a_reader_resumes_behind_the_last_id_it_saw() -> None:
    feed = EventFeed()
    for event in drafts(feed, 5):
        feed.publish(event)
    assert [event.id for event in feed.recent(after=2, limit=2)] == [3, 4]
    assert [event.id for event in feed.recent(limit=2)] == [4, 5]


async def test_a_follower_gets_the_past_and_then_what_comes() -> None:
    feed = EventFeed()
    first, second, third = drafts(feed, 3)
    feed.publish(first)
    feed.publish(second)
    follower = feed.follow(after=1)
    seen = [await anext(follower)]
    feed.publish(third)
    seen.append(await anext(follower))
    assert [event.id for event in seen] == [2, 3]
    feed.close()
    assert [event async for event in follower] == []


async def test_a_follower_that_lags_is_let_go_and_others_are_not() -> None:
    feed = EventFeed()
    slow, quick = feed.follow(after=0), feed.follow(after=0)
    for event in drafts(feed, 1):
        feed.publish(event)
    await anext(slow)
    await anext(quick)
    seen = 1
    for event in drafts(feed, BACKLOG + 1):
        feed.publish(event)
        seen += (await anext(quick)).id > 0
    assert seen == BACKLOG + 2
    async with asyncio.timeout(5):
        assert len([event async for event in slow]) == BACKLOG - 1
