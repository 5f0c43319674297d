"""YAML text in, plain values out, with the line and column of each; hostile or ambiguous text is refused.

The tree is built from the parser's event stream, so that every cap applies before anything grows.

Rule 1: one document of mappings with text keys, sequences and scalars. No tags, anchors, aliases or merge keys:
        a configuration of this size repeats nothing, and they are what YAML bombs are made of.
Rule 2: a key stands once.
Rule 3: a plain scalar is a number, true, false or null where JSON would write it so, and text otherwise: ``no``,
        ``010`` and ``12:30`` are text, whatever YAML 1.1 made of them.
Rule 4: a key without a value is as good as absent: it keeps its default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

# A full harbor.yml is 4 KiB, 60 nodes, three levels deep. The caps leave room for long lists of networks and keep the
# pure-Python scanner under a second.
MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 10_000
MAX_DEPTH: Final = 16

Loc = tuple[str | int, ...]  # the way to a value: ("ports", "ranges", 0)

_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")
_WORDS: Final[dict[str, bool | None]] = {"": None, "~": None, "null": None, "true": True, "false": False}

# What the scanner says, and what it means to somebody who edits a file.
_SYNTAX: Final = (
    ("found character '\\t'", "a tab cannot indent; use spaces"),
    ("cannot start any token", "this character cannot start a value; put the value in quotes"),
    ("mapping values are not allowed", "a ':' is not allowed here; fix the indentation or put the value in quotes"),
    ("could not find expected ':'", "the line above or this one lacks a ':' after its key"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("while scanning a quoted scalar", "a quote is opened and never closed"),
    ("expected ',' or", "a ',' or the closing bracket is missing"),
)


class Position(NamedTuple):
    """Counted from 1, as editors do."""

    line: int
    column: int


class Problem(NamedTuple):
    """One fault of the file and where it stands."""

    position: Position
    message: str


@dataclass(slots=True)
class Document:
    """``values`` is None where the text could not be read to its end; ``problems`` then says why."""

    values: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    keys: dict[Loc, Position] = field(default_factory=dict)
    positions: dict[Loc, Position] = field(default_factory=dict)

    def where(self, loc: Loc) -> Position:
        """Where the value at ``loc`` stands, or else the nearest thing that contains it."""
        while loc and loc not in self.positions:
            loc = loc[:-1]
        return self.positions.get(loc, Position(1, 1))


def read(text: str) -> Document:
    """The document in ``text``; every fault found stands in its ``problems``."""
    document = Document()
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        document.problems.append(Problem(Position(1, 1), f"the file is larger than {MAX_BYTES >> 20} MiB"))
        return document
    try:
        document.values = _Reading(document, yaml.parse(text, Loader=yaml.SafeLoader)).root()
    except _Hopeless as fault:
        document.problems.append(fault.problem)
    except yaml.reader.ReaderError as fault:
        document.problems.append(_unprintable(text, fault))
    except yaml.MarkedYAMLError as fault:
        document.problems.append(_syntax(fault))
    return document


class _Hopeless(Exception):
    """Reading on would be pointless or dangerous."""

    def __init__(self, mark: Any, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(_position(mark), message)


_ABSENT: Final[Any] = object()


class _Reading:
    """One pass over the events of a document."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self._document = document
        self._events = events
        self._nodes = 0

    def root(self) -> dict[str, Any]:
        next(self._events)  # stream start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return {}
        event = next(self._events)
        values = self._value(event, ())
        if values is not _ABSENT and not isinstance(values, dict):
            raise _Hopeless(event.start_mark, "the file must be a mapping of keys like 'node:' and 'ports:'")
        next(self._events)  # document end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Hopeless(after.start_mark, "a second document starts here; the configuration is one document")
        return {} if values is _ABSENT else values

    def _value(self, event: Any, loc: Loc) -> Any:
        self._count(event, loc)
        self._document.positions[loc] = _position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, "aliases (*name) are not allowed; write the value out")
            return _ABSENT
        if event.anchor is not None:
            self._refuse(event, "anchors (&name) are not allowed; write each value where it is used")
        if event.tag is not None:
            self._refuse(event, "tags (!name) are not allowed; write a plain value")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(loc)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(loc)
        value = _plain(event.value) if event.implicit[0] and event.style is None else event.value
        return _ABSENT if value is None else value

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._key(event, loc)
            known = (*loc, name) in self._document.keys
            if known:
                first = self._document.keys[*loc, name].line
                self._refuse(event, f"{name!r} stands here a second time; the first is on line {first}")
            else:
                self._document.keys[*loc, name] = _position(event.start_mark)
            value = self._value(next(self._events), (*loc, name, "again") if known else (*loc, name))
            if value is not _ABSENT and not known:
                values[name] = value
        return values

    def _key(self, event: Any, loc: Loc) -> str:
        self._count(event, loc)
        if not isinstance(event, yaml.ScalarEvent):
            raise _Hopeless(event.start_mark, "a key must be a word; this is a list, a mapping or an alias")
        if event.anchor is not None or event.tag is not None:
            self._refuse(event, "a key can have neither tag nor anchor")
        if event.style is None:
            if event.value == "<<":
                raise _Hopeless(event.start_mark, "merge keys (<<) are not allowed; write the values out")
            if not isinstance(_plain(event.value), str):
                raise _Hopeless(event.start_mark, f"{event.value!r} is not a key; keys are words like 'node'")
        return str(event.value)

    def _sequence(self, loc: Loc) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            value = self._value(event, (*loc, len(values)))
            if value is not _ABSENT:
                values.append(value)
        return values

    def _count(self, event: Any, loc: Loc) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Hopeless(event.start_mark, f"the file holds more than {MAX_NODES} values")
        if len(loc) > MAX_DEPTH:
            raise _Hopeless(event.start_mark, f"the file is nested more than {MAX_DEPTH} levels deep")

    def _refuse(self, event: Any, message: str) -> None:
        self._document.problems.append(Problem(_position(event.start_mark), message))


def _plain(text: str) -> str | int | float | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _unprintable(text: str, fault: yaml.reader.ReaderError) -> Problem:
    before = text[: fault.position]
    position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
    return Problem(position, f"the character U+{ord(text[fault.position]):04X} cannot stand in YAML")


def _syntax(fault: yaml.MarkedYAMLError) -> Problem:
    mark = fault.problem_mark or fault.context_mark
    said = f"{fault.context} {fault.problem}"
    meaning = next((words for sign, words in _SYNTAX if sign in said), f"not valid YAML: {fault.problem}")
    return Problem(_position(mark) if mark else Position(1, 1), meaning)
