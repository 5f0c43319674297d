"""What requests may say: strict bodies read by the one JSON reader, query strings without surprises.

Every body refuses unknown members and wrong types: ``"80"`` is not a port, ``true`` is not a number.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Query, Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harbor.api.problem import fields_invalid
from harbor.api.strict_json import MAX_BODY, MAX_POLICY, read_json
from harbor.config.values import address_text
from harbor.errors import HarborError
from harbor.model import Exposure, Protocol, ServiceWish, Tls
from harbor.model.kinds import Setting, Wrong
from harbor.model.policy import FIELDS
from harbor.model.server_names import MOST_NAMES
from harbor.model.service import MOST_WEIGHT
from harbor.model.tls import MOST_ALPN
from harbor.policy.naming import NAME, PLANS

PAGE: Final = 100  # members of a collection that one reply holds unless asked otherwise
LARGEST_ID: Final = 2**63 - 1  # of an event; the store keeps 64 bits
LONGEST_PAGE: Final = 1000  # building more in one go would hold up the data path

# PATCH names them in its refusal: "no such member" would send the reader looking for a typing error.
FIXED: Final = ("name", "protocol", "port", "exposure", "tls", "plan")


class Strict(BaseModel):
    """A JSON object that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def fingerprint(self, *about: str) -> str:
        """What an Idempotency-Key stands for: equal for equal requests, however they were written.

        ``about`` is what the request says beside its body.
        """
        meaning = json.dumps([*about, self.model_dump(mode="json", exclude_none=True)], sort_keys=True)
        return hashlib.sha256(meaning.encode()).hexdigest()


Body = TypeVar("Body", bound=BaseModel)
Port = Annotated[StrictInt, Field(ge=1, le=65535)]


class TlsRulesBody(Strict):
    """How the node ends TLS; a member that is null follows the node's default."""

    min_version: Literal["1.2", "1.3"] | None = None
    alpn: list[StrictStr] | None = Field(None, max_length=MOST_ALPN, description="protocols to offer, the best first")
    verify: Literal["none", "required"] | None = Field(None, description="whether clients must show a certificate")
    unknown_name: Literal["default", "reject"] | None = Field(
        None, description="an unknown server name gets the default certificate, or the alert unrecognized_name"
    )
    ca: StrictStr | None = Field(None, description="PEM: the certificates that may sign those of clients")
    crl: StrictStr | None = Field(None, description="PEM: which of these were revoked, a list for each of `ca`")


class BackendTlsBody(Strict):
    """How the node speaks TLS to backends; a member that is null has its default."""

    verify: StrictBool | None = Field(None, description="check their certificates; true unless given")
    server_name: StrictStr | None = Field(
        None, min_length=1, max_length=253, description="for whom these have to be, instead of each backend's host"
    )
    ca: StrictStr | None = Field(None, description="PEM: who may sign them, instead of those whom the system trusts")


ServerNames = Annotated[
    list[StrictStr] | None,
    Field(
        max_length=MOST_NAMES,
        description="with `tls: passthrough`, which names it takes on a port that several share, like "
        "`shop.example.com` or `*.example.com`; without, whatever no other takes",
    ),
]


class _ServiceHead(Strict):
    name: StrictStr = Field(
        description="1 to 63 letters, digits, `.`, `_` or `-`; a prefix like `udp` sets the protocol",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},  # checked by the node, in better words
    )
    protocol: Literal["tcp", "udp", "both"] | None = None
    port: Port | None = Field(None, description="a particular port; chosen by the node unless given")
    exposure: Literal["public", "private"] | None = None
    tls: Literal["off", "node", "passthrough"] | None = None
    plan: Annotated[StrictStr, Field(json_schema_extra={"enum": list(PLANS)})] | None = None
    tls_rules: TlsRulesBody | None = Field(None, description="how the node ends TLS, where it does")
    backend_tls: BackendTlsBody | None = Field(None, description="how it speaks TLS to the backends; null: it does not")
    server_names: ServerNames = None

    def wish(self) -> ServiceWish:
        """The same as the value that the node takes."""
        return ServiceWish(
            name=self.name,
            protocol=None if self.protocol is None else Protocol(self.protocol),
            port=self.port,
            exposure=None if self.exposure is None else Exposure(self.exposure),
            tls=None if self.tls is None else Tls(self.tls),
            plan=self.plan,
            overrides=self.model_dump(include=set(FIELDS), exclude_none=True),
            tls_rules={} if self.tls_rules is None else self.tls_rules.model_dump(exclude_none=True),
            backend_tls=None if self.backend_tls is None else self.backend_tls.model_dump(exclude_none=True),
            server_names=self.server_names or (),
        )


class _ServiceChange(Strict):
    tls_rules: TlsRulesBody | None = Field(None, description="the rules that change; null: all as the node's default")
    backend_tls: BackendTlsBody | None = Field(None, description="what changes of it; null: no TLS to the backends")
    server_names: ServerNames = None

    @model_validator(mode="before")
    @classmethod
    def _nothing_fixed(cls, value: Any) -> Any:
        for name in FIXED:
            if isinstance(value, dict) and name in value:
                raise PydanticCustomError("fixed", f"{name} is fixed once a service exists; create another service")
        return value

    def changes(self) -> dict[str, Any]:
        """The members that were sent; null gives a policy back to the node's default."""
        return self.model_dump(exclude_unset=True)


def _policy_field(policy: Setting) -> Any:
    def checked(value: Any) -> Any:
        try:
            return None if value is None else policy.kind.check(value)
        except Wrong as exc:
            raise PydanticCustomError("policy_invalid", "{message}", {"message": exc.why, "within": exc.path}) from None

    schema = WithJsonSchema(or_null(policy.kind.schema()))
    return (Annotated[Any, BeforeValidator(checked), schema], Field(None, description=policy.meaning))


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a member that may be null as well."""
    more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | more


# The members of every body that may set policy, as ``create_model`` takes them.
POLICY: Final[dict[str, Any]] = {name: _policy_field(policy) for name, policy in FIELDS.items()}
ServiceBody = create_model("ServiceBody", __base__=_ServiceHead, **POLICY)
ServicePatch = create_model("ServicePatch", __base__=_ServiceChange, **POLICY)


class BackendBody(Strict):
    """One app instance that asks for traffic, or renews its lease."""

    host: StrictStr = Field(min_length=1, max_length=253, description="numeric address or DNS name")
    port: Port
    ttl: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        None, description="seconds until the lease ends unless renewed; without it the backend stays until removed"
    )
    instance: StrictStr | None = Field(None, max_length=253, description="what the app calls this instance")
    weight: Annotated[StrictInt, Field(ge=1, le=MOST_WEIGHT)] | None = Field(
        None, description="its share of new TCP sessions, beside those of the others; 1 unless it has another already"
    )


class BindingBody(Strict):
    """Which app."""

    app: StrictStr = Field(description="1 to 63 letters, digits, `.`, `_` or `-`")


class CertificateBody(Strict):
    """A certificate with its key. Nothing ever shows the key again."""

    certificate: StrictStr = Field(description="PEM: the service's own, then those above it", repr=False)
    key: StrictStr = Field(description="PEM: the private key, not encrypted", repr=False)


class DeleteQuery(Strict):
    """How to delete a service."""

    force: bool = Field(False, description="unbind the apps that are bound to it")


class LabelQuery(Strict):
    """Which of several certificates of a service."""

    label: str | None = Field(None, description="of a further one; without it, the service's first is meant")


class PageQuery(Strict):
    """Which part of a collection."""

    limit: int = Field(PAGE, ge=1, le=LONGEST_PAGE)
    after: str | None = Field(None, max_length=253, description="the last entry of the page before")


class EventQuery(Strict):
    """Which events."""

    limit: int = Field(PAGE, ge=1, le=LONGEST_PAGE)
    after: int | None = Field(None, ge=0, le=LARGEST_ID, description="the id of the last event that is known")


def _network(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise PydanticCustomError("cidr", "use an IP address or a network like 10.0.0.0/8") from None


def _optional_address(text: str | None) -> str | None:
    return None if text is None else address_text(text)


class SessionFilter(Strict):
    """Which sessions are meant; all of what is given must match."""

    service: str | None = Field(None, description="name or id")
    backend: str | None = Field(None, description="backend id")
    client: Annotated[str | None, AfterValidator(_network)] = Field(None, description="address or network")


class SessionPageQuery(SessionFilter, PageQuery):
    """Sessions, page by page."""


class WhoisQuery(Strict):
    """Which connection of a backend is meant."""

    local: Annotated[str, AfterValidator(address_text)] = Field(
        description="the address that the backend sees as its peer, like `127.0.0.1:40000` or `[::1]:40000`"
    )
    backend: Annotated[str | None, AfterValidator(_optional_address)] = Field(
        None, description="the backend's own address, where connections to several backends come from this one"
    )
    protocol: Literal["tcp", "udp"] | None = None
    service: str | None = Field(None, description="name or id")


WhoisParams = Annotated[WhoisQuery, Query()]
LabelParams = Annotated[LabelQuery, Query()]
DeleteParams = Annotated[DeleteQuery, Query()]
PageParams = Annotated[PageQuery, Query()]
EventParams = Annotated[EventQuery, Query()]
FilterParams = Annotated[SessionFilter, Query()]
SessionParams = Annotated[SessionPageQuery, Query()]


def body_of(model: type[Body]) -> Callable[[Request], Awaitable[Body]]:
    """A dependency that reads the request's body as ``model``."""
    most = MAX_POLICY if model in (ServiceBody, ServicePatch) else MAX_BODY

    async def read(request: Request) -> Body:
        check_media_type(request)
        value = read_json(await bounded(request, most))
        try:
            return model.model_validate(value)
        except ValidationError as exc:
            raise fields_invalid(exc, model.model_fields) from None

    return read


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The part of the OpenAPI description that says what ``body_of(model)`` reads."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema that stands alone: what it refers to is put in its place."""
    if isinstance(part, list):
        return [_inlined(one, definitions) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(one, definitions) for name, one in part.items()}


def check_media_type(request: Request) -> None:
    """Return if the request says that its body is JSON. Errors: ``unsupported_media_type``."""
    given = request.headers.get("content-type", "")
    kind, _, parameters = given.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise HarborError(
            "the body must be JSON: send Content-Type: application/json",
            code="unsupported_media_type",
            status=415,
        )


async def bounded(request: Request, most: int = MAX_BODY) -> bytes:
    """The whole body, refused by its declared length before any of it is read, or as soon as it grows too large."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > most:
        raise _too_large(most)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> HarborError:
    return HarborError(f"the body is larger than {most} bytes", code="body_too_large", status=413)
