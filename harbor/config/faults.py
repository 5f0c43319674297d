"""From pydantic's findings to one readable line per fault, with the place in the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from harbor.config.document import Document, Loc, Problem
from harbor.config.settings import Config

_LONGEST: Final = 60  # characters of a wrong value that are worth showing
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Each fault that pydantic found, in our words, where it stands."""
    found = error.errors(include_url=False)
    return [_problem(fault, document) for fault in found if not _is_echo(fault)]


def _is_echo(fault: ErrorDetails) -> bool:
    """A list of nothing but wrong entries counts as empty for pydantic; the entries have been reported."""
    return fault["type"] == "too_short" and bool(fault["input"])


def _problem(found: ErrorDetails, document: Document) -> Problem:
    context = found.get("ctx", {})
    loc: Loc = (*found["loc"], *context.get("at", ()))
    position = document.keys.get(loc) if found["type"] == "extra_forbidden" else None
    return Problem(position or document.where(loc), f"{path_text(loc)}: {_words(found, loc, context)}")


def path_text(loc: Loc) -> str:
    """``ports.ranges[0]``; keys that are not plain words are quoted, so that they can forge nothing."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _WORD.fullmatch(step) else _short(step))
    return text


def _words(found: ErrorDetails, loc: Loc, context: Mapping[str, Any]) -> str:
    kind, value = found["type"], _shown(found["input"], loc)
    match kind:
        case "refused":
            return str(context["message"])
        case "extra_forbidden":
            return f"no such key; {_suggestion(str(loc[-1]), _keys_of(_section(loc[:-1])))}"
        case "missing":
            return "is missing; give it a value, or remove the section"
        case "enum" | "literal_error":
            return f"{value} is none of its values; {_suggestion(str(found['input']), _choices(context))}"
        case "string_type" | "path_type":
            return f"{value} is not text; write text, in quotes if it looks like a number"
        case "int_type" | "int_from_float":
            return f"{value} is not a whole number"
        case "float_type" | "finite_number":
            return f"{value} is not a number"
        case "greater_than_equal":
            return f"{value} is too low; the lowest is {context['ge']:g}"
        case "less_than_equal":
            return f"{value} is too high; the highest is {context['le']:g}"
        case "tuple_type":
            return f"{value} is not a list; write it like [{_shown_in_list(found['input'])}]"
        case "model_type" | "model_attributes_type":
            return f"{value} is not a section; its keys are {', '.join(_keys_of(_section(loc)))}"
        case "string_too_short" | "too_short":
            return "is empty; list at least one" if isinstance(found["input"], list) else "is empty"
        case "too_long":
            return f"has more than {context['max_length']} entries"
    return found["msg"]


def _suggestion(wrong: str, right: list[str]) -> str:
    close = difflib.get_close_matches(wrong.lower(), right, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(right)}"


def _choices(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(context["expected"]))


def _shown(value: Any, loc: Loc) -> str:
    if _is_secret(loc):
        return "this"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    return _short(value)


def _shown_in_list(value: Any) -> str:
    return "..." if isinstance(value, dict | list) else _short(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _annotation(loc: Loc) -> Any:
    """What the model declares at ``loc``; None where it declares nothing."""
    kind: Any = Config
    for step in loc:
        section = next((part for part in _parts(kind) if _is_section(part)), None)
        if section is None or (isinstance(step, str) and step not in section.model_fields):
            return None
        if isinstance(step, str):
            kind = section.model_fields[step].annotation
    return kind


def _parts(kind: Any) -> Iterator[Any]:
    """The type, and those that it is made of: members of a union, entries of a list."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _section(loc: Loc) -> type[BaseModel] | None:
    return next((part for part in _parts(_annotation(loc)) if _is_section(part)), None)


def _keys_of(section: type[BaseModel] | None) -> list[str]:
    return list(section.model_fields) if section else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_secret(loc: Loc) -> bool:
    return SecretStr in _parts(_annotation(loc))
