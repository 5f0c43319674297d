"""Refusals as a v1 cloud controller reads them: ``{code, description, error}`` with the numbers of its time.

The numbers are those of vcap-services-base, in ranges by HTTP status; from 31000 on they are a service's own. What
happened exactly is told by Harbor's code, in ``error``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from harbor.api.problem import FieldError, FieldsInvalid
from harbor.errors import HarborError

INVALID_CONTENT: Final = 30000
MALFORMED: Final = 30001
UNKNOWN_LABEL: Final = 30002
UNKNOWN_PLAN: Final = 30003
UNSUPPORTED_VERSION: Final = 30004
NOT_AUTHORIZED: Final = 30100
FORBIDDEN: Final = 30200
NOT_FOUND: Final = 30300
INTERNAL: Final = 30500
UNAVAILABLE: Final = 30600
CONFLICT: Final = 31000
NO_PORT: Final = 31001

BY_CODE: Final[Mapping[str, int]] = {
    "unsupported_media_type": INVALID_CONTENT,
    "label_unknown": UNKNOWN_LABEL,
    "plan_unknown": UNKNOWN_PLAN,
    "version_unknown": UNSUPPORTED_VERSION,
    "ports_exhausted": NO_PORT,
    "int_ports_exhausted": NO_PORT,
}
BY_STATUS: Final[Mapping[int, int]] = {
    401: NOT_AUTHORIZED,
    403: FORBIDDEN,
    404: NOT_FOUND,
    409: CONFLICT,
    422: CONFLICT,
    429: NOT_AUTHORIZED,
    500: INTERNAL,
    503: UNAVAILABLE,
}
# Where the protocol demands another status than Harbor's other surfaces give.
STATUS: Final[Mapping[str, int]] = {"unsupported_media_type": 400}


class Why(BaseModel):
    """The same in Harbor's words."""

    code: str = Field(description="stable, as everywhere in this API")
    errors: list[FieldError] | None = None


class GatewayError(BaseModel):
    """Why a cloud controller's request was refused."""

    code: int
    description: str
    error: Why


def refusal(error: HarborError, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that says why."""
    why: dict[str, Any] = {"code": error.code}
    if isinstance(error, FieldsInvalid):
        why["errors"] = [field.model_dump() for field in error.errors]
    body = {"code": _number(error), "description": error.message, "error": why}
    return JSONResponse(body, status_code=STATUS.get(error.code, error.status), headers=headers)


def _number(error: HarborError) -> int:
    return BY_CODE.get(error.code) or BY_STATUS.get(error.status, MALFORMED)
