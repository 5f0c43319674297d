"""The headers of a platform's request: which version it speaks, for whom it asks, which request this is."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from starlette.types import Message, Scope, Send

from harbor.api.strict_json import read_json
from harbor.errors import HarborError, Invalid
from harbor.policy.naming import shown

VERSION: Final = b"x-broker-api-version"
ORIGINATING_IDENTITY: Final = b"x-broker-api-originating-identity"
REQUEST_IDENTITY: Final = b"x-broker-api-request-identity"

# 2.13 brought schemas, the context of bindings and the originating identity; no platform in use is older.
MAJOR: Final = 2
LEAST_MINOR: Final = 13
SPOKEN: Final = "2.17"
LONGEST_IDENTITY: Final = 2048  # bytes, decoded; it is kept with every event
LONGEST_REQUEST: Final = 255  # a GUID is recommended
LONGEST_PLATFORM: Final = 63

_VERSION: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_PRINTABLE: Final = re.compile(rb"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")

Headers = Iterable[tuple[bytes, bytes]]


def check_version(headers: Headers) -> None:
    """Return if the platform speaks a version that this broker knows. Errors: 412 (``api_version_unsupported``)."""
    given = _values(headers, VERSION)
    if len(given) == 1:
        match = _VERSION.fullmatch(given[0].decode("latin-1"))
        if match and int(match[1]) == MAJOR and int(match[2]) >= LEAST_MINOR:
            return
    said = f"not {shown(b', '.join(given).decode('latin-1'))}" if given else "which is missing"
    raise HarborError(
        f"this broker speaks version {SPOKEN} of the Open Service Broker API and understands {MAJOR}.{LEAST_MINOR} and "
        f"every later {MAJOR}.x; send one of them as X-Broker-API-Version, {said}",
        code="api_version_unsupported",
        status=412,
    )


def originating_identity(headers: Headers) -> dict[str, Any] | None:
    """Who asks, as the platform knows them: ``{"platform": ..., "value": {...}}``; None if it does not say.

    Errors: ``Invalid`` (``identity_invalid``).
    """
    given = _values(headers, ORIGINATING_IDENTITY)
    if not given:
        return None
    platform, _, encoded = given[0].decode("latin-1").partition(" ")
    if len(given) > 1 or not 0 < len(platform) <= LONGEST_PLATFORM or not platform.isprintable():
        raise _identity_invalid("it is not one platform's name, a blank and a value")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise _identity_invalid("its value is not Base64") from None
    if len(decoded) > LONGEST_IDENTITY:
        raise _identity_invalid(f"its value is longer than {LONGEST_IDENTITY} bytes")
    try:
        value = read_json(decoded)
    except Invalid as exc:
        raise _identity_invalid(exc.message) from None
    if not isinstance(value, dict):
        raise _identity_invalid("its value is not a JSON object")
    return {"platform": platform, "value": value}


def request_identity(headers: Headers) -> bytes | None:
    """What the response must carry again; None where nothing was given that a header could hold."""
    given = _values(headers, REQUEST_IDENTITY)
    if len(given) == 1 and len(given[0]) <= LONGEST_REQUEST and _PRINTABLE.fullmatch(given[0]):
        return given[0]
    return None


def noted(headers: Headers) -> dict[str, Any]:
    """What the events that come of a request tell besides. Errors: as ``originating_identity``."""
    identity, request = originating_identity(headers), request_identity(headers)
    return {
        **({} if identity is None else {"originating_identity": identity}),
        **({} if request is None else {"request_identity": request.decode("ascii")}),
    }


def echoing(scope: Scope, send: Send) -> Send:
    """``send``, with the request's identity put on the response."""
    identity = request_identity(scope["headers"])
    if identity is None:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (REQUEST_IDENTITY, identity)]}
        await send(message)

    return sending


def _values(headers: Headers, name: bytes) -> Sequence[bytes]:
    return [value for key, value in headers if key == name]


def _identity_invalid(why: str) -> Invalid:
    return Invalid(
        f"X-Broker-API-Originating-Identity cannot be read: {why}; send the platform's name, a blank and a JSON object "
        "in Base64",
        code="identity_invalid",
    )
