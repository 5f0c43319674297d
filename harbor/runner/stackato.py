"""``stackato.yml``: what an app says about itself. Only what concerns ``harbor run`` is read.

    name: port-test
    instances: 2
    processes: {web: node app.js}     # or: command: node app.js
    env: {LOG_LEVEL: debug}
    services:
      my-port: harbor
      udp-${name}: {type: harbor, plan: udp}

``${name}`` is the app's name, in the names of services, in the command and in values of ``env``. The text is read as
``harbor.yml`` is: hostile or ambiguous YAML is refused, and each fault is told with line and column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from harbor.config import document
from harbor.config.document import Document, Loc, Problem
from harbor.errors import ConfigInvalid, Invalid
from harbor.policy.naming import PLANS, check_name, shown
from harbor.runner.words import split

T = TypeVar("T")

FILE: Final = "stackato.yml"
HARBOR: Final = "harbor"  # the type of service that a node provides
MOST_INSTANCES: Final = 100  # on one machine; more are a slip of the finger
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
SERVICE_KEYS: Final = {"type", "plan"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service that an app wants. ``plan`` only matters if it has to be made."""

    name: str
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What the file says. ``others`` are services that no Harbor node provides."""

    name: str | None = None
    command: tuple[str, ...] = ()
    instances: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    services: tuple[Wanted, ...] = ()
    others: tuple[str, ...] = ()


def read(path: Path, app: str | None, folder: str | None) -> Declared | None:
    """What the file declares; None if there is no such file. The app's name: ``app``, the file's, else ``folder``.

    Errors: ``ConfigInvalid`` with a line like ``stackato.yml:3:5: services.my-port: ...`` for each fault.
    """
    try:
        with path.open("rb") as file:
            data = file.read(document.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid([f"{path}: cannot be read: {error.strerror}"]) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigInvalid([f"{path}: is not UTF-8 text (byte {error.start + 1})"]) from error
    return parse(text, path.name, app, folder)


def parse(text: str, source: str, app: str | None = None, folder: str | None = None) -> Declared:
    """The same from text."""
    found = document.read(text)
    reading = _Reading(found, app, folder)
    declared = Declared() if found.values is None else reading.declared(found.values)
    if found.problems:
        raise ConfigInvalid([f"{source}:{at.line}:{at.column}: {message}" for at, message in sorted(found.problems)])
    return declared


class _Reading:
    """One pass over the values; faults are added to the document's problems."""

    def __init__(self, document: Document, app: str | None, folder: str | None) -> None:
        self._document = document
        self._app = app
        self._folder = folder

    def declared(self, values: Mapping[str, Any]) -> Declared:
        name = self._name(values.get("name"))
        self._app = self._app or name or self._folder
        services = list(self._services(self._mapping(values, "services")))
        return Declared(
            name,
            self._command(values),
            self._instances(values.get("instances")),
            dict(self._env(self._mapping(values, "env"))),
            tuple(wanted for wanted, type_ in services if type_ == HARBOR),
            tuple(f"{wanted.name}: {type_}" for wanted, type_ in services if type_ != HARBOR),
        )

    def _name(self, value: Any) -> str | None:
        return None if value is None else self._checked(("name",), lambda: check_name(_text(value), "app name"))

    def _command(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """``processes.web`` wins, as it did; ``command`` is the older way to say it."""
        processes = self._mapping(values, "processes")
        loc: Loc = ("processes", "web") if "web" in processes else ("command",)
        value = processes.get("web", values.get("command"))
        if value is None:
            return ()
        if isinstance(value, list):
            words = [((*loc, n), word) for n, word in enumerate(value)]
            return tuple(self._expanded(at, _text(word)) for at, word in words if self._is_text(at, word))
        return self._checked(loc, lambda: split(self._expanded(loc, _text(value)))) or ()

    def _instances(self, value: Any) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_INSTANCES:
            self._fault(("instances",), f"{shown(value)} is no number of instances; use 1 to {MOST_INSTANCES}")
            return None
        return value

    def _env(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name, value in values.items():
            loc = ("env", name)
            if VARIABLE.fullmatch(name) is None:
                self._fault(loc, f"{shown(name)} is no name for a variable: use letters, digits and '_'")
            elif isinstance(value, dict):  # Stackato: default, required, hidden ...
                if value.get("default") is not None and self._is_text(loc, value["default"]):
                    yield name, self._expanded(loc, _text(value["default"]))
            elif self._is_text(loc, value):
                yield name, self._expanded(loc, _text(value))

    def _services(self, values: Mapping[str, Any]) -> Iterator[tuple[Wanted, str]]:
        for key, value in values.items():
            loc = ("services", key)
            type_ = value.get("type") if isinstance(value, dict) else value
            if not isinstance(type_, str):
                self._fault(loc, f"{shown(key)} needs a type; write: {key}: harbor")
                continue
            plan = value.get("plan") if isinstance(value, dict) else None
            name = self._service_name(loc, key)
            if type_ == HARBOR:
                if isinstance(value, dict) and (unknown := sorted(set(value) - SERVICE_KEYS)):
                    self._fault((*loc, unknown[0]), f"there is no {shown(unknown[0])}; there are type and plan")
                if plan is not None and plan not in PLANS:
                    self._fault((*loc, "plan"), f"there is no plan {shown(plan)}; there are {', '.join(PLANS)}")
            if name is not None:
                yield Wanted(name, plan), type_

    def _service_name(self, loc: Loc, key: str) -> str | None:
        faults = len(self._document.problems)
        name = self._expanded(loc, key)
        if len(self._document.problems) > faults:
            return None
        return self._checked(loc, lambda: check_name(name))

    def _mapping(self, values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = values.get(key, {})
        if isinstance(value, dict):
            return value
        self._fault(
            (key,), f"{shown(value)} is no section; write what belongs to it indented below, like 'name: value'"
        )
        return {}

    def _expanded(self, loc: Loc, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] == "name" and self._app is not None:
                return self._app
            # In a command others may mean something: ${PORT} is replaced when an instance starts.
            if loc[0] == "services":
                reason = "the app has no name; add name: at the top" if match[1] == "name" else "there is only ${name}"
                self._fault(loc, f"{match[0]} has no value: {reason}")
            return match[0]

        return PLACEHOLDER.sub(value, text)

    def _is_text(self, loc: Loc, value: Any) -> bool:
        if isinstance(value, str | int | float) and "\0" not in str(value):
            return True
        self._fault(loc, f"{shown(value)} is no text; write text, in quotes if it is unusual")
        return False

    def _checked(self, loc: Loc, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Invalid as error:
            self._fault(loc, error.message)
        except ValueError as error:
            self._fault(loc, str(error))
        return None

    def _fault(self, loc: Loc, message: str) -> None:
        # What is wrong with a name stands where the name does.
        at = self._document.keys.get(loc) if loc[0] in ("services", "env") and len(loc) == 2 else None
        path = ".".join(map(str, loc))
        path = path if len(path) <= 80 and path.isprintable() else str(loc[0])
        self._document.problems.append(Problem(at or self._document.where(loc), f"{path}: {message}"))


def _text(value: Any) -> str:
    """A scalar as text: true and numbers as they would be written."""
    return str(value).lower() if isinstance(value, bool) else str(value)
