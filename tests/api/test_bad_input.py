"""What comes over the wire and should not: every answer is a refusal with a reason, never a failure of the node."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest

from harbor.api import connection, events
from harbor.api.connection import MAX_LEFTOVER
from harbor.api.strict_json import MAX_POLICY
from support.needs import needs
from support.running_api import DEADLINE, Api, StagedApi, until

HOSTILE_IDS = [
    "",
    " ",
    "x" * 10_240,
    "../",
    "..%2f..%2fetc%2fpasswd",
    "../../../etc/passwd",
    "a\x00b",
    "a\r\nX-Injected: yes",
    "a\nb",
    "\x1b[31m",
    "ünïcode",
    "日本",
    "\u202eevil",
    "'; DROP TABLE services; --",
    "' OR '1'='1",
    "<script>alert(1)</script>",
    "%",
    "%zz",
    "-a",
    ".",
    "..",
    "a b",
    "a/b",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
]


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_F07_no_id_in_a_path_does_harm(api: Api, hostile: str) -> None:
    await api.tcp("POST", "/v1/services", {"name": "a"})
    quoted = quote(hostile, safe="")
    backend = {"host": "127.0.0.1", "port": 8080}
    for method, path, body in [
        ("GET", f"/v1/services/{quoted}", None),
        ("PATCH", f"/v1/services/{quoted}", {"idle_timeout": 1}),
        ("DELETE", f"/v1/services/{quoted}", None),
        ("GET", f"/v1/services/{quoted}/backends", None),
        ("PUT", f"/v1/services/{quoted}/backends/b", backend),
        ("PUT", f"/v1/services/a/backends/{quoted}", backend),
        ("DELETE", f"/v1/services/a/backends/{quoted}", None),
        ("POST", f"/v1/services/a/backends/{quoted}/drain", None),
        ("GET", f"/v1/sessions/{quoted}", None),
        ("DELETE", f"/v1/sessions/{quoted}", None),
    ]:
        answer = await raw(api, method, path, body)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 ")), (method, path, answer[:300])
        assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]
    assert api.names == ["a"]
    assert api.node.service("a").backends == ()


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_F07_no_name_in_a_body_does_harm(api: Api, hostile: str) -> None:
    answer = await api.tcp("POST", "/v1/services", {"name": hostile})
    assert answer.status == 400
    assert answer.code in ("name_invalid", "json_invalid")
    assert len(answer.text) < 1000
    assert api.names == []


async def raw(api: Api, method: str, path: str, body: object = None) -> bytes:
    """The answer to a request whose path no client library has touched."""
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.token}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return await api.raw(head.encode() + data)


@pytest.mark.parametrize(
    "path", ["/v1/services/../node", "//v1/node", "/v1//node", "/v1/node/", "/V1/node", "/v1/services/a%2fb/backends"]
)
async def test_F07_a_path_means_what_it_says(api: Api, path: str) -> None:
    answer = await raw(api, "GET", path)
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a"',
        b"1",
        b'{"name": "a"',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"name": ' * 5_000 + b"1" + b"}" * 5_000,
        b'{"name": "a", "name": "b"}',
        b'{"name": "a", "port": 1e999999}',
        b'{"name": "a", "idle_timeout": 1e999999}',
        b'{"name": "a", "idle_timeout": NaN}',
        b'{"name": "a", "port": ' + b"9" * 60_000 + b"}",
        b'{"name": "a", "port": 9223372036854775808}',
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'\xef\xbb\xbf{"name": "a"}',
        b"name=a",
        json.dumps({f"member{number}": 1 for number in range(3000)}).encode(),
        json.dumps({"name": "a", "x" * 60_000: 1}).encode(),
        json.dumps({"name": ["a"] * 10_000}).encode(),
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
async def test_F08_a_body_that_is_not_a_request_is_refused(api: Api, body: bytes) -> None:
    answer = await api.tcp("POST", "/v1/services", data=body)
    assert answer.status == 400
    assert answer.code in ("json_invalid", "invalid")
    assert len(answer.text) < 6000
    assert api.names == []


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
        "",
    ],
)
async def test_F08_another_content_type_is_refused(api: Api, kind: str) -> None:
    answer = await api.tcp("POST", "/v1/services", data=b'{"name": "a"}', headers={"Content-Type": kind})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_json_by_any_of_its_names_is_taken(api: Api, kind: str) -> None:
    answer = await api.tcp("POST", "/v1/services", data=b'{"name": "a"}', headers={"Content-Type": kind})
    assert answer.status == 201


async def test_F08_the_largest_body_is_read_and_one_byte_more_is_not(api: Api) -> None:
    padded = b'{"name": "a"}'.ljust(MAX_POLICY)
    too_large = await api.tcp("POST", "/v1/services", data=padded + b" ")
    assert (too_large.status, too_large.code) == (413, "body_too_large")
    assert (await api.tcp("POST", "/v1/services", data=padded)).status == 201


async def pour(api: Api, head: str, chunk: bytes, size: int) -> tuple[bytes, int]:
    """Send a body of ``size`` bytes for as long as the API takes it: its answer, and how much it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    sent = 0
    try:
        writer.write(
            f"POST /v1/services HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.token}\r\n"
            f"Content-Type: application/json\r\n{head}\r\n\r\n".encode()
        )
        async with asyncio.timeout(DEADLINE):
            answer = await reader.readuntil(b"\r\n\r\n") if "Content-Length" in head else b""
            while sent < size:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
    except ConnectionError:
        pass
    finally:
        answer = answer or bytes(reader._buffer)  # type: ignore[attr-defined]
        writer.close()
    return answer, sent


async def test_F08_a_hundred_megabytes_are_refused_by_their_announcement(api: Api) -> None:
    answer, sent = await pour(api, f"Content-Length: {100 * 2**20}", b" " * 65536, 100 * 2**20)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 100 * 2**20  # cut off: the API took MAX_LEFTOVER, the rest stood in socket buffers


async def test_F08_a_hundred_megabytes_without_announcement_are_cut_off(api: Api) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer, sent = await pour(api, "Transfer-Encoding: chunked", chunk, 100 * 2**20)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert MAX_LEFTOVER < sent < 100 * 2**20


async def test_F08_curl_sees_the_refusal_of_a_large_file(api: Api) -> None:
    curl = await asyncio.create_subprocess_exec(
        needs("curl"), "-s", "-w", "%{http_code}", "-o", "/dev/null", "-H", "Content-Type: application/json",
        "-H", f"Authorization: Bearer {api.token}", "--data-binary", "@-", f"{api.server.url}/v1/services",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE):
        out, _ = await curl.communicate(b" " * (8 * 2**20))
    assert out == b"413"


@pytest.mark.parametrize("length", ["-1", "x", "1, 1", "99999999999999999999", "+5", "٣"])
async def test_F08_a_length_that_is_none_is_refused(api: Api, length: str) -> None:
    answer = await api.raw(
        f"POST /v1/services HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.token}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /h\xc3\xbc HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Nul: a\0b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/services HTTP/1.1\r\nContent-Length: +5\r\n\r\n12345",
        b"POST /v1/services HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
        b"POST /v1/services HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n12345",
        b"POST /v1/services HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /v1/services HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/services HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_F10_what_is_not_http_is_refused_and_closed(api: Api, request_bytes: bytes) -> None:
    answer = await api.raw(request_bytes)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), answer
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 400_000,
        b"GET /healthz HTTP/1.1\r\n" + b"X-Many: y\r\n" * 10_000 + b"\r\n",
    ],
)
async def test_F10_a_head_without_end_is_refused(api: Api, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(head)
        async with asyncio.timeout(DEADLINE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    finally:
        writer.close()


HEALTHZ = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
HEAD = "POST /v1/services HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent", ["", "GET /heal", HEALTHZ, "{head}\r\n", '{head}\r\n{{"name": ', f"{HEALTHZ}\r\n\r\nGET"]
)
async def test_F10_a_request_that_does_not_arrive_is_given_up(
    api: Api, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setattr(connection, "READ_TIMEOUT", 0.2)
    answer = await api.raw(sent.format(head=f"{HEAD}Authorization: Bearer {api.token}\r\n").encode())
    assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 200 "))
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["code"] == "request_timeout"
    assert api.names == []


async def test_F10_an_answer_that_takes_long_is_not_cut(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(events, "KEEPALIVE", 0.15)
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {api.token}"}
    async with asyncio.timeout(DEADLINE), api.tcp.session.get(f"{api.tcp.url}/v1/events", headers=headers) as stream:
        kept_alive = [await stream.content.readuntil(b"\n\n") for _ in range(6)]
    assert kept_alive[1:] == [b": still here\n\n"] * 5


async def test_F10_two_requests_in_one_segment_are_answered_in_order(api: Api) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await api.raw(first + b"GET /nope HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'{"status":"ok"}HTTP/1.1 401 ' in answer


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/services", "GET, POST"),
        ("POST", "/v1/services/a", "DELETE, GET, PATCH"),
        ("GET", "/v1/services/a/backends/b", "DELETE, PUT"),
        ("PUT", "/v1/node", "GET"),
        ("OPTIONS", "/v1/sessions", "DELETE, GET"),
        ("TRACE", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_possible_says_which_are(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.tcp(method, path)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


async def test_what_does_not_exist_is_a_problem_too(api: Api) -> None:
    for path in ("/", "/v1", "/v1/nope", "/v1/services/a/explain"):
        answer = await api.tcp("GET", path)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_a_failure_inside_is_logged_and_not_shown(staged: StagedApi, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise RuntimeError("the secret is 42")

    staged.node.describe = fail  # type: ignore[method-assign, assignment]
    answer = await staged.tcp("GET", "/v1/node")
    assert (answer.status, answer.code) == (500, "internal")
    assert "42" not in answer.text
    assert "Traceback" not in answer.text
    assert "the secret is 42" in capsys.readouterr().out


async def test_who_hangs_up_within_a_request_is_no_failure_of_the_node(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(f'{HEAD}Authorization: Bearer {api.token}\r\n\r\n{{"name": '.encode())
    await until(lambda: len(api.server._state.tasks) == 1)
    writer.close()
    await until(lambda: not api.server._state.tasks)
    assert "api.failed" not in capsys.readouterr().out
