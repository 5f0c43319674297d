"""Who may ask, in which version of the API, and for whom."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from harbor.api import tokens
from support.osb_platform import PASSWORD, USER, Platform, basic, identity
from support.running_api import running_api

VERSION = "X-Broker-API-Version"
ORIGINATING = "X-Broker-API-Originating-Identity"
REQUEST = "X-Broker-API-Request-Identity"


async def test_F04_an_old_or_missing_version_is_refused(platform: Platform) -> None:
    old = [None, "", "2", "2.0", "2.12", "1.17", "3.0", "2.17.1", "v2.17", "2.x", "\u0662.17", "2.-17", "99999.1"]
    for version in old:
        encoded = None if version is None else version.encode().decode("latin-1")
        for method, path in [("GET", "/catalog"), ("PUT", "/service_instances/i"), ("DELETE", "/service_instances/i")]:
            answer = await platform(method, path, headers={VERSION: encoded})
            assert (version, answer.status, answer.body["error"]) == (version, 412, "ApiVersionUnsupported")
            assert "2.17" in answer.body["description"]
    assert platform.api.names == []


async def test_F04_every_version_from_2_13_on_is_understood(platform: Platform) -> None:
    for version in ("2.13", "2.14", "2.16", "2.17", "2.18", "2.99"):
        assert (await platform("GET", "/catalog", headers={VERSION: version})).status == 200


@pytest.mark.parametrize(
    "values",
    [
        [None, "", "Basic", "Basic !", basic("", ""), basic(PASSWORD, USER), basic()[6:]],
        [
            basic(password="wrong"),
            basic(username="other"),
            basic(username=USER, password="sesame-2"),  # the second password is another user's
            "Bearer " + basic()[6:],
        ],
    ],
)
async def test_K02_without_the_credentials_nothing_is_told(platform: Platform, values: list[str | None]) -> None:
    assert len(values) < tokens.MOST_WRONG
    for value in values:
        answer = await platform("GET", "/catalog", headers={"Authorization": value})
        assert (value, answer.status, answer.body["error"]) == (value, 401, "Unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="harbor"'
        assert PASSWORD not in answer.text


async def test_K02_the_admin_token_is_no_key_to_the_broker_nor_the_other_way_round(platform: Platform) -> None:
    answer = await platform("GET", "/catalog", headers={"Authorization": f"Bearer {platform.api.token}"})
    assert answer.status == 401
    assert (await platform.api.tcp("GET", "/v1/node", headers={"Authorization": basic()})).status == 401


async def test_credentials_are_rotated_without_a_gap(platform: Platform) -> None:
    for username, password in ((USER, PASSWORD), ("broker", "sesame-2")):
        answer = await platform("GET", "/catalog", headers={"Authorization": basic(username, password)})
        assert answer.status == 200


async def test_K02_guessing_a_password_is_stopped_for_a_while(platform: Platform) -> None:
    wrong = {"Authorization": basic(password="guess")}
    for _ in range(tokens.MOST_WRONG):
        assert (await platform("GET", "/catalog", headers=wrong)).status == 401
    answer = await platform("GET", "/catalog")
    assert (answer.status, answer.body["error"]) == (429, "TooManyWrongTokens")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await platform.api.tcp("GET", "/v1/node")).status == 200


async def test_a_broker_that_is_not_configured_is_not_there(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for path in ("/v2/catalog", "/v2/service_instances/i", "/v2/openapi.json"):
            for authorization in (None, basic()):
                answer = await api.tcp("GET", path, headers={"Authorization": authorization})
                assert answer.status == 404
            assert (await api.unix("GET", path)).status == 404


async def test_the_request_identity_comes_back_with_every_answer(platform: Platform) -> None:
    for path, more, status in [
        ("/catalog", {}, 200),
        ("/catalog", {VERSION: None}, 412),
        ("/catalog", {"Authorization": None}, 401),
        ("/service_instances/i", {}, 404),
        ("/nope", {}, 404),
    ]:
        answer = await platform("GET", path, headers={REQUEST: "e26cee84-6b38-4456-b34e-d1a9f002c956", **more})
        assert answer.status == status
        assert answer.headers[REQUEST] == "e26cee84-6b38-4456-b34e-d1a9f002c956"
    assert REQUEST not in (await platform("GET", "/catalog")).headers
    assert REQUEST not in (await platform("GET", "/catalog", headers={REQUEST: "x" * 256})).headers


async def test_the_audit_trail_knows_for_whom_the_platform_asked(platform: Platform) -> None:
    user = {"user_id": "683ea748-3092-4ff4-b656-39cacc4d5360"}
    headers = {ORIGINATING: identity(**user), REQUEST: "req-1"}
    path = "/service_instances/i"
    chosen = "service_id=d3ed0e63-6a9d-4038-bf1f-acd3169d9449&plan_id=c07c4647-6cb3-46ac-b2cc-9e46507540fd"
    body = dict(pair.split("=") for pair in chosen.split("&"))
    update = {"service_id": body["service_id"], "parameters": {"idle_timeout": 9}}
    for method, target, sent in [
        ("PUT", path, body),
        ("PATCH", path, update),
        ("PUT", f"{path}/service_bindings/b", body),
        ("DELETE", f"{path}/service_bindings/b?{chosen}", None),
        ("DELETE", f"{path}?{chosen}", None),
    ]:
        answer = await platform(method, target, sent, headers=headers)
        assert answer.status in (200, 201), answer.text
    events = (await platform.api.unix("GET", "/v1/events")).body
    kinds = ["service.created", "service.updated", "app.bound", "app.unbound", "service.deleted"]
    assert [event["kind"] for event in events] == kinds
    for event in events:
        assert event["actor"] == f"broker:{USER}"
        noted = {"platform": "cloudfoundry", "value": user}
        assert (event["details"]["originating_identity"], event["details"]["request_identity"]) == (noted, "req-1")


async def test_an_identity_that_cannot_be_kept_is_refused(platform: Platform) -> None:
    for value in (
        "",
        "cloudfoundry",
        "cloudfoundry !!!",
        "cloudfoundry " + base64.b64encode(b"[1]").decode(),
        "cloudfoundry " + base64.b64encode(b'{"a": 1, "a": 2}').decode(),
        "cloudfoundry " + base64.b64encode(b"{").decode(),
        "cloudfoundry " + base64.b64encode(b"[" * 1000).decode(),
        identity("x" * 64, a=1),
        identity(a="x" * 3000),
        " e30=",
    ):
        answer = await platform("GET", "/catalog", headers={ORIGINATING: value})
        assert (value, answer.status, answer.body["error"]) == (value, 400, "IdentityInvalid")


async def test_over_the_unix_socket_the_file_mode_has_decided(platform: Platform) -> None:
    answer = await platform.api.unix("GET", "/v2/catalog", headers={VERSION: "2.17"})
    assert answer.status == 200
