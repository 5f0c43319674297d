"""What harbor.yml may say: one frozen model per section, each key with its default, its bounds and what it is for.

The descriptions here are the only source of the configuration reference and of the JSON Schema.
"""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    create_model,
    model_validator,
)

from harbor.config import values
from harbor.config.values import IPNetwork, refused
from harbor.errors import Invalid
from harbor.model import Address, Policy, TlsRules, UnknownName
from harbor.model.kinds import Setting, Wrong
from harbor.model.policy import FIELDS

Ip = Annotated[str, AfterValidator(values.ip)]
OptionalIp = Annotated[str, AfterValidator(values.ip_or_nothing)]
OptionalHostname = Annotated[str, AfterValidator(values.hostname_or_nothing)]
NodeId = Annotated[str, AfterValidator(values.node_id)]
ListenAddress = Annotated[str, AfterValidator(values.address_text)]
Network = Annotated[str, AfterValidator(values.network_text)]
PortRange = Annotated[
    str,
    BeforeValidator(values.range_text),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{values.RANGE.pattern}$"}),
]
Port = Annotated[int, Field(strict=True, ge=1, le=values.HIGHEST_PORT)]
FilePath = Annotated[Path, AfterValidator(values.file_path)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]
HttpUrl = Annotated[str, AfterValidator(values.http_url_or_nothing)]
Secret = Annotated[SecretStr, Field(min_length=1)]
HeaderSecret = Annotated[SecretStr, Field(min_length=1), AfterValidator(values.header_secret)]

_LONGEST_QUARANTINE: Final = 86_400  # a day; clients that still retry after that are nobody's surprise
_LONGEST_INTERVAL: Final = 3600.0  # an hour; a cloud controller forgets a gateway that is silent for long
_MOST_CREDENTIALS: Final = 16  # every request is compared with each of them; a rotation needs two
_MOST_QUOTAS: Final = 4096  # a platform with more organisations than that sets them by *
_MOST_RANGES: Final = 64  # more is a list of single ports, which `reserved` says better


class Section(BaseModel):
    """Every section refuses unknown keys and never changes once built."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Node(Section):
    """Who this node is, and the addresses that credentials give to applications."""

    id: NodeId = Field(
        "harbor_node_1",
        description="Name of this node, `node_id` in credentials: letters, digits, `.`, `_` and `-`, 63 at most.",
        json_schema_extra={"pattern": f"^{values.NODE_ID.pattern}$"},
    )
    host: Ip = Field(
        "127.0.0.1",
        description="IP address at which applications inside the network reach this node; `host` in credentials.",
        examples=["10.0.0.5"],
    )
    hostname: OptionalHostname = Field(
        "",
        description="Host name for the same; `hostname` in credentials. Empty: credentials show `host` there.",
        examples=["harbor.internal.example"],
    )
    ext_host: OptionalIp = Field(
        "",
        description="IP address at which clients outside reach this node; `ext_host` in the credentials of public "
        "services. With this or `ext_hostname` set, new services are public unless asked otherwise; else private.",
        examples=["203.0.113.5"],
    )
    ext_hostname: OptionalHostname = Field(
        "",
        description="Host name for the same; `ext_hostname` in the credentials of public services.",
        examples=["ports.example.com"],
    )


class ListenOn(Section):
    """The local addresses on which services listen."""

    public: Ip = Field(
        "0.0.0.0",
        description="Where public services listen. `0.0.0.0` is every IPv4 address, `::` every IPv6 and IPv4 address.",
        examples=["0.0.0.0", "::", "203.0.113.5"],
    )
    private: Ip = Field(
        "127.0.0.1",
        description="Where private services listen: only who can reach this address can reach them.",
        examples=["127.0.0.1", "10.0.0.5"],
    )


class Ports(Section):
    """The ports that this node owns and leases."""

    ranges: tuple[PortRange, ...] = Field(
        ("30000-32767",),
        min_length=1,
        max_length=_MOST_RANGES,
        description="Ranges (`first-last`) or single ports to lease from. They may not overlap each other, and should "
        "stay clear of the kernel's ephemeral ports (`net.ipv4.ip_local_port_range`), which the default ends below.",
        examples=[["30000-32767"], ["20000-20999", "30000-32767"]],
    )
    reserved: tuple[Port, ...] = Field(
        (),
        description="Ports inside the ranges that are never leased, because something else on the machine uses them.",
        examples=[[30080, 30443]],
    )
    quarantine: Seconds = Field(
        60.0,
        ge=0,
        le=_LONGEST_QUARANTINE,
        description="Seconds that a released port rests before another service gets it, so that late clients of the "
        "old service do not meet the new one.",
    )

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The ranges as (first, last), both included."""
        return tuple(values.span(text) for text in self.ranges)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for index, (low, high) in enumerate(self.spans):
            shared = values.overlap(self.spans[:index], low, high)
            if shared:
                raise refused(f"{_span_text(*shared)} stands in an earlier range already", "ranges", index)
        return self


class Api(Section):
    """Where the node is controlled. Its Unix socket in `state_dir` is always open to the node's own user."""

    listen: ListenAddress = Field(
        "127.0.0.1:7070",
        description="Address of the HTTP API and the dashboard. Another address than loopback needs `cert` and `key`, "
        "because the admin token would cross the network in the clear. Port 0: the kernel chooses.",
        examples=["127.0.0.1:7070", "[::1]:7070"],
    )
    cert: FilePath | None = Field(
        None,
        description="Certificate (chain) file, PEM. With it the API speaks HTTPS.",
        examples=["certs/api.crt"],
    )
    key: FilePath | None = Field(None, description="Private key file of `cert`, PEM.", examples=["certs/api.key"])

    @cached_property
    def address(self) -> Address:
        """``listen``, taken apart."""
        return values.address(self.listen)

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Self:
        if (self.cert is None) != (self.key is None):
            there, lacking = ("key", "cert") if self.cert is None else ("cert", "key")
            raise refused(f"needs {lacking} beside it: one without the other cannot serve TLS", there)
        if self.cert is None and not values.is_loopback(self.address.host):
            raise refused(
                f"{self.listen} can be reached from other machines, so it needs TLS: set api.cert and api.key, "
                f"or listen on 127.0.0.1:{self.address.port}",
                "listen",
            )
        return self


class Credential(Section):
    """A user name and its password."""

    username: str = Field("broker", min_length=1, description="User name that the platform sends.")
    password: Secret = Field(description="Password that the platform sends.")


class Quota(Section):
    """What one organisation or space may have over all its services."""

    organization: str | None = Field(
        None, min_length=1, description="The organization's id as the platform sends it, or * for each."
    )
    space: str | None = Field(None, min_length=1, description="The space's id as the platform sends it, or * for each.")
    ports: Annotated[Count, Field(ge=0)] | None = Field(None, description="Most ports at a time.")
    sessions: Annotated[Count, Field(ge=0)] | None = Field(
        None, description="Most sessions: the sum of `max_sessions` over the services."
    )

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        if (self.organization is None) == (self.space is None):
            raise refused("is that of an organization or of a space; name one of them, or * for each of them")
        if self.ports is None and self.sessions is None:
            raise refused("limits nothing; give it ports, sessions or both")
        return self


class Broker(Section):
    """The Open Service Broker at `/v2`. Without this section it is off."""

    username: str = Field("broker", min_length=1, description="User name that the platform sends.")
    password: Secret | None = Field(
        None, description="Password that the platform sends.", examples=["a long random text"]
    )
    credentials: tuple[Credential, ...] = Field(
        (),
        max_length=_MOST_CREDENTIALS,
        description="Further pairs of `username` and `password` that are accepted as well: while a password is "
        "changed, the old and the new one stand here side by side.",
    )
    quotas: tuple[Quota, ...] = Field(
        (),
        max_length=_MOST_QUOTAS,
        description="What an `organization` or a `space` may have: `ports`, and `sessions`, which is the sum of "
        "`max_sessions` over its services. `*` stands for each one that has no entry of its own.",
        examples=[[{"organization": "*", "ports": 20, "sessions": 50000}, {"space": "a-guid", "ports": 5}]],
    )

    @cached_property
    def accepted(self) -> tuple[tuple[str, str], ...]:
        """Every user name with its password."""
        first = [] if self.password is None else [(self.username, self.password)]
        pairs = [*first, *((credential.username, credential.password) for credential in self.credentials)]
        return tuple((username, password.get_secret_value()) for username, password in pairs)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.accepted:
            raise refused("is missing; give it a value, list credentials, or remove the section", "password")
        for index, username in enumerate(username for username, _ in self.accepted):
            if ":" in username:
                at = ("username",) if index == 0 and self.password is not None else ("credentials",)
                raise refused(f"{username!r} holds a ':', which ends the user name in HTTP basic authentication", *at)
        return self

    @model_validator(mode="after")
    def _one_quota_each(self) -> Self:
        seen: set[tuple[str | None, str | None]] = set()
        for index, quota in enumerate(self.quotas):
            whose = (quota.organization, quota.space)
            if whose in seen:
                raise refused("an earlier entry is for the same; put both limits into one", "quotas", index)
            seen.add(whose)
        return self


class Gateway(Section):
    """The Cloud Foundry v1 service gateway at `/gateway`. Without this section it is off."""

    token: HeaderSecret = Field(
        description="Token that the platform sends as `X-VCAP-Service-Token`.",
        examples=["a long random text"],
    )
    cloud_controller: HttpUrl = Field(
        "",
        description="Cloud controller to register with: it is told every `interval` that this gateway is there, and "
        "the gateway answers only once it has fetched what the cloud controller knows of this node. Empty: no "
        "registration, the gateway answers at once.",
        examples=["https://api.example.com"],
    )
    url: HttpUrl = Field(
        "",
        description="Where the cloud controller reaches this gateway. Empty: where the API listens.",
        examples=["https://harbor.example.com:7070"],
    )
    interval: Seconds = Field(
        60.0,
        ge=1,
        le=_LONGEST_INTERVAL,
        description="Seconds between two registrations.",
    )


class Backends(Section):
    """Who may receive traffic."""

    allow: tuple[Network, ...] = Field(
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        description="Networks inside which backends may be, checked on the address really dialled. Loopback, "
        "link-local, cloud metadata, multicast and unspecified addresses need an entry that lies within them: "
        "`0.0.0.0/0` opens the internet, not the loopback. Harbor's own API is always refused.",
        examples=[["10.0.0.0/8", "fc00::/7"], ["127.0.0.0/8", "::1/128"]],
    )

    @cached_property
    def networks(self) -> tuple[IPNetwork, ...]:
        """The networks, parsed."""
        return tuple(ipaddress.ip_network(text) for text in self.allow)


class _Defaults(Section):
    """The policy of every service that sets nothing else."""

    def policy(self) -> Policy:
        """The same as the value that the other layers use."""
        return Policy().with_overrides(self.model_dump(exclude_none=True))


def _policy_field(name: str, policy: Setting) -> Any:
    def checked(value: Any) -> Any:
        try:
            return None if value is None else policy.kind.check(value)
        except Wrong as exc:
            raise refused(exc.why, *exc.at) from None

    default = getattr(Policy(), name)
    plain = None if default is None else policy.kind.plain(default)
    kind = Annotated[Any, BeforeValidator(checked), WithJsonSchema(policy.kind.schema())]
    return (kind, Field(plain, description=policy.meaning))


Defaults = create_model(
    "Defaults",
    __base__=_Defaults,
    __doc__=_Defaults.__doc__,
    **{name: _policy_field(name, policy) for name, policy in FIELDS.items()},
)


class TlsDefaults(Section):
    """How the node ends TLS where a service sets nothing else."""

    min_version: Literal["1.2", "1.3"] = Field(
        "1.2", description="Lowest version that clients may use. 1.3 shuts out what is older than about 2018."
    )
    alpn: tuple[str, ...] = Field(
        (),
        description="Protocols that are offered to clients (ALPN), the best first. Empty: none is negotiated. Offer "
        "only what the backends speak.",
        examples=[["http/1.1"]],
    )
    unknown_name: UnknownName = Field(
        UnknownName.DEFAULT,
        description="What a client gets that asks for a server name which no certificate has: `default` shows the "
        "service's first certificate, `reject` the alert `unrecognized_name`.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        try:
            self.rules()
        except Invalid as exc:
            raise refused(exc.message.removeprefix("alpn: "), "alpn") from exc
        return self

    def rules(self) -> TlsRules:
        """The same as the value that the other layers use."""
        return TlsRules(**self.model_dump())


class Log(Section):
    """What the node writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="The least severe entries that are written. `debug` adds one line for every session that ends.",
    )
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="`console` for people, `json` for machines; `auto`: console on a terminal, JSON otherwise."
    )


class Config(Section):
    """Harbor configuration: every key has a default, so that an empty file is a valid one."""

    node: Node = Field(Node(), description="Who this node is, and the addresses in credentials.")
    state_dir: FilePath = Field(
        Path("/var/lib/harbor"),
        description="Directory of the node's state: services, backends, admin token, Unix socket. Created with mode "
        "0700; one node at a time. A relative path starts at the working directory.",
        examples=["/var/lib/harbor", ".harbor"],
    )
    listen: ListenOn = Field(ListenOn(), description="The local addresses on which services listen.")
    ports: Ports = Field(Ports(), description="The ports that this node owns and leases.")
    api: Api = Field(Api(), description="Where the node is controlled.")
    broker: Broker | None = Field(None, description="The Open Service Broker; off unless given.")
    gateway: Gateway | None = Field(None, description="The Cloud Foundry v1 service gateway; off unless given.")
    certs_dir: FilePath = Field(
        Path("certs"),
        description="Directory of certificates: `<service>.crt` and `<service>.key`, else `harbor.crt` and "
        "`harbor.key`. Changed files are noticed within three seconds. A relative path starts at the working "
        "directory.",
    )
    backends: Backends = Field(Backends(), description="Who may receive traffic.")
    tls: TlsDefaults = Field(TlsDefaults(), description="How the node ends TLS where a service sets nothing else.")
    defaults: Defaults = Field(Defaults(), description="The policy of every service that sets nothing else.")
    log: Log = Field(Log(), description="What the node writes to standard error.")

    @model_validator(mode="after")
    def _api_port_is_not_leased(self) -> Self:
        port = self.api.address.port
        if values.overlap(self.ports.spans, port, port) and port not in self.ports.reserved:
            raise refused(
                f"port {port} lies inside ports.ranges, so it could be leased to a service: choose a port outside "
                f"them, or add {port} to ports.reserved",
                "api",
                "listen",
            )
        return self


def _span_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"
