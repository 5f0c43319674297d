"""How a refusal leaves the broker: ``{"error": ..., "description": ...}``, with the specification's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from harbor.api.problem import FieldsInvalid
from harbor.errors import HarborError

# Where the specification wants another status than the node's own: what cannot be done as things stand is 422; 409
# says that the id is in use for something else, 415 is not among its answers.
STATUS: Final = {"ports_exhausted": 422, "int_ports_exhausted": 422, "unsupported_media_type": 400}
GONE: Final = (404, 410)
PASSING: Final = ("concurrency_error", "quota_exceeded")  # what may be granted later, unchanged
SHOWN_FIELDS: Final = 5  # a description is for a person at a terminal


def refusal(error: HarborError, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that says why. An instance that was to be changed or deleted and was not is as usable as before."""
    status = STATUS.get(error.code, error.status)
    body: dict[str, Any] = {"error": _word(error.code), "description": _description(error)}
    if scope["method"] in ("PATCH", "DELETE") and "/service_bindings/" not in scope["path"] and status not in GONE:
        body["instance_usable"] = True
        if scope["method"] == "PATCH":
            body["update_repeatable"] = status >= 500 or error.code in PASSING
    return JSONResponse(body, status_code=status, headers=headers)


def _word(code: str) -> str:
    """``concurrency_error`` as the specification writes it: ``ConcurrencyError``."""
    return "".join(part.capitalize() for part in code.split("_"))


def _description(error: HarborError) -> str:
    if isinstance(error, FieldsInvalid):
        return "; ".join(f"{field.field}: {field.message}" for field in error.errors[:SHOWN_FIELDS])
    return error.message
