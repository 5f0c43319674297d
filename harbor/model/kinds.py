"""Kinds of settings: what a value may be, as JSON, as the value that the program uses, and as JSON Schema.

A setting is described once, by its kind; API, configuration, store and command line ask the kind.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import ipaddress
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

Step = str | int

LONGEST_SHOWN: Final = 60  # characters of a wrong value that are worth showing
REMEMBERED: Final = 32_768  # networks; a long list is checked several times on its way, for 50 ms each time


class Wrong(ValueError):
    """A value that a setting cannot have. ``at`` leads from the setting to the part of it that is meant."""

    def __init__(self, why: str, *at: Step) -> None:
        super().__init__(why)
        self.why = why
        self.at = at

    def within(self, step: Step) -> Wrong:
        """The same, as seen from what contains it."""
        return Wrong(self.why, step, *self.at)

    @property
    def path(self) -> str:
        """The way to the part that is meant, as it follows the name of what contains it: ``.size``, ``[0]``."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.at)

    def __str__(self) -> str:
        """The part that is meant, as a path, and why."""
        return f"{self.path.removeprefix('.')}: {self.why}" if self.at else self.why


class Kind(ABC):
    """What a setting may be."""

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value in its one JSON form. Errors: ``Wrong``."""

    def build(self, plain: Any) -> Any:
        """What the program uses, made of what ``check`` returned."""
        return plain

    def plain(self, built: Any) -> Any:
        """The JSON form of what ``build`` returned."""
        return built

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""


@dataclasses.dataclass(frozen=True)
class Number(Kind):
    """A number within bounds. The upper ones keep a typing error ("5000" meant as milliseconds) visible."""

    low: float
    high: float

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Wrong(f"{shown(value)} is not a number")
        return float(self._bounded(value))

    def _bounded(self, value: Any) -> Any:
        if value < self.low:
            raise Wrong(f"{shown(value)} is too low; the lowest is {self.low:.12g}")
        if value > self.high:
            raise Wrong(f"{shown(value)} is too high; the highest is {self.high:.12g}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


class Seconds(Number):
    """A duration."""


class Whole(Number):
    """A whole number within bounds."""

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"{shown(value)} is not a whole number")
        return self._bounded(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


class Size(Whole):
    """A number of bytes."""


class Flag(Kind):
    """True or false."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise Wrong(f"{shown(value)} is neither true nor false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclasses.dataclass(frozen=True)
class Text(Kind):
    """Text of a bounded length, without control characters unless ``any_character``."""

    longest: int
    any_character: bool = False

    def check(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise Wrong(f"{shown(value)} is not text")
        if len(value) > self.longest:
            raise Wrong(f"it is longer than {self.longest} characters")
        if not self.any_character and not value.isprintable():
            raise Wrong(f"{shown(value)} holds characters that cannot be printed")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.longest}


@dataclasses.dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    words: type[StrEnum]

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.values:
            close = difflib.get_close_matches(str(value)[:LONGEST_SHOWN].lower(), self.values, n=1)
            better = f"did you mean {close[0]}?" if close else f"there are {', '.join(self.values)}"
            raise Wrong(f"{shown(value)} is none of its values; {better}")
        return str(value)

    def build(self, plain: Any) -> Any:
        return self.words(plain)

    def plain(self, built: Any) -> Any:
        return built.value

    @property
    def values(self) -> tuple[str, ...]:
        """The words."""
        return tuple(word.value for word in self.words)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


@dataclasses.dataclass(frozen=True)
class Networks(Kind):
    """IP networks (RFC 4632), as ``ipaddress`` prints them; a lone address is a network of one."""

    most: int

    def check(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Wrong(f"{shown(value)} is not a list of networks")
        if len(value) > self.most:
            raise Wrong(f"it has more than {self.most} entries")
        return [self._one(number, text) for number, text in enumerate(value)]

    def _one(self, number: int, text: Any) -> str:
        try:
            if isinstance(text, str):
                return _network(text)
        except ValueError:
            pass
        raise Wrong(f"{shown(text)} is no network; write one like 10.0.0.0/8, or an address", number)

    def build(self, plain: Any) -> Any:
        return tuple(plain)

    def plain(self, built: Any) -> Any:
        return list(built)

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}, "maxItems": self.most}


@dataclasses.dataclass(frozen=True)
class Record(Kind):
    """An object whose members are settings themselves: a frozen dataclass all of whose fields are made by ``setting``.

    Members without a default have to be given; one whose default is None may be absent. What the members have to do
    with each other the dataclass checks when it is built, and raises ``Wrong``.
    """

    made: type[Any]

    @property
    def members(self) -> dict[str, Setting]:
        """The members by name; the first may stand alone on a command line."""
        return settings_of(self.made)

    def check(self, value: Any) -> Any:
        members = self.members
        if not isinstance(value, Mapping):
            raise Wrong(f"{shown(value)} is not an object; its members are {', '.join(members)}")
        plain: dict[str, Any] = {}
        for name, member in value.items():
            if name not in members:
                raise Wrong(f"there is no such member; {_meant(str(name), members)}", str(name)[:LONGEST_SHOWN])
            if member is not None:
                plain[name] = _checked_member(name, members[name].kind, member)
        for name in self._required():
            if name not in plain:
                raise Wrong("it is missing", name)
        self.build(plain)
        return plain

    def _required(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self.made) if field.default is dataclasses.MISSING]

    def build(self, plain: Any) -> Any:
        return self.made(**{name: self.members[name].kind.build(value) for name, value in plain.items()})

    def plain(self, built: Any) -> Any:
        values = {name: (member.kind, getattr(built, name)) for name, member in self.members.items()}
        return {name: kind.plain(value) for name, (kind, value) in values.items() if value is not None}

    def schema(self) -> dict[str, Any]:
        properties = {name: {"description": one.meaning, **one.kind.schema()} for name, one in self.members.items()}
        required = self._required()
        body = {"type": "object", "properties": properties, "additionalProperties": False}
        return body | {"required": required} if required else body


@dataclasses.dataclass(frozen=True)
class Setting:
    """A kind, and what the setting is for, as reference and ``--help`` tell it."""

    kind: Kind
    meaning: str


_SETTING: Final = "setting"


def setting(kind: Kind, meaning: str, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that is a setting; ``default`` is the value that the program uses."""
    return dataclasses.field(default=default, metadata={_SETTING: Setting(kind, meaning)})


def settings_of(made: type[Any]) -> dict[str, Setting]:
    """The settings of a dataclass by name, in their order."""
    return {field.name: field.metadata[_SETTING] for field in dataclasses.fields(made)}


def shown(value: Any) -> str:
    """A wrong value, cut to what is worth showing."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


@functools.lru_cache(REMEMBERED)
def _network(text: str) -> str:
    """A network in its one form. Errors: ValueError."""
    return str(ipaddress.ip_network(text, strict=False))


def _checked_member(name: str, kind: Kind, value: Any) -> Any:
    try:
        return kind.check(value)
    except Wrong as exc:
        raise exc.within(name) from None


def _meant(wrong: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(wrong[:LONGEST_SHOWN].lower(), names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
