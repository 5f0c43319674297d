"""What every request passes before anything of it is read: whose host name, whose page, whose token.

Over the Unix socket the file's mode has decided already. Over TCP a bearer token decides; the Host and Origin
checks stop a web page from reaching the API through its visitor's browser (DNS rebinding, forged requests).
"""

from __future__ import annotations

import ipaddress
import time
from email.utils import formatdate
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harbor.api.problem import problem
from harbor.api.tokens import AdminToken, WrongTokens
from harbor.errors import HarborError, Invalid, Unauthorized
from harbor.policy.naming import shown

log = structlog.get_logger("harbor.api")

# Probes carry no token. The description of the API is the same for every node and says nothing about this one.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
PROBES: Final = frozenset({"/healthz", "/readyz"})
TOKEN_PARAMETERS: Final = frozenset({"token", "access_token", "auth_token", "bearer", "api_key", "apikey", "key"})

HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Gate:
    """Lets a request through to ``app`` with its actor noted, or answers it with a problem.

    ``hosts`` are the host names, lower case, under which this API may be addressed; IP addresses always may.
    """

    def __init__(self, app: ASGIApp, token: AdminToken, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts | {"localhost"}
        self._wrong = WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = _with_headers(send)
        try:
            scope["harbor.actor"] = self._actor(scope)
        except HarborError as exc:
            await problem(exc, _headers_for(exc))(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception:  # answered with 500 by the app; the server would only log it a second time
            log.exception("api.failed", method=scope["method"], path=shown(scope["path"]))

    def _actor(self, scope: Scope) -> str:
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
        self._check_token(scope)
        return "token:admin"

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

    def _check_token(self, scope: Scope) -> None:
        given = _values(scope, b"authorization")
        if not given:
            raise Unauthorized(
                "this needs a token: send Authorization: Bearer, with the text of <state_dir>/admin.token"
            )
        source, now = scope["client"][0], time.monotonic()
        wait = self._wrong.wait(source, now)
        if wait:
            raise _TooManyWrong(wait)
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not self._token.matches(token.strip().encode("latin-1")):
            self._wrong.add(source, now)
            log.warning("api.token_wrong", source=source)
            raise Unauthorized("this token is not valid; the present one is in <state_dir>/admin.token")


class _TooManyWrong(HarborError):
    code = "too_many_wrong_tokens"
    status = 429

    def __init__(self, wait: float) -> None:
        self.wait = int(wait) + 1
        super().__init__(f"too many wrong tokens from this address; try again in {self.wait} s, or use the Unix socket")


def _headers_for(exc: HarborError) -> dict[str, str]:
    if isinstance(exc, _TooManyWrong):
        return {"Retry-After": str(exc.wait)}
    return {"WWW-Authenticate": 'Bearer realm="harbor"'} if exc.status == 401 else {}


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
