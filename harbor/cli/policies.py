"""Options for the policy of a service: one for each field, made from its kind.

--idle-timeout 5m                     durations take s, m, h and d
--allow 10.0.0.0/8 --allow ::1        lists are repeated
--queue 100,timeout=5                 objects: the first member may go without its name
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from harbor.model.kinds import Choice, Flag, Kind, Networks, Number, Record, Seconds, Setting, Size, Whole
from harbor.model.policy import FIELDS

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MULTIPLES: Final = {"k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_DURATION: Final = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)([smhd]?)", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]+)(Ki|Mi|Gi|k|M|G|)", re.ASCII)


def policy_options(command: Command) -> Command:
    """An option for every field of the policy."""
    for name, policy in reversed(FIELDS.items()):
        command = policy_option(name, policy)(command)
    return command


def given(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The policy fields that were set on the command line, as the API has them."""
    return {name: value for name, value in policy.items() if value is not None}


def duration(text: str) -> float:
    """The seconds in ``90``, ``30s``, ``5m``, ``1h`` or ``7d``. Errors: ``ValueError``."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration; write seconds, or one like 30s, 5m, 1h, 7d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def shown(value: Any) -> str:
    """A policy's value on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={shown(member)}" for name, member in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "empty"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def policy_option(name: str, policy: Setting) -> Callable[[Command], Command]:
    """An option that takes what this setting can be."""
    kind, flag = policy.kind, "--" + name.replace("_", "-")
    words = policy.meaning.replace("`", "")
    if isinstance(kind, Flag):
        return click.option(f"{flag}/--no-{name.replace('_', '-')}", name, default=None, help=words)
    if isinstance(kind, Choice):
        return click.option(flag, name, type=click.Choice(kind.values), help=words)
    many = isinstance(kind, Networks | Record)
    return click.option(flag, name, multiple=many, metavar=_metavar(kind), callback=_reading(kind), help=words)


def _reading(kind: Kind) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def read(context: click.Context, parameter: click.Parameter, text: Any) -> Any:
        if text is None or text == ():
            return None
        try:
            if isinstance(kind, Record):
                return _members(kind, text)
            return list(text) if isinstance(kind, Networks) else _value(kind, text)
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx=context, param=parameter) from None

    return read


def _members(kind: Record, texts: tuple[str, ...]) -> dict[str, Any]:
    """The object in ``size=100,timeout=5``; quotes as in CSV keep a comma in a value."""
    members, found = kind.members, {}
    for number, part in enumerate(part for text in texts for part in next(csv.reader([text]))):
        name, equals, value = part.partition("=")
        if number == 0 and not equals:
            name, equals, value = next(iter(members)), "=", part
        if not equals or name not in members:
            raise ValueError(f"{part!r} is none of {_metavar(kind)}")
        found[name] = _value(members[name].kind, value)
    return found


def _value(kind: Kind, text: str) -> Any:
    """What the text stands for, in JSON. Bounds are the node's to check."""
    if isinstance(kind, Flag):
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text == "true"
    if isinstance(kind, Seconds):
        return duration(text)
    if isinstance(kind, Size):
        return _size(text)
    if isinstance(kind, Number):
        return _number(kind, text)
    return text


def _number(kind: Number, text: str) -> float:
    try:
        return int(text) if isinstance(kind, Whole) else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a {'whole ' if isinstance(kind, Whole) else ''}number") from None


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no number of bytes; write one like 65536, 64Ki, 500k, 10M")
    return int(found[1]) * _MULTIPLES.get(found[2], 1)


def _metavar(kind: Kind) -> str:
    if isinstance(kind, Record):
        return ",".join(f"{name}={_metavar(member.kind)}" for name, member in kind.members.items())
    if isinstance(kind, Choice):
        return "|".join(kind.values)
    names = {Seconds: "SECONDS", Size: "BYTES", Whole: "N", Number: "N", Networks: "NETWORK", Flag: "true|false"}
    return names.get(type(kind), "TEXT")
