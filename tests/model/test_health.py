"""What a health check may be: which members go together, what escapes and statuses mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.errors import Invalid
from harbor.model import Policy
from harbor.model.health import CheckType, HealthCheck, unescaped
from harbor.model.kinds import Record, Wrong
from harbor.model.policy import check_overrides

KIND = Record(HealthCheck)


def made(**members: Any) -> HealthCheck:
    check = KIND.build(KIND.check(members))
    assert isinstance(check, HealthCheck)
    return check


def test_a_type_is_all_it_takes() -> None:
    assert made(type="tcp") == HealthCheck(CheckType.TCP, 5.0, 2.0, 2, 3, 0.0)
    assert (Policy().health, Policy().max_fails, Policy().fail_timeout) == (None, 1, 10.0)


@pytest.mark.parametrize(
    "members",
    [
        {"type": "tcp", "port": 81, "interval": 0.5, "timeout": 1.0, "rise": 1, "fall": 1, "start_period": 60.0},
        {"type": "http", "path": "/ok?a=b", "status": 204},
        {"type": "http", "status": [200, "3xx", "400-404"]},
        {"type": "http", "status": "200,2xx"},
        {"type": "exchange", "send": "PING\\r\\n", "expect": "+PONG"},
        {"type": "udp", "send": "\\x00\\xff", "expect": ""},
        {"type": "dns", "send": "example.org SOA", "expect": "NOERROR"},
    ],
)
def test_what_is_given_is_shown_again(members: dict[str, Any]) -> None:
    shown = KIND.plain(made(**members))
    assert {name: shown[name] for name in members} == members
    assert made(**shown) == made(**members)
    assert Policy().with_overrides({"health": members}).health == made(**members)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "health.type: it is missing"),
        ({"type": "ping"}, "health.type: 'ping' is none of its values; there are tcp, http, exchange, udp, dns"),
        ({"type": "tcp", "pth": "/"}, "health.pth: there is no such member; did you mean path?"),
        ({"type": "tcp", "path": "/"}, "health.path: a check of type tcp has none; it belongs to http"),
        ({"type": "http", "send": "a"}, "health.send: a check of type http has none; it belongs to exchange, udp, dns"),
        ({"type": "http", "path": "ok"}, "health.path: 'ok' is no path; begin with /"),
        ({"type": "http", "path": "/a b"}, "health.path: '/a b' is no path"),
        ({"type": "http", "status": "6xx"}, "health.status: '6xx' is no status; write one like 200, 2xx or 200-399"),
        ({"type": "http", "status": "399-200"}, "health.status: '399-200' ends before it begins"),
        ({"type": "http", "status": True}, "health.status: True is no status"),
        ({"type": "http", "status": []}, "health.status: there are 0 statuses; give 1 to 32"),
        ({"type": "udp", "send": "\\q"}, "health.send: '\\\\q' is no escape"),
        ({"type": "udp", "send": "\\x0"}, "health.send: '\\\\x' is no escape"),
        ({"type": "udp", "send": "a" * 1025}, "health.send: it is longer than 1024 characters"),
        ({"type": "dns", "send": "a..b"}, "health.send: 'a..b' is no name"),
        ({"type": "dns", "send": "a.b SQL"}, "health.send: 'SQL' is none of the types A, NS"),
        ({"type": "dns", "expect": "OK"}, "health.expect: 'OK' is no code; there are NOERROR"),
        ({"type": "tcp", "interval": 0}, "health.interval: 0 is too low; the lowest is 0.1"),
        ({"type": "tcp", "rise": 0}, "health.rise: 0 is too low"),
        ({"type": "tcp", "port": 65_536}, "health.port: 65536 is too high"),
    ],
)
def test_what_makes_no_sense_is_refused_and_says_what_would(members: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_overrides({"health": members})
    assert refused.value.code == "policy_invalid"
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("PING\\r\\n", b"PING\r\n"),
        ("PING\r\n", b"PING\r\n"),
        ("\\x00\\xfF\\\\x00\\t\\0", b"\x00\xff\\x00\t\0"),
        ("\xe9", "\xe9".encode()),
        ("", b""),
    ],
)
def test_escapes_stand_for_bytes(text: str, data: bytes) -> None:
    assert unescaped(text) == data


@given(st.binary(max_size=50))
def test_every_byte_can_be_written(data: bytes) -> None:
    assert unescaped("".join(f"\\x{byte:02x}" for byte in data)) == data


@given(st.text(max_size=20))
def test_any_text_is_bytes_or_wrong(text: str) -> None:
    try:
        assert isinstance(unescaped(text), bytes)
    except Wrong:
        assert "\\" in text


@pytest.mark.parametrize(
    ("status", "good", "bad"),
    [
        (None, {200, 204, 302, 399}, {199, 400, 500}),
        (204, {204}, {200, 205}),
        ("2xx", {200, 299}, {300, 199}),
        ([200, "5xx"], {200, 503}, {201}),
        ("200, 301-303", {200, 302}, {304}),
    ],
)
def test_a_status_is_a_number_a_class_a_range_or_several(status: Any, good: set[int], bad: set[int]) -> None:
    check = made(type="http", **({} if status is None else {"status": status}))
    assert all(map(check.accepts, good))
    assert not any(map(check.accepts, bad))


def test_dns_asks_for_the_root_unless_told() -> None:
    assert made(type="dns").question == ((), 2)
    assert made(type="dns", send="example.org").question == (("example", "org"), 1)
    assert made(type="dns", send="example.org. aaaa").question == (("example", "org"), 28)
