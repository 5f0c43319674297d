"""What no platform would send: refused with a reason, or kept as data, and never a failure of the node."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar
from urllib.parse import quote

import pytest

from api.test_bad_input import HOSTILE_IDS
from harbor.api.broker.requests import LONGEST_TEXT
from harbor.api.strict_json import MAX_BODY
from support.osb_platform import SERVICE_ID, Platform, basic, chosen, wanted
from support.running_api import DEADLINE

GOOD_IDS = ["a", "0", "~", "-", ".a", "a.b_c~d-e", "683ea748-3092-4ff4-b656-39cacc4d5360", "x" * 255]


async def raw(platform: Platform, method: str, path: str, body: object = None) -> bytes:
    """The answer to a request whose path no client library has touched."""
    payload = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {basic()}\r\nConnection: close\r\n"
        f"X-Broker-API-Version: 2.17\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return await platform.api.raw(head.encode("latin-1") + payload)


async def test_F07_ids_of_unreserved_characters_are_taken_as_they_are(platform: Platform) -> None:
    for good in GOOD_IDS:
        assert (await platform.provision(good)).status == 201
        assert (await platform.bind(good, good)).status == 201
        assert (await platform.fetch_binding(good, good)).status == 200
        assert (await platform.unbind(good, good)).status == 200
        assert (await platform.deprovision(good)).status == 200


async def test_F07_ids_that_are_none_are_refused_and_do_no_harm(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    await platform.provision("i", name="a")
    binding = {"service_id": SERVICE_ID, "plan_id": wanted()["plan_id"]}
    for hostile in [*HOSTILE_IDS, "x" * 256, "a%2Fservice_bindings%2Fb", "a/service_bindings/b"]:
        quoted = quote(hostile, safe="")
        valid = hostile in (".", "..", "-a")  # an id like any other: it is never part of a path
        refused = (b"HTTP/1.1 404 ", b"HTTP/1.1 410 ") if valid else (b"HTTP/1.1 400 ",)
        for method, path, body in [
            ("GET", f"{quoted}", None),
            ("GET", f"{quoted}/last_operation", None),
            ("GET", f"i/service_bindings/{quoted}", None),
            ("GET", f"i/service_bindings/{quoted}/last_operation", None),
            ("PATCH", f"{quoted}", {"service_id": SERVICE_ID}),
            ("PUT", f"{quoted}/service_bindings/b", binding),
            ("DELETE", f"i/service_bindings/{quoted}?{chosen()}", None),
            ("DELETE", f"{quoted}?{chosen()}", None),
            *([] if valid else [("PUT", f"{quoted}", wanted()), ("PUT", f"i/service_bindings/{quoted}", binding)]),
        ]:
            answer = await raw(platform, method, f"/v2/service_instances/{path}", body)
            head, _, text = answer.partition(b"\r\n\r\n")
            assert head.startswith(refused), (method, path, answer)
            assert b"X-Injected" not in head
            assert set(json.loads(text)) >= {"error", "description"}
            assert len(text) < 1000
    assert platform.api.names == ["a"]
    assert platform.api.node.bindings("a") == []
    check_log(capsys)


async def test_F07_texts_in_a_body_are_data(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    for number, hostile in enumerate(HOSTILE_IDS):
        fits = 0 < len(hostile) <= LONGEST_TEXT
        context = {"instance_name": hostile, "organization_guid": hostile, "platform": hostile}
        answer = await platform("PUT", f"/service_instances/i-{number}", wanted(context=context))
        assert answer.status == (201 if fits else 400), answer.text
        if fits:
            assert (await platform.bind(f"i-{number}", f"b-{number}", app_guid=hostile)).status == 201
            view = platform.api.node.service(answer.body["metadata"]["attributes"]["name"])
            assert view.service.origin["organization"] == hostile
            assert len(platform.api.node.bindings(view.service.id)) == 1
    check_log(capsys)


def check_log(capsys: pytest.CaptureFixture[str]) -> None:
    """What was sent has neither forged a line nor reached a terminal."""
    logged = capsys.readouterr().out
    assert "service.created" in logged
    assert "\x1b[31m" not in logged
    assert not [line for line in logged.splitlines() if line.startswith("X-Injected")]


BODIES = {
    "nothing": b"",
    "no JSON": b"service_id=1",
    "half": b'{"service_id": ',
    "twice": b'{"service_id": "a", "service_id": "b"}',
    "NaN": b'{"parameters": {"idle_timeout": NaN}}',
    "exponent": b'{"parameters": {"idle_timeout": 1e999999}}',
    "digits": b'{"parameters": {"max_sessions": ' + b"9" * 40_000 + b"}}",
    "big": b'{"parameters": {"max_sessions": 99999999999999999999}}',
    "deep": b'{"context": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "UTF-8": b'{"service_id": "\xff\xfe"}',
    "UTF-16": '{"service_id": "a"}'.encode("utf-16"),
    "BOM": b'\xef\xbb\xbf{"service_id": "a"}',
    "surrogate": b'{"service_id": "\\ud800"}',
    "after": b'{"service_id": "a"} x',
    "types": b'{"service_id": ["a"], "plan_id": {"b": 1}, "parameters": [], "context": "c"}',
}


async def test_F08_a_body_that_is_not_strictly_json_is_refused(platform: Platform) -> None:
    for what, body in BODIES.items():
        for method, path in [
            ("PUT", "/service_instances/i"),
            ("PATCH", "/service_instances/i"),
            ("PUT", "/service_instances/i/service_bindings/b"),
        ]:
            answer = await platform(method, path, data=body)
            assert answer.status == 400, what
            assert answer.body["error"] in ("JsonInvalid", "Invalid")
            assert len(answer.text) < 2000
    assert platform.api.names == []


async def test_F08_a_body_that_is_too_large_is_refused(platform: Platform) -> None:
    body = json.dumps(wanted(name="a")).encode()
    too_large = await platform("PUT", "/service_instances/i", data=body.ljust(MAX_BODY + 1))
    assert (too_large.status, too_large.body["error"]) == (413, "BodyTooLarge")
    assert (await platform("PUT", "/service_instances/i", data=body.ljust(MAX_BODY))).status == 201


async def test_F08_a_hundred_megabytes_are_refused_by_their_announcement(platform: Platform) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.api.port)
    try:
        writer.write(
            f"PUT /v2/service_instances/i HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {basic()}\r\n"
            f"X-Broker-API-Version: 2.17\r\nContent-Length: {100 * 2**20}\r\n\r\n".encode()
        )
        async with asyncio.timeout(DEADLINE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    finally:
        writer.close()


async def test_F08_another_content_type_is_refused(platform: Platform) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"):
        answer = await platform("PUT", "/service_instances/i", wanted(), headers={"Content-Type": kind})
        assert (answer.status, answer.body["error"]) == (400, "UnsupportedMediaType")


async def test_what_was_probably_meant_is_among_the_parameters_of_that_request(platform: Platform) -> None:
    meant = (await platform.provision("i", parameters={"exposur": "public"})).body["description"]
    assert meant == "parameters.exposur: there is no such member; did you mean parameters.exposure?"
    for answer in (
        await platform.provision("i", parameters={"ap": "x"}),
        await platform.bind("i", "b", parameters={"exposur": "public"}),
    ):
        assert answer.status == 400
        assert "did you mean" not in answer.body["description"]


async def test_a_content_type_need_not_be_given(platform: Platform) -> None:
    payload = json.dumps(wanted()).encode()
    head = (
        f"PUT /v2/service_instances/i HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {basic()}\r\nConnection: close\r\n"
        f"X-Broker-API-Version: 2.17\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    assert (await platform.api.raw(head.encode() + payload)).startswith(b"HTTP/1.1 201 ")


async def test_a_method_that_is_not_possible_says_which_are(platform: Platform) -> None:
    for method, path, allowed in [
        ("POST", "/catalog", "GET"),
        ("POST", "/service_instances/i", "DELETE, GET, PATCH, PUT"),
        ("PATCH", "/service_instances/i/service_bindings/b", "DELETE, GET, PUT"),
        ("PUT", "/service_instances/i/last_operation", "GET"),
    ]:
        answer = await platform(method, path)
        assert (answer.status, answer.body["error"]) == (405, "MethodNotAllowed")
        assert answer.headers["Allow"] == allowed


async def test_a_failure_inside_is_logged_and_not_shown(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    class Log:
        failed: ClassVar[list[dict[str, object]]] = []

        def exception(self, event: str, **fields: object) -> None:
            self.failed.append({"event": event, **fields})

    def fail(*_: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("harbor.api.gate.log", Log())
    platform.api.node.find_by_origin = fail  # type: ignore[method-assign, assignment]
    answer = await platform.fetch("i")
    assert (answer.status, answer.body["error"]) == (500, "Internal")
    assert "42" not in answer.text
    assert Log.failed == [{"event": "api.failed", "method": "GET", "path": "'/v2/service_instances/i'"}]
