"""Requests that two programs might understand differently, by class, and what is to become of each.

``wanted`` is the status of the refusal, or every request in there as all must see them: method, target, body.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple


class Seen(NamedTuple):
    """A request as somebody understood it."""

    method: str
    target: str
    body: bytes = b""


class Case(NamedTuple):
    kind: str
    name: str
    sent: bytes
    wanted: int | tuple[Seen, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


HIDDEN: Final = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
GET: Final = Seen("GET", "/")


def get(*fields: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1", host: bytes = b"Host: h\r\n") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST / " + version + b"\r\nHost: h\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def chunked(body: bytes, *more: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *more, body=body)


def refused(kind: str, status: int, **sent: bytes) -> Iterator[Case]:
    return (Case(kind, name.replace("_", " "), data, status) for name, data in sent.items())


def passed(kind: str, sent: dict[str, tuple[bytes, tuple[Seen, ...]]]) -> Iterator[Case]:
    return (Case(kind, name, data, wanted) for name, (data, wanted) in sent.items())


def _cases() -> Iterator[Case]:
    yield from refused(
        "length and coding", 400,
        length_then_chunked=post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        chunked_then_length=post(b"Transfer-Encoding: chunked", b"Content-Length: 6", body=b"0\r\n\r\nG"),
        both_in_capitals=post(b"CONTENT-LENGTH: 4", b"TRANSFER-ENCODING: CHUNKED", body=b"0\r\n\r\n"),
        length_0_and_chunked=post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
        length_and_identity=post(b"Content-Length: 4", b"Transfer-Encoding: identity", body=b"abcd"),
    )  # fmt: skip
    yield from refused(
        "content-length", 400,
        two_that_differ=post(b"Content-Length: 0", b"Content-Length: 34", body=HIDDEN),
        two_that_agree=post(b"Content-Length: 4", b"Content-Length: 4", body=b"abcd"),
        two_in_other_case=post(b"Content-Length: 4", b"content-length: 0", body=b"abcd"),
        a_list=post(b"Content-Length: 4, 4", body=b"abcd"),
        plus=post(b"Content-Length: +4", body=b"abcd"),
        minus=post(b"Content-Length: -4", body=b"abcd"),
        empty=post(b"Content-Length:", body=b"abcd"),
        blank=post(b"Content-Length:  ", body=b"abcd"),
        hexadecimal=post(b"Content-Length: 0x4", body=b"abcd"),
        fraction=post(b"Content-Length: 4.0", body=b"abcd"),
        exponent=post(b"Content-Length: 1e1", body=b"abcdefghij"),
        underscore=post(b"Content-Length: 1_0", body=b"abcdefghij"),
        inner_space=post(b"Content-Length: 1 0", body=b"abcdefghij"),
        tab_before=post(b"Content-Length:\t4", body=b"abcd"),
        tab_after=post(b"Content-Length: 4\t", body=b"abcd"),
        overflow=post(b"Content-Length: 18446744073709551620", body=b"abcd"),
        quoted=post(b'Content-Length: "4"', body=b"abcd"),
        arabic_digits="POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ٤\r\n\r\nabcd".encode(),
        semicolon=post(b"Content-Length: 4;a=b", body=b"abcd"),
    )  # fmt: skip
    yield from refused(
        "transfer-encoding", 400,
        gzip_chunked=post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        chunked_gzip=post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
        identity=post(b"Transfer-Encoding: identity"),
        chunked_identity=post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN),
        xchunked=post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
        chunked_twice=post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
        two_fields=post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        two_fields_second_unknown=post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow", body=b"0\r\n\r\n"),
        parameter=post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"),
        leading_comma=post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"),
        trailing_comma=post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"),
        quoted=post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
        empty=post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
        tab_before=post(b"Transfer-Encoding:\tchunked", body=b"0\r\n\r\n"),
        tab_after=post(b"Transfer-Encoding: chunked\t", body=b"0\r\n\r\n"),
        vertical_tab=post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
        form_feed=post(b"Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n"),
        nul=post(b"Transfer-Encoding: chunked\x00", body=b"0\r\n\r\n"),
        no_break_space=post(b"Transfer-Encoding: \xa0chunked", body=b"0\r\n\r\n"),
        in_HTTP_1_0=post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN, version=b"HTTP/1.0"),
        folded=post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n" + HIDDEN),
        hidden_by_a_fold=post(b"X: a", b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        space_before_colon=post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
        space_before_name=b"POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: h\r\n\r\n0\r\n\r\n",
        bare_lf_before=b"POST / HTTP/1.1\r\nHost: h\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        bare_cr_before=b"POST / HTTP/1.1\r\nHost: h\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )  # fmt: skip
    yield from refused(
        "chunks", 400,
        extension=chunked(b"4;a=b\r\nabcd\r\n0\r\n\r\n"),
        extension_with_lf=chunked(b"4;a\nabcd\r\n0\r\n\r\n"),
        extension_of_the_last=chunked(b"0;a\r\n\r\n"),
        space_after_size=chunked(b"4 \r\nabcd\r\n0\r\n\r\n"),
        space_before_size=chunked(b" 4\r\nabcd\r\n0\r\n\r\n"),
        hex_prefix=chunked(b"0x4\r\nabcd\r\n0\r\n\r\n"),
        plus=chunked(b"+4\r\nabcd\r\n0\r\n\r\n"),
        minus=chunked(b"-1\r\nabcd\r\n0\r\n\r\n"),
        underscore=chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
        no_digit=chunked(b"\r\nabcd\r\n0\r\n\r\n"),
        not_hex=chunked(b"g\r\nabcd\r\n0\r\n\r\n"),
        overflow_of_64_bits=chunked(b"10000000000000004\r\nabcd\r\n0\r\n\r\n"),
        all_bits=chunked(b"ffffffffffffffff\r\nabcd\r\n0\r\n\r\n"),
        many_zeros=chunked(b"0" * 16 + b"4\r\nabcd\r\n0\r\n\r\n"),
        longer_than_it_says=chunked(b"3\r\nabcd\r\n0\r\n\r\n"),
        shorter_than_it_says=chunked(b"6\r\nabcd\r\n0\r\n\r\n"),
        size_ends_with_lf=chunked(b"4\nabcd\r\n0\r\n\r\n"),
        size_ends_with_cr=chunked(b"4\rabcd\r\n0\r\n\r\n"),
        data_ends_with_lf=chunked(b"4\r\nabcd\n0\r\n\r\n"),
        data_without_end=chunked(b"4\r\nabcd0\r\n\r\n"),
        data_ends_with_cr_cr=chunked(b"4\r\nabcd\r\r0\r\n\r\n"),
        last_ends_with_lf=chunked(b"0\n\n"),
        end_with_lf=chunked(b"0\r\n\n" + HIDDEN),
        request_in_place_of_trailers=chunked(b"0\r\n" + HIDDEN),
    )  # fmt: skip
    yield from refused(
        "trailers", 400,
        content_length=chunked(b"0\r\nContent-Length: 34\r\n\r\n" + HIDDEN),
        transfer_encoding=chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        host=chunked(b"0\r\nHost: other\r\n\r\n"),
        connection=chunked(b"0\r\nConnection: close\r\n\r\n"),
        forwarded_for=chunked(b"0\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"),
        forwarded_for_second=chunked(b"0\r\nA: b\r\nx_forwarded_for: 127.0.0.1\r\n\r\n"),
        authorization=chunked(b"0\r\nAuthorization: Basic eA==\r\n\r\n"),
        cookie=chunked(b"0\r\nCookie: a=b\r\n\r\n"),
        folded=chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
        bare_lf=chunked(b"0\r\nA: b\nC: d\r\n\r\n"),
        space_before_colon=chunked(b"0\r\nA : b\r\n\r\n"),
        no_colon=chunked(b"0\r\nA\r\n\r\n"),
    )  # fmt: skip
    yield from refused(
        "fields", 400,
        folded_with_space=get(b"X: a", b" b"),
        folded_with_tab=get(b"X: a", b"\tb"),
        first_line_folded=b"GET / HTTP/1.1\r\n\tHost: h\r\n\r\n",
        bare_lf=b"GET / HTTP/1.1\r\nHost: h\nX: a\r\n\r\n",
        bare_lf_only=b"GET / HTTP/1.1\nHost: h\n\n",
        bare_cr=get(b"X: a\rb"),
        cr_before_crlf=get(b"X: a\r"),
        nul_in_value=get(b"X: a\x00b"),
        nul_in_name=get(b"X\x00: a"),
        delete_in_value=get(b"X: \x7f"),
        escape_in_value=get(b"X: \x1b[31m"),
        no_colon=get(b"X"),
        no_name=get(b": a"),
        space_before_colon=get(b"X : a"),
        tab_before_colon=get(b"X\t: a"),
        space_in_name=get(b"X Y: a"),
        no_ascii_in_name=get(b"X\xff: a"),
        brackets_in_name=get(b"X[]: a"),
        slash_in_name=get(b"X/Y: a"),
        connection_drops_host=get(b"Connection: host"),
        connection_drops_length=post(b"Content-Length: 4", b"Connection: close, Content-Length", body=b"abcd"),
        connection_drops_coding=chunked(b"0\r\n\r\n", b"Connection: transfer-encoding"),
        connection_drops_expect=post(b"Content-Length: 0", b"Connection: expect", b"Expect: 100-continue"),
    )  # fmt: skip
    yield from refused(
        "host", 400,
        missing=get(host=b""),
        empty=get(host=b"Host:\r\n"),
        twice=get(b"Host: other"),
        twice_the_same=get(b"Host: h"),
        in_other_case_as_well=get(b"hOST: other"),
        list=get(host=b"Host: h, other\r\n"),
        slash=get(host=b"Host: h/other\r\n"),
        user=get(host=b"Host: user@h\r\n"),
        bad_port=get(host=b"Host: h:8o\r\n"),
        open_bracket=get(host=b"Host: [::1\r\n"),
        script=get(host=b"Host: <script>alert(1)</script>\r\n"),
        space=get(host=b"Host: h other\r\n"),
        tab=get(host=b"Host:\th\r\n"),
        no_ascii=get(host=b"Host: \xfcber\r\n"),
        twice_in_HTTP_1_0=get(b"Host: other", version=b"HTTP/1.0"),
        url_of_another=get(target=b"http://other/"),
        url_with_user=get(target=b"http://user@h/"),
        url_without_host=get(target=b"http:///"),
        url_and_no_host=get(target=b"http://h/", host=b"", version=b"HTTP/1.0"),
    )  # fmt: skip
    yield from refused(
        "first line", 400,
        two_spaces=b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        space_in_target=b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        tab=b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n",
        space_after=b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        space_before=b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        small_letters=b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
        mixed_letters=b"GeT / HTTP/1.1\r\nHost: h\r\n\r\n",
        method_of_other_characters=b"GE()T / HTTP/1.1\r\nHost: h\r\n\r\n",
        no_method=b"/ HTTP/1.1\r\nHost: h\r\n\r\n",
        endless_method=b"G" * 40 + b" / HTTP/1.1\r\nHost: h\r\n\r\n",
        no_target=b"GET HTTP/1.1\r\nHost: h\r\n\r\n",
        HTTP_0_9=b"GET /\r\n",
        HTTP_0_9_with_end=b"GET /\r\n\r\n",
        small_http=b"GET / http/1.1\r\nHost: h\r\n\r\n",
        no_minor=b"GET / HTTP/1.\r\nHost: h\r\n\r\n",
        long_minor=b"GET / HTTP/1.10\r\nHost: h\r\n\r\n",
        plus_in_version=b"GET / HTTP/+1.1\r\nHost: h\r\n\r\n",
        fragment=get(target=b"/a#b"),
        no_ascii_in_target=get(target=b"/\xc3\xbc"),
        nul_in_target=get(target=b"/\x00"),
        relative_target=get(target=b"a"),
        star_for_get=get(target=b"*"),
        other_scheme=get(target=b"ftp://h/"),
        connect_a_path=b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n",
        connect_no_port=b"CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n",
        connect_with_body=b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 34\r\n\r\n" + HIDDEN,
        bare_lf=b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        bare_cr=b"GET / HTTP/1.1\rHost: h\r\n\r\n",
        two_empty_lines_before=b"\r\n\r\n" + get(),
        lf_before=b"\n" + get(),
        tls=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        proxy_header=b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(),
    )  # fmt: skip
    yield from refused(
        "version", 505,
        HTTP_2_preface=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        HTTP_2=get(version=b"HTTP/2"),
        HTTP_1_2=get(version=b"HTTP/1.2"),
        HTTP_0_9_by_name=get(version=b"HTTP/0.9"),
        HTTP_3_0=get(version=b"HTTP/3.0"),
    )  # fmt: skip
    yield from refused(
        "limits", 431,
        long_value=get(b"X: " + b"a" * 40_000),
        long_name=get(b"X" * 40_000 + b": a"),
        long_target=get(target=b"/" + b"a" * 40_000),
        many_fields=get(*(b"X: a",) * 101),
        ten_thousand_fields=get(*(b"X: a",) * 10_000),
        long_trailers=chunked(b"0\r\n" + b"A: b\r\n" * 2_000 + b"\r\n"),
        no_end=b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000,
    )  # fmt: skip
    yield from refused(
        "second request", 400,
        after_a_get=get() + get(b"X : a"),
        after_a_body=post(b"Content-Length: 4", body=b"abcd") + b"efgh\r\n\r\n",
        after_chunks=chunked(b"4\r\nabcd\r\n0\r\n\r\n") + b"0\r\n\r\n",
        after_too_short_a_length=post(b"Content-Length: 3", body=b"abcd\r\n\r\n"),
    )  # fmt: skip
    two = (GET, Seen("GET", "/hidden"))
    yield from passed(
        "passes",
        {
            "get": (get(), (GET,)),
            "query": (get(target=b"/?a=b&c=%20"), (Seen("GET", "/?a=b&c=%20"),)),
            "doubled slash": (get(target=b"//x/y"), (Seen("GET", "//x/y"),)),
            "dots": (get(target=b"/a/../b"), (Seen("GET", "/a/../b"),)),
            "URL of its host": (get(target=b"http://h/a?b"), (Seen("GET", "/a?b"),)),
            "URL in capitals": (get(target=b"HTTP://H/"), (GET,)),
            "URL without path": (get(target=b"http://h"), (GET,)),
            "URL with query only": (get(target=b"http://h?a=b"), (Seen("GET", "/?a=b"),)),
            "empty line before": (b"\r\n" + get(), (GET,)),
            "HTTP/1.0": (get(version=b"HTTP/1.0"), (GET,)),
            "HTTP/1.0 then more": (get(version=b"HTTP/1.0") + HIDDEN, (GET,)),
            "closing then more": (get(b"Connection: close") + HIDDEN, (GET,)),
            "closing, in capitals, then more": (get(b"CONNECTION: CLOSE") + HIDDEN, (GET,)),
            "pipelined": (get() + HIDDEN, two),
            "pipelined 20": (get() * 20, (GET,) * 20),
            "length": (post(b"Content-Length: 4", body=b"abcd"), (Seen("POST", "/", b"abcd"),)),
            "length 0": (post(b"Content-Length: 0"), (Seen("POST", "/"),)),
            "no length": (post(), (Seen("POST", "/"),)),
            "length with zeros": (post(b"Content-Length: 0004", body=b"abcd"), (Seen("POST", "/", b"abcd"),)),
            "length with spaces": (post(b"Content-Length:   4  ", body=b"abcd"), (Seen("POST", "/", b"abcd"),)),
            "length without space": (post(b"Content-Length:4", body=b"abcd"), (Seen("POST", "/", b"abcd"),)),
            "a request as a body": (
                post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN) + get(),
                (Seen("POST", "/", HIDDEN), GET),
            ),
            "get with a body": (
                b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + get(),
                (Seen("GET", "/", HIDDEN), GET),
            ),
            "chunked": (chunked(b"4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n"), (Seen("POST", "/", b"abcdefg"),)),
            "chunked, empty": (chunked(b"0\r\n\r\n"), (Seen("POST", "/"),)),
            "Chunked": (post(b"Transfer-Encoding: Chunked", body=b"1\r\na\r\n0\r\n\r\n"), (Seen("POST", "/", b"a"),)),
            "size with zeros": (chunked(b"0004\r\nabcd\r\n000\r\n\r\n"), (Seen("POST", "/", b"abcd"),)),
            "size in capitals": (chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), (Seen("POST", "/", b"0123456789"),)),
            "chunks then more": (chunked(b"4\r\nabcd\r\n0\r\n\r\n") + HIDDEN, (Seen("POST", "/", b"abcd"), two[1])),
            "a request in a chunk": (
                chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)) + get(),
                (Seen("POST", "/", HIDDEN), GET),
            ),
            "chunks in a chunk": (
                chunked(b"e\r\n0\r\n\r\n4\r\nabcd\r\n\r\n0\r\n\r\n"), (Seen("POST", "/", b"0\r\n\r\n4\r\nabcd\r\n"),),
            ),
            "trailers": (chunked(b"1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n") + get(), (Seen("POST", "/", b"a"), GET)),
            "coding with underscore": (
                post(b"Content-Length: 4", b"Transfer_Encoding: chunked", body=b"abcd"), (Seen("POST", "/", b"abcd"),),
            ),
            "length with underscore": (
                post(b"Content-Length: 4", b"Content_Length: 34", body=b"abcd") + HIDDEN,
                (Seen("POST", "/", b"abcd"), two[1]),
            ),
            "length that connection cannot hide": (
                post(b"Content-Length: 4", b"Connection: X-Content-Length", body=b"abcd"),
                (Seen("POST", "/", b"abcd"),),
            ),
            "almost a coding": (
                post(b"Content-Length: 4", b"X-Transfer-Encoding: chunked", body=b"abcd"),
                (Seen("POST", "/", b"abcd"),),
            ),
            "h2c": (
                get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA") + HIDDEN,
                two,
            ),
            "expect": (
                post(b"Content-Length: 4", b"Expect: 100-continue", body=b"abcd") + HIDDEN,
                (Seen("POST", "/", b"abcd"), two[1]),
            ),
            "a hundred fields": (get(*(b"X: a",) * 99), (GET,)),
            "bytes beyond ASCII in a value": (get(b"X: \xc3\xbc"), (GET,)),
            "tab in a value": (get(b"X: a\tb"), (GET,)),
            "empty value": (get(b"X:"), (GET,)),
        },
    )  # fmt: skip


CASES: Final = tuple(_cases())
