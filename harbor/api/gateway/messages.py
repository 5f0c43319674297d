"""What a cloud controller sends, and what it gets.

Members that we do not know are kept, not refused: each generation of cloud controllers sent some more.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from harbor.api.gateway.offering import FREE, VERSION
from harbor.api.problem import fields_invalid
from harbor.api.requests import ServiceBody
from harbor.errors import Invalid
from harbor.model import ServiceWish
from harbor.policy.environment import LABEL
from harbor.policy.naming import check_name, protocol_for, shown, tls_for

PLATFORM: Final = "cf-v1"  # in the origin of what a cloud controller had made
LONGEST_TEXT: Final = 255

_LABEL: Final = re.compile(r"\S+-\S+")
_DECIDED: Final = ("name", "plan")  # of a service, by members of their own

Text = Annotated[StrictStr, Field(max_length=LONGEST_TEXT)]


class Message(BaseModel):
    """An object of which we know some members."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    def origin(self) -> dict[str, Any]:
        """What is kept with whatever is made of it: the platform, and all that it sent but nulls."""
        return {"platform": PLATFORM, "request": self.model_dump(exclude_none=True)}


class ProvisionRequest(Message):
    """Asks for a service."""

    label: StrictStr = Field(description=f"`{LABEL}`")
    name: StrictStr = Field(description="says the protocol, as everywhere, unless plan or plan_option do")
    email: Text | None = None
    plan: Text | None = Field(
        None, description=f"`{FREE}`, which leaves it to the name, or `tcp`, `udp`, `both`, `https`"
    )
    version: Text | None = None
    plan_option: dict[str, Any] | None = Field(
        None, description="more members of `POST /v1/services`: protocol, port, exposure, tls, policies"
    )
    organization_guid: Text | None = None
    space_guid: Text | None = None

    def wish(self) -> ServiceWish:
        """The same as the value that the node takes. What the name says is decided here: the name may have to change.

        Errors: ``Invalid`` (``label_unknown``, ``version_unknown``, ``plan_unknown``, ``name_invalid`` ...).
        """
        check_label(self.label)
        if self.version not in (None, "", VERSION):
            raise Invalid(f"there is no version {shown(self.version)}; there is {VERSION}", code="version_unknown")
        name = check_name(self.name)
        plan = None if self.plan in (None, "", FREE) else self.plan
        asked = self._options().wish()
        protocol = protocol_for(name, plan, asked.protocol)
        return ServiceWish(
            name=name,
            protocol=protocol,
            port=asked.port,
            exposure=asked.exposure,
            tls=tls_for(name, plan, asked.tls, protocol),
            plan=plan,
            overrides=asked.overrides,
            origin=self.origin(),
        )

    def origin(self) -> dict[str, Any]:
        belonging = {"organization": self.organization_guid, "space": self.space_guid}
        return super().origin() | {name: guid for name, guid in belonging.items() if guid}

    def fingerprint(self) -> str:
        """What an Idempotency-Key stands for: equal for equal requests, however they were written."""
        return hashlib.sha256(json.dumps(["gateway", self.origin()], sort_keys=True).encode()).hexdigest()

    def _options(self) -> Any:
        given = self.plan_option or {}
        for name in _DECIDED:
            if name in given:
                raise Invalid(f"plan_option: {name} has a member of its own in the request")
        try:
            return ServiceBody.model_validate({**given, "name": self.name})
        except ValidationError as error:
            raise fields_invalid(error, set(ServiceBody.model_fields) - set(_DECIDED)) from None


class BindRequest(Message):
    """Asks for a handle: the service for one more app."""

    service_id: StrictStr = Field(description="the same as in the path")
    label: StrictStr = Field(description=f"`{LABEL}`")
    email: Text | None = None
    binding_options: Any = Field(description="kept, and given back with the handle")
    app_id: Text | None = Field(None, description="what the app is called here, where it can be a name")


class UnbindRequest(Message):
    """Gives a handle back."""

    service_id: StrictStr = Field(description="the same as in the path")
    handle_id: StrictStr = Field(description="the same as in the path")
    binding_options: Any = None


class HandleReply(BaseModel):
    """A configuration or a handle, as the cloud controller keeps it."""

    model_config = ConfigDict(extra="forbid")

    service_id: str = Field(description="of the configuration, or of the handle")
    configuration: dict[str, Any]
    credentials: dict[str, Any]


class Done(BaseModel):
    """Nothing more to say."""

    model_config = ConfigDict(extra="forbid")


def check_label(label: str) -> None:
    """Return if this is what the gateway offers. Errors: ``Invalid`` (``label_unknown``)."""
    if not _LABEL.fullmatch(label):
        raise Invalid(f"label {shown(label)} has no version; this gateway offers {LABEL}")
    if label != LABEL:
        raise Invalid(f"this gateway does not offer {shown(label)}, but {LABEL}", code="label_unknown")


def check_same(what: str, in_body: str, in_path: str) -> None:
    """Return if body and path mean the same. Errors: ``Invalid``."""
    if in_body != in_path:
        raise Invalid(f"{what} is {shown(in_body)} in the body and {shown(in_path)} in the path; both must be the same")
