"""The replies as OpenAPI describes them. ``harbor.model.views`` builds them; a test holds the two together."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from harbor.api.problem import MEDIA_TYPE, Problem
from harbor.api.requests import or_null
from harbor.model.kinds import Setting
from harbor.model.policy import FIELDS


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BackendReply(Reply):
    """One backend, at its place in the queue."""

    id: str
    host: str
    port: int
    state: str = Field(description="starting, up, down or draining")
    since: float = Field(description="Unix time of the last change of state")
    active: int = Field(description="sessions right now")
    ttl: float | None = None
    expires_in: float | None = Field(None, description="seconds")
    instance: str | None = None
    weight: int | None = Field(None, description="its share of new TCP sessions; absent: 1")
    last_failure: str | None = None


def _policy_field(policy: Setting) -> Any:
    schema = WithJsonSchema(or_null(policy.kind.schema()))
    return (Annotated[Any, schema], Field(description=policy.meaning))


PolicyReply = create_model(
    "PolicyReply",
    __base__=Reply,
    __doc__="Timeouts in seconds; null where a policy is off.",
    **{name: _policy_field(policy) for name, policy in FIELDS.items()},
)


class SessionCounts(Reply):
    active: int
    opened: int


class ByteCounts(Reply):
    in_: int = Field(alias="in", description="from clients")
    out: int = Field(description="to clients")


class TlsRulesReply(Reply):
    """How the node ends TLS; of `ca` and `crl` the SHA-256 of what was given."""

    min_version: str
    alpn: list[str]
    verify: str
    unknown_name: str
    ca: str | None = None
    crl: str | None = None


class BackendTlsReply(Reply):
    """How TLS is spoken to the backends. ``ca`` is the SHA-256 of what was given."""

    verify: bool
    server_name: str | None
    ca: str | None = None


class ServiceReply(Reply):
    """One leased port with its policy, its backends in queue order, and what it has carried."""

    id: str
    name: str
    protocol: str
    port: int
    int_port: int = Field(description="the port the app listens on inside its container")
    exposure: str
    tls: str
    plan: str | None
    listen: str
    status: str = Field(description="ready, or degraded with a reason")
    reason: str | None = None
    warnings: list[str] = Field(description="what is not as it should be though the port is open")
    created: float
    policy: PolicyReply
    backends: list[BackendReply]
    bindings: list[str] = Field(description="the apps that are bound to it")
    sessions: SessionCounts
    bytes: ByteCounts
    closed: dict[str, int] = Field(description="sessions by the reason of their end")
    dropped: dict[str, int] = Field(description="datagrams that went nowhere, by reason")
    tls_rules: TlsRulesReply | None = Field(None, description="absent unless the node ends its TLS")
    backend_tls: BackendTlsReply | None = Field(None, description="absent unless TLS is spoken to the backends")
    expires_at: float | None = Field(None, description="Unix time at which it is deleted; absent: never")
    server_names: list[str] | None = Field(None, description="absent unless its port can be shared by server name")


class FindingReply(Reply):
    """Something that is not as it should be, and what would work."""

    severity: str = Field(description="warning, or error for what is not served")
    code: str
    message: str


class FurtherReply(Reply):
    """A certificate that is shown to whoever asks for a name in it."""

    label: str
    subject: str
    names: list[str]
    not_after: float
    days_left: int
    fingerprint: str = Field(description="SHA-256")


class CertificateReply(Reply):
    """The certificate that a service shows. Times are Unix times."""

    service: str
    source: str = Field(description="uploaded, service_file, node_file or self_signed")
    subject: str
    issuer: str
    names: list[str]
    not_before: float
    not_after: float
    days_left: int = Field(description="negative once it has expired")
    fingerprint: str = Field(description="SHA-256")
    key: str = Field(description="the kind of key")
    findings: list[FindingReply]
    refused: str | None = Field(None, description="why a newer one in certs_dir is not served")
    further: list[FurtherReply] | None = Field(None, description="those that were uploaded with a label")


class CredentialsReply(Reply):
    """What an app needs to use the service."""

    hostname: str
    host: str
    port: int
    name: str = Field(description="the id of the service")
    node_id: str
    int_port: int = Field(description="the port the app listens on inside its container")
    ext_hostname: str | None = None
    ext_host: str | None = None


class BindingReply(Reply):
    """One app that is bound to a service."""

    id: str
    service: str
    service_id: str
    app: str
    created: float
    credentials: CredentialsReply


class TokenReply(BindingReply):
    """A binding with the token that its instances use; absent if the node's `binding.key` was replaced since."""

    token: str | None = Field(None, description="for GET, PUT, DELETE and drain of the service's backends only")


class SessionReply(Reply):
    """One live TCP connection pair or UDP flow."""

    id: str
    service: str
    protocol: str
    client: str
    backend: str | None
    backend_address: str | None
    state: str
    started: float
    age: float
    bytes_in: int
    bytes_out: int
    server_name: str | None = Field(None, description="which the client asked for, where that was heeded")
    datagrams_in: int | None = None
    datagrams_out: int | None = None


class WhoisReply(Reply):
    """Whose connection a backend sees. ``since`` is Unix time."""

    local: str
    protocol: str
    service: str
    client: str
    session: str
    since: float
    backend: str | None
    backend_address: str | None


class KillReply(Reply):
    """How many sessions were ended."""

    killed: int


class UsedPort(Reply):
    port: int
    service: str


class RestingPort(Reply):
    port: int
    seconds: float


class PortsReply(Reply):
    """The node's ports."""

    ranges: list[str]
    total: int
    free: int
    used: list[UsedPort]
    quarantined: list[RestingPort]
    reserved: list[int]
    warnings: list[str]


class EventReply(Reply):
    """Who did what, and when."""

    id: int
    time: float
    kind: str
    actor: str
    service: str | None
    message: str
    details: dict[str, Any]


class HealthReply(Reply):
    """Whether the node works, and what keeps it from doing so."""

    status: str
    problems: list[str] | None = None
    warnings: list[str] | None = Field(None, description="of the process itself, or of others that it works with")


def replies(status: int, model: Any, description: str, *also: int) -> dict[int | str, dict[str, Any]]:
    """What an operation answers: ``model`` when it worked (also with the statuses ``also``), a problem otherwise."""
    good: dict[str, Any] = {"description": description}
    if model is not None:
        good["model"] = model
    return {code: dict(good) for code in (status, *also)} | {"default": PROBLEM}


PROBLEM: Final[dict[str, Any]] = {
    "description": "Refused; `code` says why",
    "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
}
