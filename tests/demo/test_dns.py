"""The sample's DNS: what dig makes of it is in test_demo.py; here is what others may send."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from harbor.demo.dns import answer

WHOAMI = b"\6whoami\6harbor\4test\0"


def query(name: bytes = WHOAMI, kind: int = 16, flags: int = 0x0100, questions: int = 1, extra: bytes = b"") -> bytes:
    return struct.pack("!HHHHHH", 0xBEEF, flags, questions, 0, 0, 0) + name + struct.pack("!HH", kind, 1) + extra


def counts(reply: bytes | None) -> tuple[int, int, int]:
    """The code of the reply, and how many questions and answers it has."""
    assert reply is not None
    ident, flags, questions, answers = struct.unpack_from("!HHHH", reply)
    assert ident == 0xBEEF
    assert flags & 0x8000
    return flags & 0xF, questions, answers


def test_a_txt_question_gets_the_text_after_the_question_as_it_was_asked() -> None:
    asked = query(b"\6WhoAmI\0")
    reply = answer(asked, "dns-1")
    assert reply is not None
    assert counts(reply) == (0, 1, 1)
    assert reply[12:] == asked[12:] + b"\xc0\x0c\0\x10\0\1\0\0\0\0\0\6\5dns-1"


def test_options_behind_the_question_are_ignored() -> None:
    assert answer(query(extra=b"\0\0\x29\x04\xd0\0\0\0\0\0\0"), "dns-1") == answer(query(), "dns-1")


def test_another_type_gets_no_answer_but_a_reply() -> None:
    assert counts(answer(query(kind=1), "dns-1")) == (0, 1, 0)


def test_what_is_no_question_gets_an_error() -> None:
    assert counts(answer(query(b"\6whoami"), "dns-1")) == (1, 0, 0)
    assert counts(answer(query(b"\xc0\x0c"), "dns-1")) == (1, 0, 0)
    assert counts(answer(query(questions=2), "dns-1")) == (1, 0, 0)
    assert counts(answer(query(flags=0x2800), "dns-1")) == (4, 0, 0)


def test_answers_and_scraps_are_not_answered() -> None:
    assert answer(query(flags=0x8000), "dns-1") is None
    assert answer(query()[:11], "dns-1") is None


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda tail: query()[:12] + tail))
def test_nothing_that_is_sent_breaks_it(data: bytes) -> None:
    reply = answer(data, "dns-1")
    assert reply is None or reply[:2] == data[:2]
