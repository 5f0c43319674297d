"""Kinds of settings: each value in one JSON form, and every wrong one told with the part that is meant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from harbor.model import Policy
from harbor.model.kinds import (
    Choice,
    Flag,
    Kind,
    Networks,
    Number,
    Record,
    Seconds,
    Size,
    Text,
    Whole,
    Wrong,
    setting,
)
from harbor.model.policy import FIELDS


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True, slots=True)
class Line:
    """How many may wait, and how long."""

    size: int = setting(Whole(1, 100), "How many.")
    timeout: float = setting(Seconds(0, 60), "How long.", 5.0)
    colour: Colour | None = setting(Choice(Colour), "Of what colour.", None)

    def __post_init__(self) -> None:
        if self.size == 13:
            raise Wrong("13 brings bad luck", "size")


LINE = Record(Line)
GOOD: list[tuple[Kind, Any, Any, Any]] = [
    (Number(0, 9), 3, 3.0, 3.0),
    (Seconds(0, 9), 0, 0.0, 0.0),
    (Whole(0, 9), 9, 9, 9),
    (Size(0, 1 << 30), 65536, 65536, 65536),
    (Flag(), False, False, False),
    (Text(5), "a\xe9", "a\xe9", "a\xe9"),
    (Text(5, any_character=True), "\r\n\0", "\r\n\0", "\r\n\0"),
    (Choice(Colour), "red", "red", Colour.RED),
    (Choice(Colour), Colour.RED, "red", Colour.RED),
    (Networks(2), ["10.1.2.3/8", "::1"], ["10.0.0.0/8", "::1/128"], ("10.0.0.0/8", "::1/128")),
    (LINE, {"size": 3}, {"size": 3}, Line(3, 5.0)),
    (
        LINE,
        {"size": 3, "timeout": 1, "colour": "green"},
        {"size": 3, "timeout": 1.0, "colour": "green"},
        Line(3, 1.0, Colour.GREEN),
    ),
    (LINE, {"size": 3, "colour": None}, {"size": 3}, Line(3)),
]
BAD: list[tuple[Kind, Any, str]] = [
    (Number(0, 9), "3", "'3' is not a number"),
    (Number(0, 9), True, "True is not a number"),
    (Number(0, 9), float("nan"), "nan is not a number"),
    (Number(0, 9), float("inf"), "inf is not a number"),
    (Number(0.5, 9), 0, "0 is too low; the lowest is 0.5"),
    (Whole(0, 9), 10, "10 is too high; the highest is 9"),
    (Whole(0, 9), 1.0, "1.0 is not a whole number"),
    (Whole(0, 9), False, "False is not a whole number"),
    (Flag(), 1, "1 is neither true nor false"),
    (Text(5), b"a", "b'a' is not text"),
    (Text(5), "abcdef", "it is longer than 5 characters"),
    (Text(5), "a\x1b", "'a\\x1b' holds characters that cannot be printed"),
    (Choice(Colour), "Gren", "'Gren' is none of its values; did you mean green?"),
    (Choice(Colour), [], "a list is none of its values; there are red, green"),
    (Networks(2), "10.0.0.0/8", "'10.0.0.0/8' is not a list of networks"),
    (Networks(1), ["::", "::"], "it has more than 1 entries"),
    (Networks(2), ["::", "10.0.0.0/33"], "[1]: '10.0.0.0/33' is no network; write one like 10.0.0.0/8, or an address"),
    (Networks(2), [167772160], "[0]: 167772160 is no network; write one like 10.0.0.0/8, or an address"),
    (LINE, [], "a list is not an object; its members are size, timeout, colour"),
    (LINE, {}, "size: it is missing"),
    (LINE, {"size": 3, "time_out": 1}, "time_out: there is no such member; did you mean timeout?"),
    (LINE, {"size": 0}, "size: 0 is too low; the lowest is 1"),
    (LINE, {"size": 13}, "size: 13 brings bad luck"),
    (LINE, {"size": 3, "colour": "x" * 99}, "colour: " + repr("x" * 99)[:60] + "... is none of its values; "),
]


@pytest.mark.parametrize(("kind", "given", "plain", "built"), GOOD)
def test_a_good_value_has_one_json_form_and_comes_back_from_it(kind: Kind, given: Any, plain: Any, built: Any) -> None:
    checked = kind.check(given)
    assert (checked, json.loads(json.dumps(checked))) == (plain, plain)
    assert kind.build(checked) == built
    assert kind.check(kind.plain(built)) == kind.plain(built)
    assert kind.build(kind.plain(built)) == built


@pytest.mark.parametrize(("kind", "given", "why"), BAD)
def test_a_wrong_value_is_told_with_the_part_that_is_meant(kind: Kind, given: Any, why: str) -> None:
    with pytest.raises(Wrong) as caught:
        kind.check(given)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("name", FIELDS)
def test_every_policy_has_a_meaning_and_a_default_that_its_kind_knows(name: str) -> None:
    default = getattr(Policy(), name)
    assert FIELDS[name].meaning.endswith(".")
    if default is not None:
        kind = FIELDS[name].kind
        assert kind.build(kind.check(kind.plain(default))) == default
