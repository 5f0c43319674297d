"""Pages that say why, and the way to HTTPS: nothing of what a stranger sent gets into them as markup."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.http import redirect_to_https, refusal_page

HOSTILE = "<script>alert('x')</script> & \"more\""


def parts(response: bytes) -> tuple[str, dict[str, str], str]:
    head, _, page = response.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), page


@pytest.mark.parametrize("status", [400, 408, 431, 502, 503, 504, 505])
def test_a_page_has_its_status_and_says_why(status: int) -> None:
    first, fields, page = parts(refusal_page(status, "The backend is away"))
    assert first.startswith(f"HTTP/1.1 {status} ")
    phrase = first.removeprefix("HTTP/1.1 ")
    assert f"<h1>{phrase}</h1><p>The backend is away.</p>" in page
    assert int(fields["Content-Length"]) == len(page)
    assert fields["Connection"] == "close"
    assert fields["Cache-Control"] == "no-store"
    assert not re.search(r"harbor|python|[0-9]+\.[0-9]+", page, re.IGNORECASE)


def test_K07_words_are_text_and_nothing_else() -> None:
    _, fields, page = parts(refusal_page(502, HOSTILE))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert fields["Content-Security-Policy"] == "default-src 'none'"
    assert fields["X-Content-Type-Options"] == "nosniff"


def test_the_answer_to_HEAD_has_no_page_but_its_length() -> None:
    whole, head = refusal_page(503, "x"), refusal_page(503, "x", head_only=True)
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")


def asked(target: str = "/", host: str = "app.example", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "port", "where"),
    [
        (asked(), 443, "https://app.example/"),
        (asked(), 8443, "https://app.example:8443/"),
        (asked("/a?b=c", "app.example:8443"), 8443, "https://app.example:8443/a?b=c"),
        (asked("/", "app.example:80"), 443, "https://app.example/"),
        (asked("/", "[2001:db8::1]"), 443, "https://[2001:db8::1]/"),
        (asked("/", "[2001:db8::1]:80"), 9000, "https://[2001:db8::1]:9000/"),
        (asked("//evil.example/"), 443, "https://app.example//evil.example/"),
        (asked("http://app.example/x"), 443, "https://app.example/x"),
        (asked("*", method="OPTIONS"), 443, "https://app.example/"),
    ],
)
def test_a_plain_request_is_shown_the_same_address_with_https(request_: bytes, port: int, where: str) -> None:
    first, fields, page = parts(redirect_to_https(request_, port))
    assert fields["Location"] == where
    assert first in ("HTTP/1.1 301 Moved Permanently", "HTTP/1.1 308 Permanent Redirect")
    assert f'<a href="{where}">' in page


def test_a_POST_stays_a_POST() -> None:
    assert parts(redirect_to_https(asked(method="POST"), 443))[0] == "HTTP/1.1 308 Permanent Redirect"
    assert parts(redirect_to_https(asked(method="HEAD"), 443))[2] == ""


@pytest.mark.parametrize(
    "request_",
    [
        asked(host="a/b"),
        asked(host="user@app.example"),
        asked(host=HOSTILE),
        asked(host="a\nLocation: https://evil.example/"),
        asked("http://evil.example/"),
        asked("app.example:443", "app.example:443", "CONNECT"),
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\r\n\r\n",
        b"",
        b"\x16\x03\x01",
    ],
)
def test_who_names_no_safe_host_is_sent_nowhere(request_: bytes) -> None:
    first, fields, _ = parts(redirect_to_https(request_, 443))
    assert first.startswith("HTTP/1.1 400 ")
    assert "Location" not in fields


def test_K07_the_address_on_the_page_is_text() -> None:
    page = parts(redirect_to_https(asked('/"><script>alert(1)</script>'), 443))[2]
    assert "<script" not in page
    assert '<a href="https://app.example/&quot;&gt;&lt;script&gt;' in page


@given(st.binary(max_size=200), st.integers(1, 65535))
def test_whatever_came_there_is_one_whole_answer(junk: bytes, port: int) -> None:
    for head in (junk, b"GET / HTTP/1.1\r\nHost: h\r\n" + junk, b"GET /" + junk + b" HTTP/1.1\r\nHost: h\r\n\r\n"):
        answer = redirect_to_https(head, port)
        first, fields, page = parts(answer)
        assert first.split()[1] in ("301", "308", "400", "505")
        assert int(fields["Content-Length"]) == len(page.encode())
        assert answer.count(b"\r\n\r\n") == 1
