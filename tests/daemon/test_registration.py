"""The gateway's registration, from the first announcement to the sign-off, with a cloud controller that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from harbor.api.gateway.offering import OFFERED_PLANS, offering
from harbor.api.gateway.standing import Standing
from harbor.daemon.registration import Registration, retry_after
from harbor.errors import Refused
from harbor.sources.cloud_controller import CloudController
from support.cloud_controller import TOKEN
from support.cloud_controller import CloudController as Cloud
from support.cloud_controller import cloud_controller as running
from support.running_api import until

URL = "https://harbor.example:7070"
HELD = {"s-1": "service one", "b-1": "the binding of one to app web"}


def handle(service_id: str, **credentials: str) -> dict[str, object]:
    return {"service_id": service_id, "configuration": {}, "credentials": credentials}


def is_open(standing: Standing) -> bool:
    try:
        standing.check()
    except Refused as refused:
        return refused.code != "handles_missing"
    return True


class Registered:
    """A registration under way, and what it has led to."""

    def __init__(self, url: str, interval: float) -> None:
        self.standing = Standing("harbor_node_1", waiting=True)
        self.registration = Registration(
            CloudController(url, TOKEN, patience=5),
            self.standing,
            lambda active: offering(URL, active=active),
            lambda: HELD,
            interval=interval,
            first_retry=0.001,
            farewell=1.0,
        )
        self.registration.start()

    def warnings(self) -> list[str]:
        return self.standing.warnings(HELD.__contains__)

    async def close(self) -> None:
        self.registration.leave()
        await self.registration.close()


@asynccontextmanager
async def registered(url: str, interval: float = 0.01) -> AsyncIterator[Registered]:
    made = Registered(url, interval)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with running() as cloud:
        yield cloud


async def test_it_announces_itself_again_and_again_and_at_last_its_leave(cloud: Cloud) -> None:
    async with registered(cloud.url):
        await cloud.until(lambda: len(cloud.offerings) >= 3)
    *during, last = cloud.offerings
    assert {entry["active"] for entry in during} == {True}
    assert last == {
        "label": "harbor-1.0",
        "url": URL,
        "supported_versions": ["1.0"],
        "version_aliases": {"current": "1.0"},
        "active": False,
    }
    first = during[0]
    assert (first["label"], first["url"]) == ("harbor-1.0", URL)
    assert first["plans"] == list(OFFERED_PLANS) == ["free", "tcp", "udp", "both", "https"]
    assert first["default_plan"] == "free"
    assert first["description"] == "External port mapping service"
    assert "harbor" in first["tags"]


async def test_between_two_announcements_it_waits(cloud: Cloud) -> None:
    async with registered(cloud.url, interval=3600):
        await cloud.until(lambda: bool(cloud.offerings) and cloud.asked_for_handles == 1)
    assert [entry["active"] for entry in cloud.offerings] == [True, False]
    assert cloud.asked_for_handles == 1


async def test_the_gateway_opens_when_the_handles_have_come(cloud: Cloud) -> None:
    cloud.handles = {name: handle(name) for name in HELD}
    async with registered(cloud.url) as made:
        assert not is_open(made.standing)
        await until(lambda: is_open(made.standing))
        assert made.warnings() == []
        assert made.standing.remarks() == []


Answer = Callable[[web.Request], Awaitable[web.Response]]


def answering(status: int = 200, text: str = "", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return answer


FAULTS = {
    "an error": answering(500),
    "garbage": answering(200, "<html>"),
    "nothing that is a list": answering(200, '{"handles": null}'),
    "a redirect": answering(302, Location="http://127.0.0.1:1/"),
    "too much": answering(200, " " * 5_000_000),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_G04_a_cloud_controller_that_lies_is_asked_again_until_it_does_not(cloud: Cloud, fault: Answer) -> None:
    cloud.handles = {name: handle(name) for name in HELD}
    cloud.fault = fault
    async with registered(cloud.url) as made:
        await cloud.until(lambda: cloud.requests >= 6)
        assert not is_open(made.standing)
        assert any("cannot fetch the handles from the cloud controller" in line for line in made.warnings())
        assert "the gateway waits for the handles of its cloud controller" in made.standing.remarks()
        assert cloud.url not in str(made.standing.remarks())
        cloud.fault = None
        await until(lambda: is_open(made.standing))
        await cloud.until(lambda: bool(cloud.offerings))
        await until(lambda: made.warnings() == [])


async def test_G04_a_cloud_controller_that_comes_later_is_found() -> None:
    async with running() as cloud:
        port = int(cloud.url.rpartition(":")[2])
    async with registered(cloud.url) as made:
        await until(lambda: len(made.warnings()) == 2)
        assert any("Connection refused" in line for line in made.warnings())
        async with running(port) as cloud:
            await until(lambda: is_open(made.standing))
            await cloud.until(lambda: bool(cloud.offerings))


def test_the_pauses_between_attempts_grow_and_end() -> None:
    assert [retry_after(failures, 1.0, 60.0) for failures in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert retry_after(10**9, 1.0, 60.0) == 60


async def test_J09_its_troubles_are_told_once_and_that_they_are_over(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.fault = answering(500)
    async with registered(cloud.url) as made:
        await cloud.until(lambda: cloud.requests >= 30)
        cloud.fault = None
        await until(lambda: is_open(made.standing))
        await until(lambda: made.warnings() != [])  # the handles differ; see below
        await cloud.until(lambda: len(cloud.offerings) > 3)
    logged = capsys.readouterr().out
    assert logged.count("gateway.trouble") == 2
    assert logged.count("gateway.works") == 2
    assert logged.count("gateway.open") == 1
    assert TOKEN not in logged


async def test_what_only_one_of_the_two_knows_is_told_and_not_touched(cloud: Cloud) -> None:
    listed = ("s-1", "s-gone", "s-elsewhere")
    cloud.handles = {name: handle(name) for name in listed}
    cloud.handles["s-elsewhere"] = handle("s-elsewhere", node_id="harbor_node_2")
    async with registered(cloud.url) as made:
        await until(lambda: is_open(made.standing))
        await until(lambda: len(made.warnings()) == 2)
        lost, unlisted = made.warnings()
        assert "the cloud controller lists s-gone, which this node does not have" in lost
        assert "the cloud controller does not list the binding of one to app web;" in unlisted
        made.standing.released("s-gone")
        assert made.standing.warnings({"s-1"}.__contains__) == []


async def test_H03_an_empty_answer_takes_nothing_away(cloud: Cloud) -> None:
    async with registered(cloud.url) as made:
        await until(lambda: is_open(made.standing))
        [line] = made.warnings()
        assert "does not list service one, the binding of one to app web;" in line


async def test_handles_that_are_none_are_passed_over(cloud: Cloud) -> None:
    cloud.handles = {name: handle(name) for name in HELD}
    cloud.handles["x"] = None  # type: ignore[assignment]
    cloud.handles["y"] = {"service_id": 7}
    cloud.handles["z"] = {"service_id": "z", "credentials": [1]}
    async with registered(cloud.url) as made:
        await until(lambda: is_open(made.standing))
        assert made.standing.lost == ("z",)


def test_K10_a_hostile_handle_is_shown_as_an_escape_and_many_are_counted() -> None:
    standing = Standing("n", waiting=True)
    standing.reconcile([handle(f"\x1b[2J{number}" + "x" * 1000) for number in range(1000)], HELD)
    [lost, unlisted] = standing.warnings(HELD.__contains__)
    assert "does not list service one, the binding of one to app web;" in unlisted
    assert lost.isprintable()
    assert "and 995 more" in lost
    assert len(lost) < 1000


async def test_a_cloud_controller_that_hangs_does_not_hold_up_the_end(cloud: Cloud) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    cloud.fault = hang
    async with registered(cloud.url, interval=3600):
        await cloud.until(lambda: cloud.requests == 2)
    assert cloud.requests == 3  # the sign-off was tried, and given up
