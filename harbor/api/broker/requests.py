"""What a platform may send. Parameters are the user's and are checked strictly; what the specification may come to add
around them is ignored, as it demands.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Path, Query, Request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError
from starlette.types import Scope

from harbor.api.broker.catalog import BY_ID, SERVICE_ID
from harbor.api.broker.quotas import Tenant
from harbor.api.problem import fields_invalid
from harbor.api.requests import POLICY, Port, Strict, bounded, check_media_type
from harbor.api.strict_json import read_json
from harbor.errors import Invalid
from harbor.model.policy import FIELDS
from harbor.policy.naming import check_name, shown

LONGEST_ID: Final = 255  # most platforms send GUIDs; what is longer is not an id but a load
ID: Final = re.compile(rf"[A-Za-z0-9._~-]{{1,{LONGEST_ID}}}")  # RFC 3986's unreserved characters, as recommended
LONGEST_TEXT: Final = 1024

FIXED: Final = ("protocol", "port", "exposure", "tls")  # once the port is leased

Id = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{ID.pattern}$"})]  # see check_ids
InstanceId = Annotated[Id, Path(description="the platform's own id of the instance")]
BindingId = Annotated[Id, Path(description="the platform's own id of the binding")]
Text = Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_TEXT)]
# Whether these are in the catalog is checked later, for a refusal that says what is.
ServiceId = Annotated[Text, WithJsonSchema({"type": "string", "enum": [SERVICE_ID]})]
PlanId = Annotated[Text, WithJsonSchema({"type": "string", "enum": list(BY_ID)})]
Flag = Annotated[bool | None, Query(description="accepted; every operation is complete when it is answered")]


class Loose(BaseModel):
    """A JSON object whose other members are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Context(Loose):
    """Where the platform keeps the instance. Cloud Foundry knows organisations and spaces, Kubernetes namespaces."""

    platform: Text | None = None
    instance_name: Text | None = None
    organization_guid: Text | None = None
    space_guid: Text | None = None
    organization_name: Text | None = None
    space_name: Text | None = None
    clusterid: Text | None = None
    namespace: Text | None = None


class MaintenanceInfo(Loose):
    """Which state of the plan the platform knows."""

    version: Text


class _Lease(Strict):
    protocol: Literal["tcp", "udp", "both"] | None = None
    port: Port | None = None
    exposure: Literal["public", "private"] | None = None
    tls: Literal["off", "node", "passthrough"] | None = None

    def given(self) -> dict[str, Any]:
        """The parameters that were sent, as they were sent; null is as good as absent."""
        return {name: _as_sent(value) for name, value in self.model_dump(mode="json", exclude_none=True).items()}

    def policy(self) -> dict[str, Any]:
        """Those of them that are policy, null included."""
        return self.model_dump(include=set(FIELDS), exclude_unset=True)


Parameters = create_model("Parameters", __base__=_Lease, **POLICY)


def _as_sent(value: Any) -> Any:
    """``300`` again, of which the node makes 300.0 seconds."""
    if isinstance(value, dict):
        return {name: _as_sent(member) for name, member in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _app_name(name: str) -> str:
    try:
        return check_name(name, "app")
    except Invalid as exc:
        raise PydanticCustomError("name_invalid", "{message}", {"message": exc.message}) from None


class BindParameters(Strict):
    """What the user may say about a binding."""

    app: Annotated[StrictStr, AfterValidator(_app_name)] | None = Field(
        None, description="what Harbor calls the app; its guid unless given"
    )

    def given(self) -> dict[str, Any]:
        """The parameters that were sent; null is as good as absent."""
        return self.model_dump(exclude_none=True)


class ProvisionBody(Loose):
    """An instance that is wanted."""

    service_id: ServiceId
    plan_id: PlanId
    context: Context | None = None
    organization_guid: Text | None = Field(None, description="unless the context says it")
    space_guid: Text | None = Field(None, description="unless the context says it")
    parameters: Parameters | None = None
    maintenance_info: MaintenanceInfo | None = None

    @property
    def tenant(self) -> Tenant:
        """Whose the instance is to be."""
        context = self.context or Context()
        return Tenant(
            context.organization_guid or self.organization_guid or context.clusterid or "",
            context.space_guid or self.space_guid or context.namespace or "",
        )


class UpdateBody(Loose):
    """What is to become of an instance."""

    service_id: ServiceId
    plan_id: PlanId | None = None
    context: Context | None = None
    parameters: Parameters | None = None
    maintenance_info: MaintenanceInfo | None = None


class BindResource(Loose):
    """What is bound."""

    app_guid: Text | None = None


class BindBody(Loose):
    """A binding that is wanted. Without an app it makes credentials only."""

    service_id: ServiceId
    plan_id: PlanId
    context: Context | None = None
    app_guid: Text | None = None
    bind_resource: BindResource | None = None
    parameters: BindParameters | None = None

    @property
    def app(self) -> str | None:
        """The platform's id of the app."""
        return (self.bind_resource and self.bind_resource.app_guid) or self.app_guid


class HintQuery(Loose):
    """Which offering and plan the platform believes the instance to be of."""

    service_id: ServiceId | None = None
    plan_id: PlanId | None = None


class ChosenQuery(HintQuery):
    """The same, where it has to be said."""

    service_id: ServiceId
    plan_id: PlanId


class OperationQuery(HintQuery):
    """Which operation; this broker names none."""

    operation: str | None = Field(None, min_length=1, max_length=10_000)


Chosen = Annotated[ChosenQuery, Query()]
Hint = Annotated[HintQuery, Query()]
Asked = Annotated[OperationQuery, Query()]
Body = TypeVar("Body", bound=BaseModel)


def check_ids(scope: Scope) -> None:
    """Return if what stands for ids in the path can be ids, before it is looked up: a slash in one makes it another.

    Errors: ``Invalid`` (``id_invalid``).
    """
    _, below, steps = scope["path"].partition("/service_instances/")
    encoded = b"%2f" in scope["raw_path"].lower()
    if below and (encoded or not all(ID.fullmatch(step) for step in steps.split("/"))):
        raise Invalid(
            f"{shown(scope['path'])}: an id has 1 to {LONGEST_ID} letters, digits, '.', '_', '~' or '-', and no others",
            code="id_invalid",
        )


def body_of(model: type[Body]) -> Callable[[Request], Awaitable[Body]]:
    """A dependency that reads the request's body as ``model``. A media type need not be given."""
    taken = BindParameters if model is BindBody else Parameters

    async def read(request: Request) -> Body:
        if "content-type" in request.headers:
            check_media_type(request)
        value = read_json(await bounded(request))
        try:
            return model.model_validate(value)
        except ValidationError as exc:
            raise fields_invalid(exc, taken.model_fields) from None

    return read
