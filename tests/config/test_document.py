"""From YAML text to values and positions; what is hostile or ambiguous is refused where it stands."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from harbor.config import document
from harbor.config.document import Position


def problem(text: str) -> tuple[Position, str]:
    """The one problem of ``text``."""
    [found] = document.read(text).problems
    return found


def test_values_and_where_they_stand() -> None:
    read = document.read("a: 1\nb:\n  c: [x, 2.5]\n  d: {e: true}\n")
    assert read.problems == []
    assert read.values == {"a": 1, "b": {"c": ["x", 2.5], "d": {"e": True}}}
    assert read.where(("b", "c", 1)) == (3, 10)
    assert read.keys["b", "d", "e"] == (4, 7)


def test_a_value_that_is_absent_stands_where_its_section_stands() -> None:
    read = document.read("\na:\n  b: 1\n")
    assert read.where(("a", "missing", 3)) == (3, 3)
    assert read.where(("nothing",)) == (2, 1)


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "---\n", "null", "~", "{}"])
def test_a_file_that_says_nothing_is_empty(text: str) -> None:
    assert document.read(text).values == {}
    assert document.read(text).problems == []


def test_a_key_without_a_value_is_absent() -> None:
    assert document.read("a:\nb: ~\nc: null\nd: ''\n").values == {"d": ""}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("7", 7),
        ("-7", -7),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("no", "no"),
        ("off", "off"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("2026-01-31", "2026-01-31"),
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1:7070", "127.0.0.1:7070"),
        ("'7'", "7"),
        ('"true"', "true"),
        ("9" * 400, "9" * 400),
        ("1e999", "1e999"),
    ],
)
def test_a_word_is_a_number_only_where_json_would_say_so(written: str, meant: object) -> None:
    value = document.read(f"a: {written}").values
    assert value == {"a": meant}
    assert type(value["a"]) is type(meant)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("a: 1\nb: 2\na: 3", (3, 1), "'a' stands here a second time; the first is on line 1"),
        ("a: {x: 1, x: {y: 2}}", (1, 11), "'x' stands here a second time"),
        ("a: !!python/object/apply:os.system [ls]", (1, 4), "tags (!name) are not allowed"),
        ("a: !!str 1", (1, 4), "tags"),
        ("a: ! x", (1, 4), "tags"),
        ("a: &x 1", (1, 4), "anchors (&name) are not allowed"),
        ("a: *x", (1, 4), "aliases (*name) are not allowed"),
        ("a: 1\n<<: {b: 2}", (2, 1), "merge keys (<<) are not allowed"),
        ("1: x", (1, 1), "'1' is not a key"),
        ("true: x", (1, 1), "'true' is not a key"),
        ("? [a]\n: x", (1, 3), "a key must be a word"),
        ("- a\n- b", (1, 1), "must be a mapping"),
        ("just words", (1, 1), "must be a mapping"),
        ("a: 1\n---\nb: 2", (2, 1), "a second document starts here"),
        ("a:\n\tb: 1", (2, 1), "a tab cannot indent"),
        ("a: @x", (1, 4), "put the value in quotes"),
        ("a: b: c", (1, 5), "a ':' is not allowed here"),
        ("a:\n  b: 1\n c: 2", (3, 2), "the indentation does not fit"),
        ("a: [1, 2", (1, 9), "closing bracket is missing"),
        ("a: 'x", (1, 6), "a quote is opened and never closed"),
        ("a: 1\nb: \x00", (2, 4), "U+0000 cannot stand in YAML"),
        ("a: \x1b[2J", (1, 4), "U+001B cannot stand in YAML"),
    ],
)
def test_F09_what_a_configuration_needs_not_is_refused_where_it_stands(
    text: str, position: tuple[int, int], words: str
) -> None:
    found, message = problem(text)
    assert found == position
    assert words in message


def test_F09_a_bomb_of_aliases_never_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    read = document.read("\n".join(lines))
    assert read.values is not None
    assert sum(len(value) for value in read.values.values()) == 9
    assert len(read.problems) == 10 + 9 * 9


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "- " * 100_000, "a: " + "{b: " * 100_000])
def test_F09_depth_is_capped_long_before_the_stack(text: str) -> None:
    assert "nested more than 16 levels deep" in problem(text)[1]


@pytest.mark.parametrize("text", ["a: [" + "1," * 100_000 + "]", "\n".join(f"k{n}: 1" for n in range(100_000))])
def test_F09_the_number_of_values_is_capped(text: str) -> None:
    assert "holds more than 10000 values" in problem(text)[1]


def test_F09_the_size_is_capped_in_bytes() -> None:
    assert document.read("#" * document.MAX_BYTES).problems == []
    assert problem("#" * (document.MAX_BYTES + 1)) == ((1, 1), "the file is larger than 1 MiB")
    assert problem("#" + "é" * (document.MAX_BYTES // 2)) == ((1, 1), "the file is larger than 1 MiB")


@given(st.text(st.sampled_from("ab1:-[]{}?,'\"&*!|>%@`#~<\t\n \x00é\ud800"), max_size=60))
@example("\ufeffa: 1")
def test_F09_no_text_raises(text: str) -> None:
    read = document.read(text)
    assert (read.values is None) <= bool(read.problems)


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


_LEAVES = st.integers(-(10**15), 10**15) | st.booleans() | st.text("abc: -#'\"é", max_size=8)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(_TREES)
def test_what_a_yaml_writer_writes_is_read_back(value: object) -> None:
    read = document.read(yaml.dump({"key": value}, Dumper=_NoAliases, allow_unicode=True))
    assert read.problems == []
    assert read.values == {"key": value}
