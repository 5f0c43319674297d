from __future__ import annotations

import pytest

from harbor.api import tokens
from support.running_api import Api

PROTECTED = ["/v1/services", "/v1/node", "/v1/ports", "/v1/events", "/v1/sessions", "/metrics", "/nope"]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic {}",
        "{}",
        "Bearer {}x",
        "Bearer {} x",
        "Bearer é",
        "Token {}",
    ],
)
async def test_K02_without_the_token_nothing_is_told(api: Api, path: str, value: str | None) -> None:
    given = None if value is None else value.format(api.token)
    answer = await api.tcp("GET", path, headers={"Authorization": given})
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="harbor"'
    assert api.token not in answer.text


async def test_K02_a_change_without_the_token_changes_nothing(api: Api) -> None:
    answer = await api.tcp("POST", "/v1/services", {"name": "a"}, headers={"Authorization": "Bearer x"})
    assert answer.status == 401
    assert api.names == []


async def test_the_scheme_of_the_token_may_be_written_in_any_case(api: Api) -> None:
    assert (await api.tcp("GET", "/v1/node", headers={"Authorization": f"bEARER {api.token}"})).status == 200


@pytest.mark.parametrize("name", ["token", "access_token", "Token", "api_key"])
async def test_K02_a_token_in_the_address_is_refused(api: Api, name: str) -> None:
    for headers in ({}, {"Authorization": None}):
        answer = await api.tcp("GET", f"/v1/node?{name}={api.token}", headers=headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert "Authorization" in answer.body["detail"]
        assert api.token not in answer.text


async def test_K02_guessing_is_stopped_for_a_while(api: Api) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(tokens.MOST_WRONG):
        assert (await api.tcp("GET", "/v1/node", headers=wrong)).status == 401
    for headers in (wrong, {}):  # the right one is not even looked at
        answer = await api.tcp("GET", "/v1/node", headers=headers)
        assert (answer.status, answer.code) == (429, "too_many_wrong_tokens")
        assert 1 <= int(answer.headers["Retry-After"]) <= tokens.WINDOW + 1
    assert (await api.unix("GET", "/v1/node")).status == 200
    assert (await api.tcp("GET", "/healthz")).status == 200


async def test_asking_without_a_token_is_not_guessing(api: Api) -> None:
    for _ in range(tokens.MOST_WRONG + 5):
        assert (await api.tcp("GET", "/v1/node", headers={"Authorization": None})).status == 401
    assert (await api.tcp("GET", "/v1/node")).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_probes_and_the_description_need_no_token(api: Api, path: str) -> None:
    assert (await api.tcp("GET", path, headers={"Authorization": None})).status == 200


async def test_the_unix_socket_needs_no_token(api: Api) -> None:
    assert (await api.unix("GET", "/v1/node")).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7070", "127.0.0.1", "[::1]:80", "192.0.2.7:1", "localhost."])
async def test_K08_addresses_and_own_names_are_answered(api: Api, host: str) -> None:
    assert (await api.tcp("GET", "/v1/node", headers={"Host": host})).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]"])
async def test_K08_a_foreign_host_name_is_refused(api: Api, host: str) -> None:
    for path in ("/v1/node", "/docs"):
        answer = await api.tcp("GET", path, headers={"Host": host})
        assert (answer.status, answer.code) == (421, "host_unknown")


async def test_K08_two_hosts_are_one_too_many(api: Api) -> None:
    answer = await api.raw(b"GET /docs HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost:1", "http://127.0.0.1"])
async def test_K08_a_page_from_elsewhere_is_refused(api: Api, origin: str) -> None:
    answer = await api.tcp("GET", "/v1/node", headers={"Origin": origin})
    assert (answer.status, answer.code) == (403, "origin_refused")


async def test_K08_a_page_of_its_own_is_answered(api: Api) -> None:
    answer = await api.tcp("GET", "/v1/node", headers={"Origin": f"http://127.0.0.1:{api.port}"})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/v1/node", "/docs", "/metrics", "/nope"])
async def test_every_answer_carries_the_headers_that_protect_browsers(api: Api, path: str) -> None:
    headers = (await api.tcp("GET", path)).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert len(headers.getall("Content-Security-Policy")) == 1
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Date"].endswith("GMT")
    assert "Server" not in headers
