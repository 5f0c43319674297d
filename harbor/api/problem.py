"""How a refusal leaves the API: RFC 9457 ``application/problem+json`` with a stable ``code``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pydantic
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from harbor.errors import HarborError
from harbor.policy.naming import shown

MEDIA_TYPE: Final = "application/problem+json"
SHOWN_ERRORS: Final = 20  # a body can hold thousands of unknown members; the first ones tell the story


class FieldError(BaseModel):
    """One field that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was refused; ``code`` is stable, ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | None = None


class FieldsInvalid(HarborError):
    """Members of the body or query that are wrong, each named."""

    code = "invalid"
    status = 400

    def __init__(self, errors: Sequence[FieldError]) -> None:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{errors[0].field}: {errors[0].message}{more}")
        self.errors = errors[:SHOWN_ERRORS]


def problem(error: HarborError, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that says why."""
    body = {
        "type": f"urn:harbor:error:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }
    if isinstance(error, FieldsInvalid):
        body["errors"] = [field.model_dump() for field in error.errors]
    return JSONResponse(body, status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def fields_invalid(exc: RequestValidationError | pydantic.ValidationError, known: Iterable[str] = ()) -> FieldsInvalid:
    """What pydantic found, with a suggestion for members that are none of ``known``."""
    known = tuple(known)
    return FieldsInvalid([_field_error(error, known) for error in exc.errors()])


def _field_error(error: Mapping[str, Any], known: tuple[str, ...]) -> FieldError:
    field = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path", "header")) or "body"
    if error["type"] == "extra_forbidden":
        return FieldError(field=_short(field), message=_unknown_member(field, known))
    field += error.get("ctx", {}).get("within", "")
    message = str(error["msg"])
    given = error.get("input")
    if error["type"] not in ("missing", "policy_invalid", "fixed") and isinstance(given, (str, int, float, list)):
        message = f"{message}, not {shown(given)}"
    return FieldError(field=_short(field), message=message)


def _unknown_member(field: str, known: tuple[str, ...]) -> str:
    """That there is no such member, and which one of ``known`` was probably meant."""
    within, dot, name = field.rpartition(".")
    close = difflib.get_close_matches(name[:80], known, n=1)
    return f"there is no such member; did you mean {within}{dot}{close[0]}?" if close else "there is no such member"


def _short(field: str) -> str:
    return field if len(field) <= 80 else f"{field[:79]}…"
