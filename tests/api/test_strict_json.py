from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.api.strict_json import MAX_BODY, MAX_DEPTH, read_json
from harbor.errors import Invalid

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_json_can_say_is_read_as_it_was_meant(value: object) -> None:
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value
    assert read_json(json.dumps(value, ensure_ascii=True).encode()) == value


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "empty"),
        (b"   ", "Expecting value"),
        (b"{", "line 1 column 2"),
        (b'{"a": 1,}', "line 1"),
        (b"{'a': 1}", "line 1 column 2"),
        (b'{"a": 1} x', "Extra data"),
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "byte order mark"),
        ('{"a": 1}'.encode("utf-16-le"), "line 1"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": Infinity}', "Infinity is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999999}', "out of range"),
        (b'{"a": -1e999999}', "out of range"),
        (b'{"a": ' + b"9" * 20 + b"}", "digits"),
        (b'{"a": -' + b"9" * 60_000 + b"}", "digits"),
        (b'{"a": ' + b"9" * 60_000 + b".5}", "out of range"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' appears twice"),
        (b'{"x": {"a": 1, "\\u0061": 1}}', "'a' appears twice"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deeper than 32"),
        (b"[" * 10_000, "deeper than 32"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "deeper than 32"),
        (b'"' + b'\\"' * 30_000, "Unterminated string"),
        (b'"' + b'\\"' * 30_000 + b"\\", "Unterminated string"),
        (b'"a" ' * 15_000, "Extra data"),
        (b'{"a": "line\nbreak"}', "control character"),
        (b'{"a": "\x00"}', "control character"),
    ],
)
def test_F08_what_two_parsers_could_read_differently_is_refused(body: bytes, complaint: str) -> None:
    assert len(body) <= MAX_BODY
    with pytest.raises(Invalid) as caught:
        read_json(body)
    assert caught.value.code == "json_invalid"
    assert complaint in caught.value.message
    assert len(caught.value.message) < 300


def test_brackets_inside_strings_do_not_nest() -> None:
    value = ["[" * 100 + '\\"{' * 50, {"[[": "\\"}]
    assert read_json(json.dumps(value).encode()) == value


def test_the_deepest_nesting_that_is_allowed_is_read() -> None:
    assert json.dumps(read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)).count("[") == MAX_DEPTH


def test_whole_surrogate_pairs_are_text() -> None:
    assert read_json(b'"\\ud83d\\udea2"') == "🚢"
