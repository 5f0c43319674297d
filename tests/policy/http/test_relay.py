"""Requests and responses take turns; what is raw becomes raw; every end means what it must."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.http import BackendRefused, End, HttpRefused, HttpRelay
from support.http_exchange import bytewise, cut, relay
from support.smuggling import HIDDEN, chunked, get, post

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WEBSOCKET = get(b"Connection: Upgrade", b"Upgrade: websocket")
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CONNECT = b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"


def asked(request: bytes = get(), **options: str) -> HttpRelay:
    between = relay(**options)
    assert between.from_client(request)
    return between


# Responses


@pytest.mark.parametrize(
    "response",
    [
        OK,
        STREAM,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 299 \xff\r\nContent-Length: 0\r\n\r\n",
        CONTINUE + OK,
        CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + STREAM,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0 \r\nX-Sum: 1\r\n\r\n",
    ],
)
def test_a_response_passes_as_it_is_and_the_connection_stays(response: bytes) -> None:
    between = asked()
    assert between.from_backend(memoryview(response)) == response
    assert between.is_idle
    assert not between.is_over
    between = asked()
    assert b"".join(between.from_backend(piece) for piece in bytewise(response)) == response
    assert between.is_idle


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_backend_that_wants_to_close_gets_no_other_request(response: bytes) -> None:
    between = asked(get() + get())
    assert between.from_backend(response) == response
    assert between.is_over
    assert not between.may_continue
    assert between.from_client(get()) == b""


def test_a_client_that_wants_to_close_gets_its_answer_only() -> None:
    between = asked(get(b"Connection: close"))
    assert between.from_backend(OK) == OK
    assert between.is_over


@pytest.mark.parametrize("response", [OK, OK.replace(b"Content", b"Connection: keep-alive\r\nContent")])
def test_HTTP_1_0_is_kept_when_both_say_so(response: bytes) -> None:
    between = asked(get(b"Connection: keep-alive", version=b"HTTP/1.0"))
    assert between.from_backend(response) == response
    assert between.is_over == (response == OK)


def test_a_body_without_length_ends_with_the_connection() -> None:
    between = asked()
    for data in (b"HTTP/1.1 200 OK\r\n\r\n", b"some", b"thing"):
        assert between.from_backend(data) == data
    assert not between.is_over
    assert between.backend_ended() is End.CLOSE
    assert between.is_over


def test_the_answer_to_HEAD_has_no_body_whatever_it_says() -> None:
    for head in (OK[:-2], STREAM.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"):
        between = asked(HEAD)
        assert between.from_backend(head) == head
        assert between.is_idle


@pytest.mark.parametrize("request_", [HEAD, get()])
def test_what_comes_after_a_response_goes_nowhere(request_: bytes) -> None:
    between = asked(request_)
    whole = OK[:-2] if request_ == HEAD else OK
    assert between.from_backend(whole + OK) == whole
    assert between.is_over


def test_what_nobody_asked_for_is_refused() -> None:
    for between in (relay(), asked()):
        if between.requests:
            between.from_backend(OK)
        with pytest.raises(BackendRefused):
            between.from_backend(OK)
        assert between.page(502, "x") == b""


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"<html>",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
        SWITCHES,
    ],
)
def test_a_malformed_response_is_refused_and_a_page_says_so(response: bytes) -> None:
    for pieces in ([response], bytewise(response)):
        between = asked()
        passed = b""
        refused = None
        try:
            for piece in pieces:
                passed += between.from_backend(piece)
        except BackendRefused as why:
            refused = why
        assert refused is not None
        if passed or between.response_started:
            assert between.page(502, refused.words) == b""
        else:
            assert between.page(502, refused.words).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert between.is_over
        assert between.page(502, "again") == b""


def test_HTTP_1_0_is_told_nothing_of_interim_responses() -> None:
    between = asked(get(version=b"HTTP/1.0"))
    assert between.from_backend(CONTINUE + OK) == OK
    assert between.is_over


def test_HSTS_is_added_once_and_only_with_TLS() -> None:
    hsts = b"Strict-Transport-Security: max-age=60\r\n"
    with_hsts = OK.replace(b"\r\n\r\n", b"\r\n" + hsts + b"\r\n")
    assert asked(hsts="max-age=60").from_backend(OK) == with_hsts
    assert asked(hsts="max-age=60").from_backend(CONTINUE + OK) == CONTINUE + with_hsts
    assert asked(hsts="max-age=60").from_backend(with_hsts) == with_hsts
    own = with_hsts.replace(b"60", b"1")
    assert asked(hsts="max-age=60").from_backend(own) == own
    assert asked(hsts="max-age=60", scheme="http").from_backend(OK) == OK
    between = asked(hsts="max-age=60")
    for _ in range(3):
        assert between.from_backend(OK) == with_hsts
        between.from_client(get())


# Turns


def test_F10_pipelined_requests_go_one_by_one_in_order() -> None:
    between = relay()
    count = 50
    sent = b"".join(get(target=b"/%d" % number) for number in range(count))
    forwarded = between.from_client(memoryview(bytearray(sent)))
    for number in range(count):
        assert bytes(forwarded).startswith(b"GET /%d HTTP/1.1\r\n" % number)
        assert bytes(forwarded).count(b"GET ") == 1
        assert between.holds_client == (number < count - 1)
        assert between.from_backend(OK) == OK
        assert between.may_continue == (number < count - 1)
        forwarded = between.from_client(b"")
    assert forwarded == b""
    assert between.is_idle
    assert between.requests == count


def test_what_is_held_is_no_longer_the_caller_s_buffer() -> None:
    between = relay()
    buffer = bytearray(get() + get(target=b"/second"))
    between.from_client(memoryview(buffer))
    buffer[:] = b"x" * len(buffer)
    between.from_backend(OK)
    assert bytes(between.from_client(b"")).startswith(b"GET /second HTTP/1.1\r\n")


def test_large_bodies_are_not_copied() -> None:
    between = asked(post(b"Content-Length: 1000000"))
    data = memoryview(bytearray(65536))
    assert between.from_client(data) is data
    between.from_backend(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    assert between.from_backend(data) is data
    between = asked(chunked(b"100000\r\n"))
    passed = between.from_client(data)
    assert isinstance(passed, memoryview)
    assert passed.obj is data.obj


def test_a_response_may_come_before_the_request_is_complete() -> None:
    between = asked(post(b"Content-Length: 4", body=b"ab"))
    assert between.from_backend(OK) == OK
    assert not between.is_over
    assert between.waits_for_client
    assert between.page(408, "x") == b""
    between = asked(post(b"Content-Length: 4", body=b"ab"))
    between.from_backend(OK)
    forwarded = bytes(between.from_client(b"cd" + get()))
    assert forwarded.startswith(b"cdGET / HTTP/1.1\r\n")
    assert between.requests == 2


def test_expect_100_continue_passes_and_so_does_the_answer() -> None:
    between = asked(post(b"Content-Length: 4", b"Expect: 100-continue"))
    assert between.from_backend(CONTINUE) == CONTINUE
    assert between.from_client(b"abcd") == b"abcd"
    assert between.from_backend(OK) == OK
    assert between.is_idle
    assert not between.is_over


def test_F10_a_backend_that_answers_without_asking_for_the_body_ends_the_connection() -> None:
    refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
    between = asked(post(b"Content-Length: %d" % len(HIDDEN), b"Expect: 100-continue"))
    assert between.from_backend(refusal) == refusal
    assert between.is_over
    assert between.from_client(HIDDEN) == b""


# Raw


@pytest.mark.parametrize(
    ("request_", "response"),
    [(WEBSOCKET, SWITCHES), (CONNECT, b"HTTP/1.1 200 Connected\r\n\r\n"), (CONNECT, OK[:-2])],
)
def test_F10_upgrade_and_connect_are_raw_once_the_backend_agrees(request_: bytes, response: bytes) -> None:
    between = relay()
    assert bytes(between.from_client(request_ + b"\0early")).count(b"\0") == 0
    assert between.from_backend(response + b"\0frames") == response + b"\0frames"
    assert between.may_continue
    assert not between.is_raw
    assert between.from_client(b"") == b"\0early"
    assert between.is_raw
    assert between.from_client(b"GET\n\0") == b"GET\n\0"
    assert between.from_backend(b"\0\n") == b"\0\n"
    assert between.client_ended() is End.FORWARD
    assert between.backend_ended() is End.FORWARD
    assert not between.is_over


def test_an_end_that_came_before_the_backend_agreed_is_due_then() -> None:
    between = asked(CONNECT)
    assert between.client_ended() is End.LATER
    assert between.from_backend(OK[:-2])
    assert between.may_continue
    assert between.from_client(b"") == b""
    assert between.is_raw
    assert not between.may_continue


@pytest.mark.parametrize("request_", [WEBSOCKET, CONNECT])
def test_F10_what_follows_a_refused_upgrade_is_a_request_again(request_: bytes) -> None:
    between = relay()
    assert HIDDEN not in bytes(between.from_client(request_ + get() + b"\0"))
    between.from_backend(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
    assert bytes(between.from_client(b"")).startswith(b"GET / HTTP/1.1\r\n")
    between.from_backend(OK)
    with pytest.raises(HttpRefused):
        between.from_client(b"")


def test_HTTP_1_0_cannot_upgrade() -> None:
    between = asked(get(b"Connection: Upgrade", b"Upgrade: websocket", version=b"HTTP/1.0"))
    with pytest.raises(BackendRefused):
        between.from_backend(SWITCHES)


# Ends


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (b"", End.CLOSE),
        (b"GET", End.CUT),
        (get(), End.LATER),
        (get() + b"GET", End.LATER),
        (post(b"Content-Length: 4", body=b"abc"), End.CUT),
        (chunked(b"4\r\nabcd\r\n"), End.CUT),
        (chunked(b"4\r\nabcd\r\n0\r\n\r\n"), End.LATER),
    ],
)
def test_the_end_of_a_client_is_known_for_what_it_is(sent: bytes, end: End) -> None:
    between = relay()
    between.from_client(sent)
    assert between.client_ended() is end


@pytest.mark.parametrize("rest", [b"", b"GET / HT"])
def test_a_client_that_has_ended_gets_all_its_answers(rest: bytes) -> None:
    between = asked(get() + get() + rest)
    assert between.client_ended() is End.LATER
    assert between.from_backend(OK) == OK
    assert not between.is_over
    assert between.from_client(b"")
    assert between.from_backend(OK) == OK
    between.from_client(b"")
    assert between.is_over


@pytest.mark.parametrize(
    ("came", "end"),
    [
        (b"", End.UNANSWERED),
        (CONTINUE, End.UNANSWERED),
        (b"HTTP/1.1 200 OK\r\n", End.UNANSWERED),
        (OK[:-1], End.CUT),
        (STREAM[:-1], End.CUT),
        (STREAM, End.CLOSE),
        (OK, End.CLOSE),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", End.CLOSE),
    ],
)
def test_the_end_of_a_backend_is_known_for_what_it_is(came: bytes, end: End) -> None:
    between = asked()
    between.from_backend(came)
    assert between.backend_ended() is end
    page = between.page(502, "The backend has gone")
    assert page.startswith(b"HTTP/1.1 502 ") == (end is End.UNANSWERED)


def test_a_kept_connection_may_end_like_any_other() -> None:
    between = asked()
    between.from_backend(OK)
    between.from_client(get())
    assert between.backend_ended() is End.CLOSE


def test_a_page_answers_the_request_under_way_and_no_other() -> None:
    assert relay().page(408, "x") == b""
    begun = relay()
    begun.from_client(b"GET / HT")
    assert begun.waits_for_client
    assert begun.page(408, "It took too long").startswith(b"HTTP/1.1 408 ")
    waiting = asked()
    assert waiting.waits_for_backend
    assert not waiting.is_answering
    assert b"\r\n\r\n<!DOCTYPE" in waiting.page(504, "x")
    head = asked(HEAD)
    assert head.page(504, "x").endswith(b"\r\n\r\n")
    under_way = asked()
    under_way.from_backend(OK[:-1])
    assert under_way.is_answering
    assert under_way.page(502, "x") == b""
    complete = asked()
    complete.from_backend(OK)
    assert not complete.is_answering
    raw = asked(WEBSOCKET)
    raw.from_backend(SWITCHES)
    assert raw.page(502, "x") == b""


def test_it_says_where_it_stands() -> None:
    between = asked()
    assert repr(between) == "<HttpRelay [1 requests | asking: done | answering: head]>"
    between.from_backend(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    assert repr(between) == "<HttpRelay [1 requests | asking: done | answering: to end]>"


# Whatever comes

LINES = [
    b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"CONNECT h:1 HTTP/1.1\r\n", b"Host: h\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\n", b"Upgrade: a\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"\r\n", b"5\r\nabcde\r\n", b"0\r\n", b"0\r\n\r\n", b"abcde",
    b"X-Forwarded-For: a\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switch\r\n", b"HTTP/1.1 100 Go\r\n", b"\n", b"\r",
    b"HTTP/1.1 204 No\r\n", b"HTTP/1.0 200 OK\r\n", b"Content-Length: 0\r\n", get(), OK, STREAM,
]  # fmt: skip
data = st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=4)), max_size=12).map(b"".join)
step = st.tuples(st.sampled_from(["client", "backend", "client ends", "backend ends", "page"]), data)


@given(st.lists(step, max_size=12), st.lists(st.integers(0, 100), max_size=3))
def test_it_never_raises_anything_but_its_own_errors(steps: list[tuple[str, bytes]], places: list[int]) -> None:
    between = relay(hsts="max-age=1")
    for who, came in steps:
        refused: HttpRefused | BackendRefused | None = None
        try:
            for piece in cut(came, places):
                if who == "client":
                    between.from_client(memoryview(piece))
                elif who == "backend":
                    between.from_backend(memoryview(piece))
            if between.may_continue:
                between.from_client(b"")
        except (HttpRefused, BackendRefused) as why:
            refused = why
        if refused is not None:
            assert refused.status in ((400, 431, 505) if isinstance(refused, HttpRefused) else (502,))
            assert refused.words
            assert between.is_over
        if who == "client ends":
            between.client_ended()
        elif who == "backend ends":
            between.backend_ended()
        elif who == "page":
            assert between.page(503, "x")[:9] in (b"", b"HTTP/1.1 ")
        assert between.response_started in (True, False)
        assert repr(between)


@given(data, st.lists(st.integers(0, 200), max_size=4))
def test_a_response_means_the_same_in_any_pieces(tail: bytes, places: list[int]) -> None:
    def through(pieces: list[bytes]) -> tuple[bytes, str]:
        between, passed = asked(), b""
        try:
            for piece in pieces:
                passed += between.from_backend(memoryview(piece))
        except BackendRefused:
            return b"", "refused"
        return passed, repr(between)

    came = b"HTTP/1.1 200 OK\r\n" + tail
    whole, pieces = through([came]), through(cut(came, places))
    if whole[1] != "refused" and not asked_too_much(came):
        assert pieces == whole


def asked_too_much(came: bytes) -> bool:
    """What follows a response is refused if it comes alone, and dropped with it if it comes along."""
    between = asked()
    try:
        return len(between.from_backend(came)) < len(came)
    except BackendRefused:
        return True
