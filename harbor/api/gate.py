"""What every request passes before anything of it is read: whose host name, whose page, whose token.

Over the Unix socket the file's mode has decided already. Over TCP a bearer token decides: the admin's may do all, that
of a binding may manage the backends of its own service. Platforms speak protocols with tokens of their own. The Host
and Origin checks stop a web page from reaching the API through its visitor's browser (DNS rebinding, forged requests).
"""

from __future__ import annotations

import ipaddress
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harbor.api.broker.headers import echoing
from harbor.api.broker.routes import DESCRIPTION_PATH
from harbor.api.refusals import refusal, surface
from harbor.api.tokens import AdminToken, Credentials, ServiceToken, WrongTokens
from harbor.errors import HarborError, Invalid, NotFound, Unauthorized
from harbor.policy.naming import shown

if TYPE_CHECKING:
    from harbor.model import Binding
    from harbor.node import Node

log = structlog.get_logger("harbor.api")

# Probes carry no token. The description of the API is the same for every node and says nothing about this one.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json", DESCRIPTION_PATH})
PROBES: Final = frozenset({"/healthz", "/readyz"})
TOKEN_PARAMETERS: Final = frozenset({"token", "access_token", "auth_token", "bearer", "api_key", "apikey", "key"})

# What the token of a binding may ask for: the backends of a service, one of them, and its drain.
TENANT_PATH: Final = re.compile(r"/v1/services/(?P<service>[^/]+)(?P<rest>/backends(?:/[^/]+(?:/drain)?)?)", re.DOTALL)
# And whose connection one of these backends sees.
WHOIS: Final = "/v1/whois"
TENANT_METHODS: Final = frozenset({"GET", "PUT", "DELETE", "POST"})

SERVICE_TOKEN: Final = b"x-vcap-service-token"
# How each protocol asks for its token.
CHALLENGES: Final = {"gateway": 'X-VCAP-Service-Token realm="harbor"', "v2": 'Basic realm="harbor"'}
BEARER: Final = 'Bearer realm="harbor"'

HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Gate:
    """Lets a request through to ``app`` with its actor noted, or answers it with a refusal.

    ``hosts`` are the host names, lower case, under which this API may be addressed; IP addresses always may. Without
    the ``gateway``'s token there is no gateway, without the ``broker``'s credentials no broker.
    """

    def __init__(
        self,
        app: ASGIApp,
        node: Node,
        token: AdminToken,
        hosts: frozenset[str],
        gateway: ServiceToken | None = None,
        broker: Credentials | None = None,
    ) -> None:
        self._app = app
        self._node = node
        self._token = token
        self._gateway = gateway
        self._broker = broker
        self._hosts = hosts | {"localhost"}
        self._wrong = {name: WrongTokens() for name in ("v1", *CHALLENGES)}  # of each protocol's secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = _with_headers(send)
        if surface(scope["path"]) == "v2":
            send = echoing(scope, send)
        try:
            scope["harbor.actor"] = self._actor(scope)
        except HarborError as exc:
            await refusal(scope, exc, _headers_for(scope, exc))(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:  # it hung up before its request was complete: nothing was done, nobody is there
            pass
        except Exception:  # answered with 500 by the app; the server would only log it a second time
            log.exception("api.failed", method=scope["method"], path=shown(scope["path"]))

    def _actor(self, scope: Scope) -> str:
        protocol = surface(scope["path"])
        if protocol == "gateway" and self._gateway is None:
            raise NotFound("this node has no gateway; the section gateway of its configuration turns it on")
        if protocol == "v2" and self._broker is None:
            raise NotFound("this node is no service broker; the section broker of its configuration makes it one")
        connection = scope["harbor.connection"]
        if connection.is_local:
            return "local" if connection.peer_uid is None else f"unix:uid={connection.peer_uid}"
        if scope["path"] in PROBES:
            return "anonymous"
        self._check_host(scope)
        _check_origin(scope)
        _check_query(scope)
        if scope["path"] in OPEN_PATHS:
            return "anonymous"
        match protocol:
            case "gateway":
                return self._service_token(scope)
            case "v2":
                return self._basic(scope)
        return self._bearer(scope)

    def _check_host(self, scope: Scope) -> None:
        given = _values(scope, b"host")
        if len(given) > 1:
            raise Invalid("the request has two Host headers")
        if not given:  # HTTP/1.0; browsers always send one
            return
        name = _host_of(given[0])
        if name not in self._hosts and not _is_address(name):
            raise HarborError(
                f"{shown(given[0])} is no name of this node; use its address, or list the name as node.hostname",
                code="host_unknown",
                status=421,
            )

    def _bearer(self, scope: Scope) -> str:
        """Who has this token, if what is asked for is theirs."""
        given = _values(scope, b"authorization")
        if not given:
            raise Unauthorized(
                "this needs a token: send Authorization: Bearer, with the text of <state_dir>/admin.token or, for "
                "backends, with the token of a binding"
            )
        scheme, _, text = given[0].partition(" ")
        token = text.strip() if len(given) == 1 and scheme.lower() == "bearer" else ""
        # Nobody guesses the token of a binding, and its lease must be renewed whatever goes on behind the same address.
        # One that was revoked is refused here, and not counted: its app may not know yet.
        binding = self._node.binding_of_token(token)
        if binding is not None:
            self._keep_within(scope, binding)
            return f"binding:{binding.id}"
        self._check_guesses(scope)
        if self._token.matches(token.encode("latin-1")):
            return "token:admin"
        self._count_guess(scope)
        raise Unauthorized("this token is not valid; the admin's is in <state_dir>/admin.token")

    def _service_token(self, scope: Scope) -> str:
        """A cloud controller, if the token is the gateway's."""
        given = _values(scope, SERVICE_TOKEN)
        if not given:
            raise Unauthorized("not authorized: send X-VCAP-Service-Token, with the text of gateway.token")
        self._check_guesses(scope)
        assert self._gateway is not None
        if len(given) == 1 and self._gateway.matches(given[0].encode("latin-1")):
            return "gateway"
        self._count_guess(scope)
        raise Unauthorized("not authorized: this X-VCAP-Service-Token is not gateway.token")

    def _basic(self, scope: Scope) -> str:
        """Which of the broker's users this is."""
        given = _values(scope, b"authorization")
        if not given:
            raise Unauthorized(
                "this needs a user name and a password, those of broker in harbor.yml: send HTTP basic authentication"
            )
        self._check_guesses(scope)
        assert self._broker is not None
        username = self._broker.user(given[0]) if len(given) == 1 else None
        if username is None:
            self._count_guess(scope)
            raise Unauthorized("user name and password are not those of broker in harbor.yml")
        return f"broker:{username}"

    def _check_guesses(self, scope: Scope) -> None:
        wait = self._guesses(scope).wait(scope["client"][0], time.monotonic())
        if wait:
            raise _TooManyWrong(wait)

    def _count_guess(self, scope: Scope) -> None:
        source = scope["client"][0]
        self._guesses(scope).add(source, time.monotonic())
        log.warning("api.token_wrong", source=source)

    def _guesses(self, scope: Scope) -> WrongTokens:
        """Those at the secret of this protocol: a platform with an old password locks out itself, and nobody else."""
        name = surface(scope["path"])
        return self._wrong[name if name in CHALLENGES else "v1"]

    def _keep_within(self, scope: Scope, binding: Binding) -> None:
        """Let a binding's token reach the backends of its own service, and nothing else.

        The path then has the service's id in place of its name: should the service be deleted and its name be given
        to another before the request is carried out, it finds nothing.
        """
        path: str = scope["path"]
        if path == WHOIS and scope["method"] == "GET" and self._asks_of_own(scope, binding):
            return
        found = TENANT_PATH.fullmatch(path)
        if found is None or scope["method"] not in TENANT_METHODS or not self._is_own(found["service"], binding):
            raise HarborError(
                f"the token of app {binding.app} is for the backends of its own service: "
                f"/v1/services/{binding.service_id}/backends, and {WHOIS} of their sessions; all else needs the admin "
                "token",
                code="token_scope",
                status=403,
            )
        scope["path"] = f"/v1/services/{binding.service_id}{found['rest']}"

    def _asks_of_own(self, scope: Scope, binding: Binding) -> bool:
        """Whether the query names no other service; it then names the binding's."""
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not all(self._is_own(value, binding) for name, value in given if name == "service"):
            return False
        others = [(name, value) for name, value in given if name != "service"]
        scope["query_string"] = urlencode([*others, ("service", binding.service_id)]).encode()
        return True

    def _is_own(self, ref: str, binding: Binding) -> bool:
        try:
            return self._node.service_id(ref) == binding.service_id
        except NotFound:
            return False


class _TooManyWrong(HarborError):
    code = "too_many_wrong_tokens"
    status = 429

    def __init__(self, wait: float) -> None:
        self.wait = int(wait) + 1
        super().__init__(f"too many wrong tokens from this address; try again in {self.wait} s, or use the Unix socket")


def _headers_for(scope: Scope, exc: HarborError) -> dict[str, str]:
    if isinstance(exc, _TooManyWrong):
        return {"Retry-After": str(exc.wait)}
    challenge = CHALLENGES.get(surface(scope["path"]), BEARER)
    return {"WWW-Authenticate": challenge} if exc.status == 401 else {}


def _check_origin(scope: Scope) -> None:
    """A browser names the page that asks; only pages of this very API may."""
    host = next(iter(_values(scope, b"host")), "")
    for origin in _values(scope, b"origin"):
        if urlsplit(origin).netloc.lower() != host.lower() or not host:
            raise HarborError(f"pages of {shown(origin)} may not use this API", code="origin_refused", status=403)


def _check_query(scope: Scope) -> None:
    names = {name.lower() for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)}
    if names & TOKEN_PARAMETERS:
        raise Unauthorized("a token in the address ends up in logs and histories; send it as Authorization: Bearer")


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _host_of(text: str) -> str:
    """The host of a Host header, without port, brackets and trailing dot; lower case."""
    if text.startswith("["):
        return text[1:].partition("]")[0].lower()
    return text.partition(":")[0].lower().removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name for name, _ in headers}
            headers += [(name, value) for name, value in HEADERS if name not in present]
            headers.append((b"date", formatdate(usegmt=True).encode()))
            message = {**message, "headers": headers}
        await send(message)

    return sending
