"""A cloud controller of Cloud Foundry v1, as a gateway talks to it: offerings and handles.

It is believed in nothing: whatever it answers, or does not, costs bounded time and memory and ends as a value or as
``CloudControllerFailed``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from harbor.policy.naming import shown

TOKEN_HEADER: Final = "X-VCAP-Service-Token"  # noqa: S105 - the name of the header
CONNECT_TIMEOUT: Final = 5.0  # seconds
ANSWER_TIMEOUT: Final = 20.0  # seconds for a whole answer; what v1 components granted each other
MOST_BYTES: Final = 4 * 1024 * 1024  # some ten thousand handles; parsing them holds the loop for 25 ms, once


class CloudControllerFailed(Exception):
    """A request did not do what it should; says why."""


class Lookup(AbstractResolver):
    """Looks names up in threads that nobody waits for: a name server that is silent must not hold up the end of the
    process, as it does in the loop's own threads.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Any] = loop.create_future()

        def look() -> None:
            try:
                answer = partial(_settle, found, socket.getaddrinfo(host, port, family, socket.SOCK_STREAM), None)
            except (OSError, UnicodeError) as error:  # not found; or no name at all, by the rules of IDNA
                answer = partial(_settle, found, None, error)
            try:
                loop.call_soon_threadsafe(answer)
            except RuntimeError:  # the loop has ended meanwhile
                pass

        threading.Thread(target=look, name="lookup", daemon=True).start()
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=flags)
            for kind, _, protocol, _, place in await found
        ]

    async def close(self) -> None:
        """Nothing to close."""


def _settle(found: asyncio.Future[Any], answer: Any, error: Exception | None) -> None:
    if found.done():  # whoever asked has given up
        return
    if error is None:
        found.set_result(answer)
    else:
        found.set_exception(error)


class CloudController:
    """The one at ``url``. Made inside a running event loop. Closing: ``close`` ends its connections."""

    def __init__(self, url: str, token: str, *, patience: float = ANSWER_TIMEOUT) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            headers={TOKEN_HEADER: token, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=patience, sock_connect=CONNECT_TIMEOUT),
            connector=aiohttp.TCPConnector(resolver=Lookup()),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a few bytes could unfold to any size
        )

    async def offer(self, offering: Mapping[str, Any]) -> None:
        """Tell it what a gateway offers, or that it leaves. Errors: ``CloudControllerFailed``."""
        await self._ask("POST", "/services/v1/offerings", json.dumps(offering).encode())

    async def handles(self, label: str) -> list[Any]:
        """What it was given under this label, as far as it knows. Errors: ``CloudControllerFailed``."""
        body = await self._ask("GET", f"/services/v1/offerings/{label}/handles")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise CloudControllerFailed(f"{self._url} does not answer with JSON") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("handles"), list):
            raise CloudControllerFailed(f"{self._url} does not answer with a list of handles")
        return list(answer["handles"])

    async def close(self) -> None:
        """End its connections."""
        await self._session.close()

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self._url + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                self._check(answer)
                return await self._read(answer)
        except TimeoutError as error:
            raise CloudControllerFailed(f"{self._url} did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CloudControllerFailed(f"{self._url}: {_words(error)}") from error

    def _check(self, answer: aiohttp.ClientResponse) -> None:
        if 300 <= answer.status < 400:
            place = answer.headers.get("Location", "")
            raise CloudControllerFailed(
                f"{self._url} redirects to {shown(place)}, which is not followed: the token would go there too"
            )
        if answer.status in (401, 403):
            raise CloudControllerFailed(f"{self._url} answers {answer.status}: it has another token for this gateway")
        if not 200 <= answer.status < 300:
            raise CloudControllerFailed(f"{self._url} answers {answer.status}")

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise CloudControllerFailed(f"{self._url} answers with more than {MOST_BYTES} bytes")
        return bytes(body)


def _words(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)
    text = str(cause).splitlines()
    return shown(text[0]) if text and not text[0].isprintable() else (text[0][:200] if text else type(cause).__name__)
