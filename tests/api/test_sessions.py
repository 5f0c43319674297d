from __future__ import annotations

import pytest

from harbor.model import Address, Protocol, SessionView
from support.running_api import StagedApi


def session(number: int, client: str, backend: str, protocol: Protocol = Protocol.TCP) -> SessionView:
    return SessionView(
        id=str(number),
        service_id="service-1",
        protocol=protocol,
        client=Address(client, 50000),
        backend_id=backend,
        backend=Address("127.0.0.1", 8080),
        state="open",
        started=1.0,
        age=2.0,
        bytes_in=3,
        bytes_out=4,
    )


@pytest.fixture
async def busy(staged: StagedApi) -> StagedApi:
    for name in ("web", "dns"):
        await staged.tcp("POST", "/v1/services", {"name": name})
    for view, name in [
        (session(9, "10.0.0.1", "one"), "web"),
        (session(10, "10.0.0.2", "two"), "web"),
        (session(11, "2001:db8::1", "one", Protocol.UDP), "dns"),
    ]:
        staged.node.sessions_[view.id] = (view, name)
    return staged


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["9", "10", "11"]),
        ("?service=web", ["9", "10"]),
        ("?service=service-2", ["11"]),
        ("?backend=one", ["9", "11"]),
        ("?client=10.0.0.0/24", ["9", "10"]),
        ("?client=10.0.0.2", ["10"]),
        ("?client=10.0.0.99/24", ["9", "10"]),
        ("?client=2001:db8::/32", ["11"]),
        ("?service=web&backend=one&client=10.0.0.0/8", ["9"]),
        ("?after=9", ["10", "11"]),
        ("?after=9&limit=1", ["10"]),
    ],
)
async def test_sessions_are_found_by_what_is_asked(busy: StagedApi, query: str, ids: list[str]) -> None:
    answer = await busy.tcp("GET", f"/v1/sessions{query}")
    assert [found["id"] for found in answer.body] == ids


async def test_pages_keep_the_filter(busy: StagedApi) -> None:
    answer = await busy.tcp("GET", "/v1/sessions?service=web&limit=1")
    assert answer.headers["Link"] == '</v1/sessions?service=web&limit=1&after=9>; rel="next"'


async def test_one_session_is_shown_and_killed(busy: StagedApi) -> None:
    shown = await busy.tcp("GET", "/v1/sessions/10")
    assert (shown.body["service"], shown.body["client"]) == ("web", "10.0.0.2:50000")
    assert (await busy.tcp("DELETE", "/v1/sessions/10")).status == 204
    for method in ("GET", "DELETE"):
        gone = await busy.tcp(method, "/v1/sessions/10")
        assert (gone.status, gone.code) == (404, "session_not_found")
    assert set(busy.node.sessions_) == {"9", "11"}


async def test_sessions_are_killed_by_filter(busy: StagedApi) -> None:
    answer = await busy.tcp("DELETE", "/v1/sessions?service=web&client=10.0.0.0/8")
    assert (answer.status, answer.body) == (200, {"killed": 2})
    assert set(busy.node.sessions_) == {"11"}


@pytest.mark.parametrize(
    "query", ["", "?servce=web", "?client=10.0.0", "?client=x", "?client=", "?limit=5&service=web"]
)
async def test_a_kill_that_is_not_understood_kills_nothing(busy: StagedApi, query: str) -> None:
    answer = await busy.tcp("DELETE", f"/v1/sessions{query}")
    assert (answer.status, answer.code) == (400, "invalid")
    assert len(busy.node.sessions_) == 3


async def test_an_unknown_service_is_no_empty_answer(busy: StagedApi) -> None:
    for method in ("GET", "DELETE"):
        answer = await busy.tcp(method, "/v1/sessions?service=nope")
        assert (answer.status, answer.code) == (404, "service_not_found")
