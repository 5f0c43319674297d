"""Who asked, as the backend is told; and which fields of a request stay behind."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.model import Address
from harbor.policy.http import HttpRefused
from support.http_exchange import relay
from support.smuggling import get

OURS = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "8443",
    "Forwarded": "for=192.0.2.7;proto=https",
}


def forwarded(request: bytes, *, trusted: bool = False, **more: str) -> list[tuple[str, str]]:
    """The fields of ``request`` as they reach the backend."""
    head = bytes(relay(trusted=trusted, **more).from_client(request))
    assert head.endswith(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def told(*fields: bytes, trusted: bool = False) -> dict[str, str]:
    """All fields but Host, each there once."""
    pairs = forwarded(get(*fields), trusted=trusted)
    assert pairs[0] == ("Host", "h")
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs[1:])


def test_the_backend_is_told_who_asked_and_how() -> None:
    assert told() == OURS
    assert dict(forwarded(get(), scheme="http"))["X-Forwarded-Proto"] == "http"
    assert dict(forwarded(get(), scheme="http"))["Forwarded"] == "for=192.0.2.7;proto=http"


def test_an_IPv6_client_is_quoted_in_Forwarded() -> None:
    head = relay(client=Address("2001:db8::7", 1)).from_client(get())
    assert b"\r\nX-Forwarded-For: 2001:db8::7\r\n" in head
    assert b'\r\nForwarded: for="[2001:db8::7]";proto=https\r\n' in head


def test_everything_else_stays_as_it_is() -> None:
    request = b"GET /a?b HTTP/1.1\r\nhOst: App.Example:8443\r\nX-Two:  a \r\nX-Two: b\r\ncookie: c=d\r\n\r\n"
    got = bytes(relay().from_client(request))
    assert got.startswith(request[:-2])


@pytest.mark.parametrize(
    "field",
    [
        b"X-Forwarded-For: 127.0.0.1",
        b"x-forwarded-for: 127.0.0.1",
        b"X_Forwarded_For: 127.0.0.1",
        b"X-Forwarded_For: 127.0.0.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Port: 1",
        b"X-Forwarded-Host: other",
        b"X-Forwarded-Whatever: x",
        b"X-Forwarded: x",
        b"Forwarded: for=127.0.0.1",
        b"FORWARDED: for=127.0.0.1",
        b"X-Real-IP: 127.0.0.1",
        b"X_Real_IP: 127.0.0.1",
    ],
)
def test_F10_what_a_client_says_about_itself_is_dropped(field: bytes) -> None:
    assert told(field) == OURS
    assert told(b"A: b", field, b"C: d") == {"A": "b", "C": "d"} | OURS


@pytest.mark.parametrize(
    "field",
    [
        b"Proxy: http://evil/",  # becomes HTTP_PROXY in CGI
        b"Proxy-Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"HTTP2-Settings: AAMA",
        b"TE: gzip",
        b"Upgrade: websocket",  # without Connection: upgrade
        b"Content_Length: 5",
        b"Transfer_Encoding: chunked",
        b"Proxy_Connection: a",
    ],
)
def test_what_concerns_one_hop_only_or_fools_applications_is_dropped(field: bytes) -> None:
    assert told(field) == OURS


def test_other_names_with_underscores_pass() -> None:
    assert told(b"my_key: 1") == {"my_key": "1"} | OURS


def test_a_trusted_peer_is_believed_and_we_come_after_it() -> None:
    assert told(
        b"X-Forwarded-For: 198.51.100.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Port: 80",
        b"X-Forwarded-Host: site",
        b"Forwarded: for=198.51.100.1;proto=http",
        trusted=True,
    ) == {
        "X-Forwarded-For": "198.51.100.1, 192.0.2.7",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "80",
        "X-Forwarded-Host": "site",
        "Forwarded": "for=198.51.100.1;proto=http, for=192.0.2.7;proto=https",
    }


def test_several_lists_of_a_trusted_peer_become_one() -> None:
    got = told(b"X-Forwarded-For: a, b", b"X-Forwarded-For: c", trusted=True)
    assert got == OURS | {"X-Forwarded-For": "a, b, c, 192.0.2.7"}


def test_a_trusted_peer_that_says_nothing_is_told_of_itself() -> None:
    assert told(trusted=True) == OURS


@pytest.mark.parametrize(
    "field",
    [
        b'Forwarded: for="198.51.100.1',  # an open quote would swallow what we add
        b'Forwarded: for=198.51.100.1;by="\\',
        b"Forwarded: for=198.51.100.1, ",
        b"Forwarded: for=198.51.100.1;;proto=https",
        b"Forwarded: 198.51.100.1",
        b"Forwarded:",
        b"X-Forwarded-For:",
        b"X-Forwarded-Proto: https://evil",
        b"X-Forwarded-Proto: javascript",
        b"X-Forwarded-Proto:",
        b"X-Forwarded-Port: 443@evil",
        b"X-Forwarded-Port: -1",
        b"X-Forwarded-Port: 123456",
    ],
)
def test_F10_what_has_not_the_form_that_it_must_have_is_not_heard_even_of_a_trusted_peer(field: bytes) -> None:
    assert told(field, trusted=True) == OURS


def test_F10_one_bad_element_spoils_the_list_and_two_protocols_are_none() -> None:
    assert told(b"Forwarded: for=a", b'Forwarded: for="b', trusted=True) == OURS
    assert told(b"X-Forwarded-Proto: http", b"X-Forwarded-Proto: https", trusted=True) == OURS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Forwarded", 'for="[2001:db8::1]:47011";proto=https;host="a\\"b,c;d", FOR=unknown;by=_x'),
        ("X-Forwarded-For", "unknown, 198.51.100.1:443, [2001:db8::1]"),
        ("X-Forwarded-Proto", "HTTPS, http"),
        ("X-Forwarded-Proto", "wss"),
        ("X-Forwarded-Port", "443,8443"),
    ],
)
def test_the_forms_that_proxies_use_are_heard(name: str, value: str) -> None:
    got = told(f"{name}: {value}".encode(), trusted=True)
    ends = {"Forwarded": f"{value}, {OURS['Forwarded']}", "X-Forwarded-For": f"{value}, {OURS['X-Forwarded-For']}"}
    assert got == OURS | {name: ends.get(name, value)}


@given(st.lists(st.from_regex(rb"[!-~ \t\x80-\xff]{0,30}", fullmatch=True), min_size=1, max_size=3))
def test_whatever_a_trusted_peer_says_our_element_stays_one_of_its_own(values: list[bytes]) -> None:
    head = bytes(relay(trusted=True).from_client(get(*(b"Forwarded: " + value for value in values))))
    line = next(line for line in head.split(b"\r\n") if line.startswith(b"Forwarded: "))
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
    assert line.endswith(OURS["Forwarded"].encode())
    assert b'"' not in outside


def test_not_even_a_trusted_peer_sends_names_with_underscores() -> None:
    assert told(b"X_Forwarded_For: 198.51.100.1", trusted=True) == OURS


@pytest.mark.parametrize(
    ("given_", "passed"),
    [
        (b"keep-alive", "keep-alive"),
        (b"close", "close"),
        (b"Close", "Close"),
        (b"close, X-Secret", "close"),
        (b"x-forwarded-for, x-forwarded-proto, forwarded", None),
        (b"upgrade", None),
        (b",", ","),
    ],
)
def test_F10_Connection_cannot_take_our_fields_away(given_: bytes, passed: str | None) -> None:
    want = OURS if passed is None else {"Connection": passed} | OURS
    assert told(b"Connection: " + given_) == want


def test_fields_that_Connection_names_stay_behind() -> None:
    assert told(b"X-Hop: 1", b"Connection: x-hop, keep-alive", b"A: b") == {"A": "b", "Connection": "keep-alive"} | OURS


def test_an_upgrade_passes_with_its_Connection() -> None:
    got = told(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
    assert got == {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"} | OURS


@pytest.mark.parametrize("upgrade", [b"h2c", b"H2C", b"websocket, h2c", b"h2c-14"])
def test_F10_no_tunnel_of_HTTP_2_is_opened(upgrade: bytes) -> None:
    fields = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMA")
    assert told(*fields) == OURS


def test_a_client_may_say_that_it_takes_trailers() -> None:
    assert told(b"TE: trailers", b"Connection: TE") == {"TE": "trailers", "Connection": "TE"} | OURS


def test_the_same_fields_again_are_treated_the_same_and_others_are_not() -> None:
    between = relay()
    for field in (b"A: b", b"X-Forwarded-For: x", b"X-Forwarded-For: x", b"A: b", b"A: c"):
        got = bytes(between.from_client(get(field)))
        assert got == bytes(relay().from_client(get(field)))
        assert between.from_backend(b"HTTP/1.1 204 No Content\r\n\r\n")


names = st.from_regex(rb"[A-Za-z!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)


@given(st.lists(st.tuples(names, st.from_regex(rb"[!-~ \t\x80-\xff]{0,20}", fullmatch=True)), max_size=8))
def test_whatever_else_is_sent_ours_are_there_once_and_last(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        head = bytes(relay().from_client(get(*(name + b": " + value for name, value in fields))))
    except HttpRefused:
        return
    names_sent = [line.partition(b":")[0].lower().replace(b"_", b"-") for line in head.split(b"\r\n")[1:-2]]
    for name in OURS:
        assert names_sent.count(name.lower().encode()) == 1
    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7;proto=https\r\n" in head
