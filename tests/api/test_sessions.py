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


@pytest.fixture
async def reached(busy: StagedApi) -> StagedApi:
    """Two TCP sessions reach their backends from one address, and a UDP flow from another."""
    busy.node.locals_ |= {
        "9": Address("127.0.0.1", 40000),
        "10": Address("127.0.0.1", 40001),
        "11": Address("127.0.0.1", 40000),
    }
    return busy


@pytest.mark.parametrize(
    ("query", "client"),
    [
        ("local=127.0.0.1:40001", "10.0.0.2:50000"),
        ("local=[::ffff:127.0.0.1]:40001", "10.0.0.2:50000"),  # as a dual-stack backend sees it
        ("local=127.0.0.1:40000&protocol=udp", "[2001:db8::1]:50000"),
        ("local=127.0.0.1:40000&service=web", "10.0.0.1:50000"),
    ],
)
async def test_whois_says_who_the_client_is(reached: StagedApi, query: str, client: str) -> None:
    answer = await reached.tcp("GET", f"/v1/whois?{query}")
    assert answer.body["client"] == client
    assert answer.body["since"] == 1.0
    assert answer.body["service"] in ("web", "dns")
    assert reached.node.sessions_[answer.body["session"]][1] == answer.body["service"]


async def test_whois_refuses_to_guess(reached: StagedApi) -> None:
    several = await reached.tcp("GET", "/v1/whois?local=127.0.0.1:40000")
    assert (several.status, several.code) == (409, "whois_ambiguous")
    for query in ("local=127.0.0.1:40002", "local=127.0.0.1:40000&backend=127.0.0.1:1", "local=[::1]:40000"):
        nobody = await reached.tcp("GET", f"/v1/whois?{query}")
        assert (nobody.status, nobody.code) == (404, "whois_unknown")


@pytest.mark.parametrize(
    "query",
    ["", "local=", "local=127.0.0.1", "local=x:1", "local=127.0.0.1:99999", "local=127.0.0.1:1&backend=x",
     "local=127.0.0.1:1&protocol=sctp", "locale=127.0.0.1:1", "local=fe80::1%25eth0:1"],
)  # fmt: skip
async def test_F07_whois_of_what_is_no_address_is_refused(reached: StagedApi, query: str) -> None:
    answer = await reached.tcp("GET", f"/v1/whois?{query}")
    assert answer.status == 400
    assert answer.code == "invalid"
